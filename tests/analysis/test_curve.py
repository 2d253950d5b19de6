"""Effects that bend: the curve is found, taken out and put back, and CausalMix-A stops where it turns."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
from scipy.optimize import minimize

from analysis.coordinates import make_coordinates, move_share, tabulate_moves
from analysis.estimators.curve import Curve, fit_curve, remove_state
from analysis.estimators.fit import fit_effects, predict_out_of_fold
from analysis.estimators.nuisances import residualise
from analysis.policies.box_rule import divergence
from analysis.policies.causalmix_a import propose_a
from analysis.policies.propose import propose
from analysis.roles import assign_roles
from analysis.simulate.world import draw_table, make_world
from causalmix.config import DialsConfig, EstimatorConfig, NuisanceConfig, OutcomeConfig, PolicyConfig
from causalmix.errors import AnalysisError
from tests.analysis.problems import KnownEffects, draw_problem
from tests.analysis.test_policies import make_target

LINEAR = EstimatorConfig(
    name="linear_dml", kind="linear_dml", curvature=True, per_outcome=False, nuisance=NuisanceConfig(outcome="ridge")
)


def deal(cfg=LINEAR, **dials):
    world = make_world(DialsConfig(**dials), 0)
    return world, assign_roles(draw_table(world, 0), "signal", cfg, OutcomeConfig())


def make_curve(sizes, centre=-1.6):
    n = len(sizes)
    line = np.zeros((n + 1, n))
    return Curve(
        make_coordinates("log", n), np.full(n, centre), line, np.atleast_2d(sizes), np.zeros((n, n)), np.ones(1)
    )


@pytest.mark.parametrize(("confounding", "kind"), [(0.0, "none"), (1.0, "linear")])
def test_the_curve_of_a_bent_world_is_found(confounding, kind):
    world, roles = deal(curvature=0.5, confounding=confounding, heterogeneity=kind, n_runs=400)
    curve = fit_curve(roles, residualise(roles, LINEAR.nuisance, 0), LINEAR, 0)
    error = curve.mean_sizes + world.curvature / 2
    assert np.abs(error).max() < 0.25  # of 1 where there is curvature
    assert np.abs(error).max() < 3.5 * np.sqrt(np.diag(curve.covariance)).max()


def test_without_curvature_the_curve_is_next_to_nothing_and_so_is_what_it_moves():
    _, roles = deal(n_runs=200)
    with_curve = fit_effects(roles, LINEAR, 0)
    without = fit_effects(roles, dataclasses.replace(LINEAR, curvature=False), 0)
    x, (mixture, reference) = roles.X[0], roles.mixtures[:2]
    assert with_curve.effects.curve is not None
    assert without.effects.curve is None
    curve = with_curve.effects.curve
    assert np.abs(curve.sizes).max() < 0.02  # points per squared log share; of .5 to 1 where there is curvature
    assert np.all(np.abs(curve.sizes) < 2 * np.sqrt(np.diag(curve.covariance)))
    assert np.allclose(with_curve.effects.thetas(roles.X), without.effects.thetas(roles.X), atol=0.02)
    gain, plain = (each.effects.gain(x, mixture, reference) for each in (with_curve, without))
    assert gain[0] == pytest.approx(plain[0], abs=np.sqrt(gain[1]) / 2)


def test_where_mixtures_hardly_differ_a_parabola_is_no_larger_than_an_effect():
    """Runs cannot say so: their squares hardly differ either."""
    for seed in (100, 106):
        world = make_world(DialsConfig(n_runs=128, concentration_min=10.0, concentration_max=20.0), seed)
        cfg = dataclasses.replace(LINEAR, kind="varying_coefficient_gp", curvature=True)
        roles = assign_roles(draw_table(world, seed), "signal", cfg, OutcomeConfig())
        curve = fit_effects(roles, cfg, seed).effects.curve
        size = np.sqrt(np.mean(world.theta(roles.X) ** 2))
        assert np.sqrt(curve.covariance.diagonal().max()) < size


def test_gains_predictions_and_slopes_are_of_one_surface():
    _, roles = deal(curvature=1.0, n_runs=200)
    effects = fit_effects(roles, LINEAR, 0).effects
    x, (mixture, reference) = roles.X[0], roles.mixtures[:2]
    low, high = effects.predict(x, np.stack([reference, mixture]))
    assert effects.gain(x, mixture, reference)[0] == pytest.approx(high - low)
    assert effects.gain(x, mixture, reference)[1] > effects.effects.gain(x, mixture, reference)[1]
    step = np.exp(np.log(mixture) + 1e-6 * np.eye(5))
    slopes = (effects.predict(x, step) - effects.predict(x, mixture[None])) / 1e-6
    assert np.allclose(slopes, effects.theta(x) + effects.curve.slope(mixture), atol=1e-4)


def test_theta_stays_the_slope_over_the_runs():
    world, roles = deal(curvature=1.0, n_runs=1500, noise=0.3, heterogeneity="none")
    effects = fit_effects(roles, LINEAR, 0).effects
    assert np.abs(effects.theta(np.zeros(3)) - world.slopes(np.zeros((1, 3)))[0]).max() < 0.15


def test_held_out_runs_are_predicted_better_with_the_curve():
    _, roles = deal(curvature=1.0, n_runs=300)
    residuals = residualise(roles, LINEAR.nuisance, 0)
    losses = [
        np.var(residuals.outcomes[:, 0] - predict_out_of_fold(roles, residuals, cfg, 0))
        for cfg in (LINEAR, dataclasses.replace(LINEAR, curvature=False))
    ]
    assert losses[0] < 0.8 * losses[1]


def test_held_out_curves_are_less_what_the_state_says_of_them():
    """As the outcome's residuals are, where mixtures follow the state: else what is left holds the parabolas' mean."""
    for seed in (2, 3):
        dials = DialsConfig(n_runs=300, confounding=1.5, curvature=1.5, strength=0.5, noise=0.5, knows_design=False)
        cfg = dataclasses.replace(LINEAR, nuisance=NuisanceConfig())
        roles = assign_roles(draw_table(make_world(dials, seed), seed), "signal", cfg, OutcomeConfig())
        residuals = residualise(roles, cfg.nuisance, seed)
        found = predict_out_of_fold(roles, residuals, cfg, seed)
        curve = fit_curve(roles, residuals, cfg, seed)
        bends = curve.expand(roles.mixtures)
        mean = (bends - remove_state(roles, bends)) @ curve.mean_sizes
        y = residuals.outcomes @ roles.outcome_weights
        assert np.mean((y - found) ** 2) < np.mean((y - found - mean) ** 2)


def test_a_move_is_read_off_the_curve_too():
    _, roles = deal(n_runs=200, curvature=1.0)
    effects, x, even = fit_effects(roles, LINEAR, 0).effects, roles.X[0], np.full(5, 0.2)
    table = tabulate_moves(partial(effects.predict, x), even, 0.05)
    moved = even + 0.05 * (np.eye(5)[3] - np.eye(5)[1])
    assert table[1, 3] == pytest.approx(effects.gain(x, moved, even)[0])
    assert abs(table[1, 3] - move_share(effects.theta(x), even, 1, 3, 0.05)) > 0.01


def test_coordinates_without_a_level_are_refused():
    cfg = dataclasses.replace(LINEAR, coordinates="ilr")
    _, roles = deal(cfg, n_runs=100)
    with pytest.raises(AnalysisError, match=r"curvature=true with estimator.coordinates=ilr.*coordinates=log"):
        fit_effects(roles, cfg, 0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("region", ["box", "kl"])
def test_the_answer_on_a_concave_curve_is_that_of_a_solver(seed, region):
    rng, theta, q, box = draw_problem(seed, 4)
    effects = KnownEffects(theta)
    effects.curve = make_curve(-rng.uniform(0.0, np.abs(theta).max(), 4))
    cfg = PolicyConfig(name="a", kind="causalmix_a", region=region, rho=0.3)

    def value(T):
        return theta @ np.log(T) + effects.curve.value(np.asarray(T)[None])[0]

    answer = propose_a(effects, None, make_target(q, box), cfg).weights
    assert box.contains(answer, 1e-8)
    limits = [{"type": "eq", "fun": lambda T: T.sum() - 1}]
    if region == "kl":
        assert divergence(q, answer) <= 0.3 + 1e-8
        limits.append({"type": "ineq", "fun": lambda T: 0.3 - divergence(q, T)})
    bounds = list(zip(np.maximum(box.floor, 1e-6), box.cap))
    found = minimize(lambda T: -value(T), q, bounds=bounds, constraints=limits, method="SLSQP", options={"ftol": 1e-12})
    assert value(answer) >= value(found.x) - 1e-5 * (1.0 + abs(value(found.x)))


def test_a_domain_that_saturates_gets_no_more_than_its_best_share():
    effects = KnownEffects([1.0, 1.0, 1.0])
    straight = propose(effects, None, make_target(np.full(3, 1 / 3)), PolicyConfig(name="a", kind="causalmix_a"))
    effects.curve = make_curve([-2.0, 0.0, 0.0], centre=np.log(0.2))
    bent = propose(effects, None, make_target(np.full(3, 1 / 3)), PolicyConfig(name="a", kind="causalmix_a"))
    assert np.allclose(straight.weights, 1 / 3, atol=1e-6)
    assert 0.2 < bent.weights[0] < 0.3
    assert bent.weights[1] == pytest.approx(bent.weights[2], abs=1e-3)


def test_a_curve_can_point_up_where_no_slope_does():
    effects = KnownEffects([-1.0, -1.0])
    effects.curve = make_curve([-1.0, 0.0], centre=0.0)
    answer = propose_a(effects, None, make_target([0.5, 0.5]), PolicyConfig(name="a", kind="causalmix_a", region="box"))
    before, after = ([0.5, 0.5], answer.weights)
    assert (
        -np.log(after).sum() + effects.curve.value(after[None])[0]
        >= -np.log(before).sum() + (effects.curve.value(np.array([before]))[0])
    )
