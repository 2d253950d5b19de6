from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom

from analysis.app import analyse_table
from analysis.checks import identification
from analysis.checks.check import FAILED, PASSED, SKIPPED, WARNING
from analysis.checks.refits import Refitter, make_refitter
from analysis.checks.refutation import (
    NegativeControl,
    Placebo,
    RandomCause,
    find_binomial_range,
)
from analysis.estimators.effects import Effects
from tests.analysis.judging import gather, judge, set_outcomes
from tests.analysis.synthetic import DOMAINS, make_config, make_frame, make_runs


class Overconfident(Effects):
    """Another fit's effects with standard errors that are too small."""

    def __init__(self, inner, by=3.0):
        super().__init__(inner.domains, inner.x_names)
        self.inner, self.by = inner, by

    def thetas(self, X):
        return self.inner.thetas(X)

    def covariances(self, X):
        return self.inner.covariances(X) / self.by**2


def confound(frame, by):
    """Tilt the mixtures (n, K) by a hidden cause (n,), which is not in the state, and forget the design."""
    frame = frame.drop(columns=[name for name in frame if name.startswith("design.")])
    T = frame[[f"mixture.{d}" for d in DOMAINS]].to_numpy().copy()
    T[:, 0] *= np.exp(by)
    frame[[f"mixture.{d}" for d in DOMAINS]] = T / T.sum(axis=1, keepdims=True)
    return frame


def test_placebo_passes_on_a_sound_fit_and_says_its_error():
    result = judge(Placebo, make_frame(160), make_config(n_placebo=None))
    assert result.status == PASSED
    assert "of 811 shuffles" in result.message
    assert "29 to 53 by chance (Monte-Carlo error 0.8%)" in result.message
    assert 0.03 < result.value < 0.07


def test_placebo_warns_where_intervals_are_too_narrow(monkeypatch):
    evidence = gather(make_frame(120), make_config(n_placebo=100))
    assert Placebo().run(evidence).status == PASSED
    honest = Refitter.fit
    monkeypatch.setattr(Refitter, "fit", lambda self, rows=None: Overconfident(honest(self, rows)))
    result = Placebo().run(evidence)
    assert result.status == WARNING
    assert result.message.startswith("Too many false alarms: ")
    assert 0.3 < result.value < 0.7  # 2 Phi(-1.96 / 3) is 51%
    assert "Read the intervals as narrower than they should be" in result.action


def test_placebo_of_a_forest_is_short_and_may_be_longer_or_left_out():
    frame = make_frame(45)
    assert "of 24 shuffles" in judge(Placebo, frame, make_config("causal_forest", n_placebo=None)).message
    assert "of 3 shuffles" in judge(Placebo, frame, make_config("causal_forest", n_placebo=3)).message
    assert judge(Placebo, frame, make_config(n_placebo=0)).status == SKIPPED


def test_the_binomial_range_of_811():
    assert find_binomial_range(811, 0.05) == (29, 53)
    assert binom.cdf(53, 811, 0.05) >= 0.975 > binom.cdf(52, 811, 0.05)


@pytest.mark.parametrize("estimator", ["linear_dml", "no_covariates", "no_orthogonalisation"])
def test_every_family_can_be_shuffled(estimator):
    result = judge(Placebo, make_frame(60), make_config(estimator, n_placebo=4))
    assert "of 4 shuffles" in result.message


def test_a_shuffle_leaves_no_effect():
    evidence = gather(make_frame(200))
    refitter = make_refitter(evidence)
    order = np.random.default_rng(0).permutation(200)
    x = evidence.target.x
    assert np.abs(refitter.fit().theta(x)).max() > 0.5
    shuffled = refitter.permute(order)
    assert np.array_equal(shuffled.roles.Z, refitter.roles.Z[order])
    assert np.array_equal(shuffled.residuals.outcomes, refitter.residuals.outcomes)
    errors = np.sqrt(np.diag(shuffled.fit().covariance(x)))
    assert (np.abs(shuffled.fit().theta(x)) / errors).max() < 4


def test_a_control_that_knows_nothing_of_the_mixture_passes():
    frame = make_frame(120)
    frame["control.avg_dev"] = 30 + frame["state.hes"] + np.random.default_rng(0).normal(size=120)
    result = judge(NegativeControl, frame)
    assert result.status == PASSED
    assert "no more than chance" in result.message


def test_a_control_that_the_mixture_predicts_fails_and_blocks_advice():
    frame = make_frame(120)
    frame["control.avg_dev"] = 30 + 2 * np.log(frame["mixture.code"])
    frame["control.other"] = np.random.default_rng(0).normal(size=120)
    result = judge(NegativeControl, frame)
    assert result.status == FAILED
    assert result.must
    assert "the residual mixture explains control.avg_dev, control.other" in result.message
    assert "p = 0.0005" in result.message
    analysis = analyse_table(make_config(), make_runs(frame))[0]
    assert analysis.advice == "withheld"
    assert analysis.reason.startswith("[CM012]")
    allowed = analyse_table(make_config(allow_failed_checks=["CM012"]), make_runs(frame))[0]
    assert allowed.overruled == ("CM012",)
    assert allowed.to_json()["allowed_failed_checks"] == ["CM012"]


def test_a_hidden_cause_shows_in_the_control():
    """What moved both the mixture and the score before training is not in the state: the control tells."""
    hidden = np.random.default_rng(3).normal(size=200)
    frame = confound(make_frame(200), hidden)
    frame["control.base"] = 30 + hidden + np.random.default_rng(4).normal(0, 0.5, 200)
    assert judge(NegativeControl, frame).status == FAILED


@pytest.mark.parametrize("values", [None, 30.0, "few"])
def test_no_control_is_not_applicable(values):
    frame = make_frame(60)
    if values == "few":
        frame["control.base"] = [*range(10), *([np.nan] * 50)]
    elif values is not None:
        frame["control.base"] = values
    result = judge(NegativeControl, frame)
    assert result.status == SKIPPED
    assert "control." in result.message


def test_noise_in_w_moves_nothing_on_a_sound_fit():
    result = judge(RandomCause, make_frame(160))
    assert result.message.startswith("Noise moves ")  # never a domain, spelt with a capital
    assert result.status == PASSED
    assert 0 < result.value < 1
    again = judge(RandomCause, make_frame(160))
    assert again == result


def test_effects_that_hang_on_noise_are_told():
    """A nuisance that follows noise: standard errors of next to nothing, shifts that are not."""
    evidence = gather(make_frame(60, noise=2.0))
    proud = Overconfident(evidence.fitted.effects, by=30.0)
    result = RandomCause().run(
        dataclasses.replace(evidence, fitted=dataclasses.replace(evidence.fitted, effects=proud))
    )
    assert result.status == WARNING
    assert result.message.startswith("Noise moves the effects")


@pytest.mark.slow
def test_placebo_warns_on_few_null_tables():
    """Tables without any effect: the check warns about as rarely as its 97.5% limit says."""
    n_tables, warned = 40, 0
    for seed in range(n_tables):
        frame = make_frame(120, seed=seed)
        frame = set_outcomes(frame, np.random.default_rng([seed, 1]).normal(size=120))
        warned += judge(Placebo, frame, make_config(n_placebo=200)).status == WARNING
    # 2.5% a table if the intervals are exact; HC3 may be off by half a point either way.
    assert warned <= binom.ppf(0.999, n_tables, 0.05)


@pytest.mark.slow
def test_negative_controls_raise_few_false_alarms():
    n_tables, warned, failed = 50, 0, 0
    for seed in range(n_tables):
        frame = make_frame(80, seed=seed)
        frame["control.base"] = frame["state.hes"] + np.random.default_rng([seed, 2]).normal(size=80)
        status = judge(NegativeControl, frame).status
        warned, failed = warned + (status == WARNING), failed + (status == FAILED)
    assert failed == 0
    assert warned <= binom.ppf(0.999, n_tables, 0.05)


def test_the_dependence_test_keeps_its_level():
    """The p-value behind the bad-control and negative-control checks is uniform where nothing depends on anything."""
    n_tables = 80
    rng = np.random.default_rng(7)
    values = []
    for seed in range(n_tables):
        X, T = rng.standard_t(3, size=(50, 3)), rng.dirichlet(np.ones(5), 50)
        values.append(identification.test_dependence(X, np.hstack([T, np.log(T + 0.01)]), seed)[1])
    low, high = binom.ppf([0.0005, 0.9995], n_tables, 0.05)
    assert low <= np.sum(np.array(values) <= 0.05) <= high
    assert 0.35 < np.mean(values) < 0.65
