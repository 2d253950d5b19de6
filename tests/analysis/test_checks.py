from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.answer import read_scatter
from analysis.app import analyse_table
from analysis.checks.check import FAILED, PASSED, SKIPPED, WARNING
from analysis.checks.identification import P_DESIGN, judge_design_mean
from analysis.checks.run import CHECKS
from causalmix.config import TargetConfig
from causalmix.errors import AnalysisError
from tests.analysis.synthetic import DOMAINS, FEATURES, draw_mixtures, make_config, make_frame, make_runs


def run(frame: pd.DataFrame, estimator: str = "own_state", **changes: object):
    analysis = analyse_table(make_config(estimator, **changes), make_runs(frame))[0]
    return {check.code: check for check in analysis.checks}, analysis


def leak(frame: pd.DataFrame, noise: float) -> pd.DataFrame:
    """Measure the state on the drawn mixture: its mean is weighted by T."""
    frame = frame.copy()
    rng = np.random.default_rng(0)
    T = frame[[f"mixture.{d}" for d in DOMAINS]].to_numpy()
    for feature in FEATURES:
        level = np.linspace(-1, 1, len(DOMAINS)) if feature != "hes" else np.linspace(1, -1, len(DOMAINS)) ** 2
        frame[f"state.{feature}"] = T @ level + rng.normal(0, noise, len(frame))
    return frame


def test_codes_are_unique_and_every_check_is_reported():
    codes = [check.code for check in CHECKS]
    assert len(set(codes)) == len(codes)
    checks, _ = run(make_frame(80))
    assert sorted(checks) == sorted(codes)
    assert all(check.message and check.title for check in checks.values())
    assert all(check.action for check in checks.values() if check.status in (FAILED, WARNING))


def test_a_sound_sweep_passes():
    checks, analysis = run(make_frame(240))
    assert {code for code, check in checks.items() if check.status == FAILED} == set()
    for code in ("CM001", "CM002", "CM003", "CM004", "CM005", "CM007", "CM008"):
        assert checks[code].status == PASSED, checks[code]
    assert "nothing to deconfound" in checks["CM003"].message
    assert any("nothing to deconfound, orthogonalisation only reduces variance" in n for n in analysis.notes)


@pytest.mark.parametrize("with_design", [True, False])
def test_a_constant_state_stops_the_analysis(with_design):
    frame = make_frame(120, with_design=with_design)
    for feature in FEATURES:
        frame[f"state.{feature}"] = 0.3
    with pytest.raises(AnalysisError, match=r"\[CM001\] X is constant: hes, .*allow_failed_checks=\[CM001\]"):
        run(frame, "causal_forest")
    checks, analysis = run(frame, "causal_forest", allow_failed_checks=["CM001"])
    assert checks["CM001"].status == FAILED
    assert any(note.startswith("Allowed although it failed: [CM001]") for note in analysis.notes)
    assert run(frame, "no_covariates")[0]["CM001"].status == SKIPPED


def test_one_constant_feature_is_left_out_and_named():
    frame = make_frame(120)
    frame["state.hes"] = 0.3
    checks, analysis = run(frame, "linear_dml")
    assert checks["CM001"].status == WARNING
    assert checks["CM001"].message.startswith("hes has one value in all runs")
    assert analysis.effects.x_names == ("normalized_loss", "writing_style")


def test_a_state_measured_on_the_mixture_stops_a_randomised_analysis():
    with pytest.raises(AnalysisError, match=r"\[CM002\] X looks measured on the mixture.*p = 0\.0005"):
        run(leak(make_frame(120), noise=0.3), "causal_forest")
    checks, _ = run(leak(make_frame(120), noise=0.3), "linear_dml", allow_failed_checks=["CM002"])
    assert checks["CM002"].status == FAILED


def test_elsewhere_the_out_of_sample_r2_decides():
    frame = make_frame(160, with_design=False)
    assert run(frame, "linear_dml")[0]["CM002"].status == PASSED
    assert run(leak(frame, noise=0.2), "linear_dml")[0]["CM002"].status == WARNING
    with pytest.raises(AnalysisError, match=r"X looks measured on the mixture.*out-of-sample R2 of 0\.9"):
        run(leak(frame, noise=0.02), "linear_dml")


def test_false_alarms_are_rare():
    alarms = 0
    for seed in range(20):
        frame = make_frame(60, seed=seed)
        checks, _ = run(frame, allow_failed_checks=["CM002"])
        alarms += checks["CM002"].status != PASSED
    assert alarms == 0


def test_a_target_outside_the_support_is_told_and_gets_no_advice_far_out():
    frame = make_frame(160)
    names = [f"{f}.{d}" for f in FEATURES for d in DOMAINS]
    near = TargetConfig(state=dict.fromkeys(names, 0.0) | {"hes.math": 2.0})
    checks, _ = run(frame, target=near)
    assert checks["CM005"].status == WARNING
    assert "outside the range of the runs: hes.math" in checks["CM005"].message
    far = TargetConfig(state=dict.fromkeys(names, 0.0) | {"hes.math": 40.0})
    checks, analysis = run(frame, target=far)
    assert checks["CM005"].status == FAILED
    assert analysis.advice == "withheld"
    assert analysis.reason.startswith("[CM005] Outside the support")
    assert np.array_equal(analysis.weights, analysis.target.reference)
    allowed = run(frame, target=far, allow_failed_checks=["CM005"])[1]
    assert not allowed.reason.startswith("[CM005]")


def test_a_target_that_breaks_what_holds_in_all_runs_gets_no_advice():
    frame = make_frame(80)
    frame["state.again"] = 3.0 * frame["state.hes"] - frame["state.writing_style"]
    state = {"hes": 0.1, "normalized_loss": 0.0, "writing_style": 0.1, "again": 0.2}
    checks, _ = run(frame, "constant_dml", target=TargetConfig(state=state))
    assert checks["CM005"].status == PASSED
    checks, _ = run(frame, "constant_dml", target=TargetConfig(state=state | {"again": 0.201}))  # rounded by hand
    assert checks["CM005"].status == PASSED
    checks, analysis = run(frame, "constant_dml", target=TargetConfig(state=state | {"again": -0.2}))
    assert checks["CM005"].status == FAILED
    assert "breaks a relation of again, hes, writing_style that holds exactly in all 80 runs" in checks["CM005"].message
    assert analysis.advice == "withheld"
    assert analysis.to_json()["support"]["unrelated"] == ["again", "hes", "writing_style"]


def test_as_few_runs_as_features_tell_no_relation():
    X = np.random.default_rng(0).normal(size=(20, 30))
    assert not read_scatter(X)[1].any()
    centred = X - X.mean(axis=0)
    assert np.allclose(np.einsum("nd,de,ne->n", centred, read_scatter(X)[0], centred), (20 - 1) ** 2 / 20)


def test_few_runs_are_told_for_the_forest():
    checks, _ = run(make_frame(60), "causal_forest")
    assert checks["CM006"].status == WARNING
    assert "62/42/8/4% of targets at n=32/64/128/256" in checks["CM006"].message


def test_noise_without_effects_is_told():
    frame = make_frame(160)
    rng = np.random.default_rng(5)
    for column in [c for c in frame if c.startswith("outcome.") and c != "outcome.avg_dev"]:
        frame[column] = 50 + rng.normal(size=len(frame))
    frame["outcome.avg_dev"] = frame[[c for c in frame if c.startswith("outcome.") and "avg" not in c]].mean(axis=1)
    checks, analysis = run(frame)
    assert checks["CM007"].status == WARNING
    assert checks["CM008"].status == WARNING
    assert analysis.advice == "withheld"
    assert analysis.candidate.weights.sum() == pytest.approx(1.0)


def test_replicates_give_the_seed_noise():
    frame = make_frame(100, noise=0.1)
    again = frame.iloc[:4].copy()
    again["run_id"] = ["s0", "s1", "s2", "s3"]
    again["cohort"] = "replicate"
    again["outcome.math"] += np.array([0.6, -0.6, 0.6, -0.6])
    again["outcome.avg_dev"] += np.array([0.1, -0.1, 0.1, -0.1])
    checks, analysis = run(pd.concat([frame, again]))
    # Pairs 0.1 apart: sd = 0.1 / sqrt(2).
    assert "over seeds 0.071" in checks["CM009"].message
    assert checks["CM009"].status == PASSED
    assert analysis.n_runs == 100
    assert run(frame)[0]["CM009"].status == SKIPPED


def test_means_of_another_design_are_told():
    frame = make_frame(160)
    assert run(frame)[0]["CM003"].status == PASSED
    for changed in (
        frame.assign(**{f"design.mean_log.{DOMAINS[0]}": frame[f"design.mean_log.{DOMAINS[0]}"] + 0.5}),
        frame[frame[f"mixture.{DOMAINS[0]}"] < 0.3],  # runs that were lost by their mixture
    ):
        check = run(changed)[0]["CM003"]
        assert check.status == WARNING
        assert "design.mean_log.* say" in check.message


def test_the_design_s_own_mean_is_seldom_doubted():
    rng = np.random.default_rng(0)
    truth = np.log(draw_mixtures(rng, 200_000, 5)).mean(axis=0)
    p = np.array([judge_design_mean(np.log(draw_mixtures(rng, 160, 5)), np.tile(truth, (160, 1))) for _ in range(2000)])
    assert 0.03 < np.mean(p < 0.05) < 0.08
    assert np.mean(p < P_DESIGN) < 0.002
    assert judge_design_mean(np.zeros((8, 5)), np.ones((8, 5))) == 1.0


def test_weak_overlap_is_told():
    frame = make_frame(200, with_design=False)
    # The state names the first log share almost exactly, the others not at all.
    frame["state.hes"] = np.log(frame["mixture.code"]) + np.random.default_rng(0).normal(0, 0.05, 200)
    checks, _ = run(frame, "linear_dml", allow_failed_checks=["CM002"])
    assert checks["CM003"].status == WARNING
    assert checks["CM004"].status == WARNING
    assert checks["CM004"].value < 0.1
