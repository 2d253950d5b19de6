from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.checks.check import FAILED, PASSED, SKIPPED
from analysis.checks.contrasts import EffectsSumToZero, estimate_omitted
from analysis.extrapolate import answer_target
from analysis.fitted import fit_table
from analysis.simulate.world import draw_table, make_world
from causalmix.config import AnalysisConfig, DialsConfig, EstimatorConfig, NuisanceConfig, PolicyConfig, TargetConfig
from tests.analysis.judging import gather, set_outcomes
from tests.analysis.synthetic import DOMAINS, World, make_config, make_frame

EQUAL = np.full(5, 0.2)
BALANCED = np.array([1.5, -0.5, -1.0, 0.8, -0.8])  # effects that sum to zero


def draw(effects: np.ndarray, n: int, seed: int, slope: float = 0.0, **options):
    """A table whose effects are ``effects``, and in the state a slope of each sign."""
    world = World(effects, np.array([slope, -slope, 0.0]))
    return make_frame(n, world=world, seed=seed, **options)


def judge(frame, coordinates: str, estimator: str = "no_covariates"):
    cfg = make_config(estimator)
    cfg.estimator.coordinates = coordinates
    return EffectsSumToZero().run(gather(frame, cfg, EQUAL))


def linear_in_shares(n: int, seed: int):
    frame = draw(BALANCED, n, seed)
    T = frame[[f"mixture.{d}" for d in DOMAINS]].to_numpy()
    return set_outcomes(frame, 50 + 4 * T @ BALANCED + np.random.default_rng(seed).normal(0, 0.5, n))


def test_effects_that_do_not_sum_to_zero_are_caught():
    """Constant effects around 1: the gain of contrasts is far off, and none is advised."""
    caught, advised_worse = 0, 0
    for seed in range(12):
        world = make_world(DialsConfig(n_runs=256, heterogeneity="none"), seed)
        cfg = AnalysisConfig(
            estimator=EstimatorConfig(
                name="constant_dml", kind="constant_dml", coordinates="ilr", nuisance=NuisanceConfig(outcome="ridge")
            ),
            policy=PolicyConfig(name="a", kind="causalmix_a"),
            runs="x",
            target=TargetConfig(),
            n_refits=0,
            n_placebo=0,
            baselines=[],
        )
        answer = answer_target(fit_table(cfg, draw_table(world, seed)), progress=False)
        check = next(check for check in answer.checks if check.code == "CM020")
        if check.status == FAILED:
            caught += 1
            assert answer.advice == "withheld"
            assert check.message.startswith(
                "estimator.coordinates=ilr takes it for zero, but effects of log shares sum"
            )
        own = np.zeros((1, 3))
        found = world.outcome(own, answer.candidate.weights[None]) - world.outcome(own, answer.target.reference[None])
        advised_worse += answer.advice == "given" and found[0] < 0
    assert caught >= 11
    assert advised_worse == 0


@pytest.mark.parametrize(
    ("coordinates", "make"),
    [
        ("ilr", lambda seed: draw(BALANCED, 60, seed)),
        ("alr", lambda seed: draw(BALANCED, 40, seed, with_design=False)),
        ("ilr", lambda seed: draw(BALANCED, 60, seed, slope=1.0)),
        ("tangent", lambda seed: linear_in_shares(60, seed)),
    ],
    ids=["ilr", "alr without a known design", "effects that move with the state", "linear in shares"],
)
def test_effects_that_sum_to_zero_pass(coordinates, make):
    results = [judge(make(seed), coordinates) for seed in range(120)]
    n_failed = sum(result.status == FAILED for result in results)
    assert {result.status for result in results} == {FAILED, PASSED}
    assert 1 <= n_failed <= 13  # 6 of 120 expected, sd 2.4
    values = np.array([result.value for result in results])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))


@pytest.mark.parametrize("coordinates", ["ilr", "alr"])
def test_the_value_is_the_sum_of_the_effects(coordinates):
    result = judge(draw(BALANCED + 1.0, 400, 3, noise=0.1), coordinates)
    assert result.status == FAILED
    assert result.value == pytest.approx(5.0, abs=0.8)
    assert "estimator.coordinates=log" in result.action


def test_effects_of_logs_are_not_linear_in_shares():
    results = [judge(draw(BALANCED + 1.0, 100, seed), "tangent") for seed in range(20)]
    assert sum(result.status == FAILED for result in results) >= 19


def test_coordinates_with_the_level_and_shares_of_zero_are_not_asked():
    frame = draw(BALANCED, 60, 0)
    for name in ("log", "ilr_even"):
        result = judge(frame, name)
        assert result.status == SKIPPED
        assert f"estimator.coordinates={name} holds all log shares" in result.message
    cfg = make_config("no_covariates")
    cfg.estimator.coordinates = "tangent"
    evidence = gather(frame, cfg, EQUAL)
    mixtures = evidence.roles.mixtures.copy()
    mixtures[0] = [0.0, 0.25, 0.25, 0.25, 0.25]
    dropped = dataclasses.replace(evidence, roles=dataclasses.replace(evidence.roles, mixtures=mixtures))
    assert "A run left a domain out" in EffectsSumToZero().run(dropped).message
    assert "Nothing was predicted" in EffectsSumToZero().run(dataclasses.replace(evidence, predicted=None)).message


def test_what_contrasts_leave_is_least_squares_with_hc3():
    rng = np.random.default_rng(0)
    Z, level, folds = rng.normal(size=(50, 3)), rng.normal(size=50), np.arange(50) % 5
    left = 0.3 + 0.7 * level + rng.normal(size=50)
    apart = level.copy()
    for fold in range(5):
        kept, out = folds != fold, folds == fold
        apart[out] -= Z[out] @ np.linalg.solve(Z[kept].T @ Z[kept], Z[kept].T @ level[kept])
    design = np.column_stack([np.ones(50), Z, apart])
    bread = np.linalg.inv(design.T @ design)
    slopes = bread @ design.T @ left
    scaled = (left - design @ slopes) / (1 - np.einsum("ni,ij,nj->n", design, bread, design))
    error = np.sqrt((bread @ (design * scaled[:, None] ** 2).T @ design @ bread)[-1, -1])
    assert estimate_omitted(left, level, Z, folds) == pytest.approx((slopes[-1], error, 45))
    assert estimate_omitted(left, Z @ [1.0, 2.0, 3.0], Z, folds) is None
    assert estimate_omitted(left[:5], level[:5], Z[:5], folds[:5]) is None


def test_the_sum_is_right_with_few_runs():
    """Runs far out leave more of the outcome out of fold, and as much more of the level."""
    values = [judge(draw(BALANCED + 1.0, 60, seed, noise=0.1), "ilr").value for seed in range(40)]
    assert np.mean(values) == pytest.approx(5.0, abs=0.25)
