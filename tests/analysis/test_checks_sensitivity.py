from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.checks.check import PASSED, SKIPPED, WARNING
from analysis.checks.refits import find_contrast
from analysis.checks.sensitivity import (
    RunPlan,
    UnobservedConfounding,
    benchmark_state,
    measure_robustness,
    plan_runs,
)
from causalmix.config import TargetConfig
from tests.analysis.judging import gather, judge, set_outcomes
from tests.analysis.synthetic import DOMAINS, FEATURES, make_config, make_frame

NAMES = [f"{f}.{d}" for f in FEATURES for d in DOMAINS]


def aim(**changes):
    state = dict.fromkeys(NAMES, 0.0) | {"hes.code": 0.8, "hes.math": -0.8}
    return make_config(target=TargetConfig(state=state, reference="equal"), **changes)


def test_a_clear_gain_has_runs_enough():
    result = judge(RunPlan, make_frame(160), aim())
    assert result.status == PASSED
    assert "half the interval takes about 640" in result.message
    assert "no replicates" in result.message


def test_an_unclear_gain_says_how_many_runs_it_takes():
    result = judge(RunPlan, make_frame(60, noise=3.0), aim())
    assert result.status == WARNING
    assert "runs would put its lower bound above zero (80% of the time, if it is right)" in result.message
    assert result.value > 60
    assert result.action.startswith(f"Run {result.value - 60:.0f} more points")


def test_the_plan_is_what_a_power_calculation_gives():
    n = plan_runs(100, gain=1.0, error=1.0, z=1.959964)
    assert n == math.ceil(100 * (1.959964 + 0.841621) ** 2)
    assert plan_runs(100, gain=1.0, error=0.1, z=1.96) == 101
    rng = np.random.default_rng(0)
    means = rng.normal(1.0, 10.0 / math.sqrt(n), 20_000)  # error 1 at n = 100
    assert np.mean(means - 1.959964 * 10 / math.sqrt(n) > 0) == pytest.approx(0.8, abs=0.01)


def test_replicates_say_what_more_seeds_are_worth():
    frame = make_frame(100, noise=0.5)
    again = frame.iloc[:20].copy()
    again["run_id"] = [f"s{i}" for i in range(20)]
    again["cohort"] = "replicate"
    noise = np.random.default_rng(1).normal(0, 0.5, 20)
    again[[c for c in again if c.startswith("outcome.")]] += noise[:, None]
    message = judge(RunPlan, pd.concat([frame, again]), aim()).message
    assert "of the variance that the fit leaves: training each mixture twice is worth 1." in message
    assert message.endswith("new mixtures are worth 2.")


def test_the_reference_itself_has_no_plan():
    frame = make_frame(60)
    evidence = gather(frame, make_config())
    same = dataclasses.replace(evidence, candidate=evidence.target.reference)
    assert RunPlan().run(same).status == SKIPPED
    assert UnobservedConfounding().run(same).status != SKIPPED  # it then speaks of the run farthest from it


def test_published_robustness_values():
    """Cinelli and Hazlett (2020), their study of Darfur: t = 4.18 with 783 degrees of freedom."""
    assert measure_robustness(4.18445, 783) == pytest.approx(0.13878, abs=2e-5)
    assert measure_robustness(4.18445, 783, alpha=0.05) == pytest.approx(0.07626, abs=2e-5)


@given(st.floats(-50, 50), st.integers(10, 2000))
def test_robustness_grows_with_t_and_lies_between_zero_and_one(t, df):
    value, careful = measure_robustness(t, df), measure_robustness(t, df, 0.05)
    assert 0 <= careful <= value + 1e-12 < 1 + 1e-12
    assert measure_robustness(1.1 * t, df) >= value - 1e-12
    assert measure_robustness(-t, df) == value


def test_a_confounder_of_that_strength_does_undo_a_regression():
    """Build the confounder: equally strong in treatment and outcome residuals, it takes the coefficient to zero."""
    rng = np.random.default_rng(0)
    n, t_wanted = 400, 3.0
    D = rng.normal(size=n)
    D -= D.mean()
    noise = rng.normal(size=n)
    noise -= noise.mean() + D * (noise @ D) / (D @ D)
    df = n - 2
    y = D * t_wanted * math.sqrt((noise @ noise) / df / (D @ D)) + noise
    value = measure_robustness(t_wanted, df)
    d, e = D / np.linalg.norm(D), noise / np.linalg.norm(noise)
    third = rng.normal(size=n)
    for other in (np.ones(n) / math.sqrt(n), d, e):
        third -= other * (third @ other)
    third /= np.linalg.norm(third)
    # Share `value` of d, and of e once d is known; the rest is its own.
    a, b = math.sqrt(value), math.sqrt(value * (1 - value))
    hidden = a * d + b * e + math.sqrt(1 - a**2 - b**2) * third
    design = np.column_stack([np.ones(n), D, hidden])
    coefficient = np.linalg.lstsq(design, y, rcond=None)[0][1]
    assert coefficient == pytest.approx(0.0, abs=1e-10)


def test_a_randomised_sweep_passes_and_names_its_bound():
    result = judge(UnobservedConfounding, make_frame(160), aim())
    assert result.status == PASSED
    assert result.message.startswith("T was drawn at random, so none is expected")
    assert "by domain: code" in result.message


def observe(pull: float):
    """Mixtures that follow the state, which moves the outcome by ``pull``."""
    frame = make_frame(160, with_design=False, seed=3)
    state = frame["state.hes"].to_numpy()
    T = frame[[f"mixture.{d}" for d in DOMAINS]].to_numpy().copy()
    T[:, 0] *= np.exp(2 * state)
    T /= T.sum(axis=1, keepdims=True)
    frame[[f"mixture.{d}" for d in DOMAINS]] = T
    noise = np.random.default_rng(4).normal(0, 0.5, 160)
    return set_outcomes(frame, 50 + 0.4 * np.log(T[:, 0]) + pull * state + noise)


def test_an_observational_sweep_is_compared_with_its_state():
    cfg = make_config("linear_dml", target=TargetConfig(reference="equal"))
    candidate = np.array([0.4, 0.15, 0.15, 0.15, 0.15])
    weak = UnobservedConfounding().run(gather(observe(0.0), cfg, candidate))
    assert weak.status == PASSED
    assert "the strongest state feature, would move it by" in weak.message
    strong = UnobservedConfounding().run(gather(observe(8.0), cfg, candidate))
    assert strong.status == WARNING
    assert strong.message.startswith("A modest confounder would do")
    assert "one as strong as hes" in strong.message


def test_the_benchmark_is_the_bias_of_leaving_the_feature_out():
    """Least squares without the feature differs from that with it by what the formula says, up to its own fit."""
    evidence = gather(observe(8.0), make_config("linear_dml"), np.array([0.4, 0.15, 0.15, 0.15, 0.15]))
    roles, contrast = evidence.roles, find_contrast(evidence)
    Z, ones = np.log(roles.mixtures), np.ones((160, 1))
    d = np.log(contrast.mixture) - np.log(contrast.reference)
    j = roles.x_names.index("hes")

    def fit(X):
        design = np.hstack([Z, ones, X])
        beta = np.linalg.lstsq(design, roles.Y, rcond=None)[0]
        left = roles.Y - design @ beta
        df = 160 - design.shape[1]
        variance = (left @ left) / df * np.linalg.inv(design.T @ design)[:5, :5]
        return float(d @ beta[:5]), math.sqrt(d @ variance @ d), df

    long, short = fit(roles.X), fit(np.delete(roles.X, j, axis=1))
    name, bias = benchmark_state(roles, evidence.fitted.effects, contrast, short[1], short[2])
    assert name == "hes"
    assert bias == pytest.approx(abs(long[0] - short[0]), rel=0.1)
