from __future__ import annotations

import numpy as np
import pytest

from analysis.estimators.fit import fit_effects
from analysis.estimators.gp.evidence import cross_effects, fit_values, solve
from analysis.estimators.gp.kernel import SMOOTHNESS, Kernel, Points
from analysis.estimators.gp.search import list_parents, make_gram, search_steps, solve_steps
from analysis.estimators.gp.steps import nest_steps, propose_steps
from analysis.roles import assign_roles
from analysis.simulate.world import draw_table, make_world
from causalmix.config import DialsConfig, EstimatorConfig, OutcomeConfig
from causalmix.errors import AnalysisError
from tests.analysis.synthetic import DOMAINS, make_frame, make_runs


def make_points(n: int = 40, n_coordinates: int = 3, n_features: int = 2, *, own: bool = False, seed: int = 0):
    rng = np.random.default_rng(seed)
    width = n_coordinates * n_features if own else n_features
    points = Points(
        rng.normal(size=(n, width)), rng.normal(size=(n, n_coordinates)), rng.normal(size=(n, n_coordinates))
    )
    rows = np.arange(width).reshape(n_coordinates, n_features) if own else np.tile(np.arange(2), (n_coordinates, 1))
    return points, rows, rng.normal(size=n)


def fit_world(dials: DialsConfig, seed: int, **changes: object):
    world = make_world(dials, seed)
    cfg = EstimatorConfig(name="gp", kind="varying_coefficient_gp", per_outcome=False, **changes)
    roles = assign_roles(draw_table(world, seed), "signal", cfg, OutcomeConfig())
    return world, roles, fit_effects(roles, cfg, seed).effects


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("surface", [False, True])
@pytest.mark.parametrize("smoothness", SMOOTHNESS)
def test_the_gradient_of_the_evidence_is_its_derivative(own, surface, smoothness):
    points, columns, y = make_points(own=own)
    kernel = Kernel(columns, smoothness, surface)
    values = kernel.start() + 0.3 * np.random.default_rng(1).normal(size=kernel.size)

    def evidence(at):
        return solve(kernel.covariance(at, points), y[:, None], y).log_evidence

    def weigh(lower):
        solved = solve(lower + np.tril(lower, -1).T, y[:, None], y)
        return np.outer(solved.alpha[:, 0], solved.alpha[:, 0]) - solved.inverse

    gradient = 0.5 * kernel.differentiate(values, kernel.measure(points), weigh)
    numeric = [(evidence(values + 1e-5 * e) - evidence(values - 1e-5 * e)) / 2e-5 for e in np.eye(kernel.size)]
    assert np.allclose(gradient, numeric, atol=1e-6)


@pytest.mark.parametrize("own", [False, True])
def test_the_covariance_is_written_out_run_by_run(own):
    """The vectorised kernel against two nested loops over its definition."""
    points, columns, _ = make_points(n=6, own=own)
    kernel = Kernel(columns, "matern32", True)
    values = kernel.start()
    s = np.exp(2 * values[:5])
    lengths, lengths_g = np.exp(values[5:7]), np.exp(values[7:9])

    def matern(squares):
        return (1 + np.sqrt(3 * squares)) * np.exp(-np.sqrt(3 * squares))

    expected = np.zeros((6, 6))
    for i in range(6):
        for j in range(6):
            seen = range(3) if own else [0]
            g = sum(((points.X[i, columns[p]] - points.X[j, columns[p]]) / lengths_g) ** 2 for p in seen).sum()
            total = s[0] * matern(g) + s[4] * (i == j)
            for p in range(3):
                a, b = points.X[i, columns[p]], points.X[j, columns[p]]
                effect = s[1] + s[2] * (a @ b) / 2 + s[3] * matern((((a - b) / lengths) ** 2).sum())
                total += points.R[i, p] * points.R[j, p] * effect
            z = ((points.Z[i] - points.Z[j]) ** 2).sum() / np.exp(2 * values[-1])
            expected[i, j] = total + np.exp(2 * values[-2]) * matern(z)
    assert np.allclose(kernel.covariance(values, points), expected)
    own_variance, across = cross_effects(kernel, values, points, points.X[2])
    for p in range(3):
        assert np.allclose(across[:, p], kernel.effects(values, points.X, points.X[[2]], p)[:, 0] * points.R[:, p])
        assert np.isclose(own_variance[p], s[1] + s[2] * (points.X[2, columns[p]] ** 2).sum() / 2 + s[3])


def test_steps_are_scored_as_if_their_covariance_were_written_out():
    points, columns, y = make_points(n=60)
    kernel = Kernel(columns, "matern32", False)
    K = kernel.covariance(kernel.start(), points)
    solved = solve(K, y[:, None], y)
    steps = propose_steps(points.X, columns)
    expanded = steps.expand(points.X, points.R)
    gram = make_gram(expanded, solved, y)
    found = dict(search_steps(gram, 0.7, steps.n_simple))
    sizes = {1: found[(3,)], 2: found[(3, 30)]}
    flat = {
        size: solve(K + 0.7 * _cover(expanded, chosen), y[:, None], y).log_evidence
        for size, chosen in ((1, (3,)), (2, (3, 30)))
    }
    n = expanded.shape[1]
    assert sizes[1] - flat[1] == pytest.approx(np.log(0.5) + np.log(0.5) - np.log(n), abs=1e-6)
    assert sizes[2] - sizes[1] - (flat[2] - flat[1]) == pytest.approx(np.log(0.5) - np.log((n - 1) / 2), abs=1e-6)
    # The coefficients' posterior, by the weight-space formula and by the function-space one.
    model = solve_steps(gram, (3, 30), 0.7, 0.0)
    F = expanded[:, [3, 30]].reshape(len(y), -1)
    whole = np.linalg.inv(K + 1e-8 * np.eye(len(y)) + 0.7 * F @ F.T)
    assert np.allclose(model.mean[:, 0], 0.7 * F.T @ whole @ y)
    assert np.allclose(model.covariance, 0.7 * np.eye(F.shape[1]) - 0.49 * F.T @ whole @ F)


def _cover(expanded, chosen):
    F = expanded[:, list(chosen)].reshape(len(expanded), -1)
    return F @ F.T


def test_hyper_parameters_find_the_noise():
    points, columns, _ = make_points(n=200)
    kernel = Kernel(columns, "matern32", False)
    truth = kernel.start()
    truth[4] = np.log(0.1)
    rng = np.random.default_rng(0)
    y = np.linalg.cholesky(kernel.covariance(truth, points)) @ rng.normal(size=200)
    assert np.exp(fit_values(kernel, points, y, 60)[4]) == pytest.approx(0.1, rel=0.3)


def test_a_jump_is_found_where_it_is_and_none_where_there_is_none():
    _, _, jumping = fit_world(DialsConfig(n_runs=200, heterogeneity="tree", noise=0.3), 3)
    steps = jumping.step_weights()
    assert next(iter(steps)) != ()
    rules = [rule.split(" and ")[0] for chosen, weight in steps.items() if weight > 0.1 for rule in chosen]
    cuts = [float(rule.split()[-1]) for rule in rules if rule.startswith("x0")]
    assert cuts
    assert all(abs(cut - 0.25) < 0.35 for cut in cuts)
    _, _, flat = fit_world(DialsConfig(n_runs=200, heterogeneity="none", noise=0.3), 3)
    assert next(iter(flat.step_weights())) == ()


def test_a_gain_is_the_difference_of_what_is_predicted():
    _, roles, effects = fit_world(DialsConfig(n_runs=150, heterogeneity="step", curvature=0.5), 1)
    rng = np.random.default_rng(0)
    for x in roles.X[:3]:
        mixture, q = rng.dirichlet(np.ones(5)), np.full(5, 0.2)
        up, down = effects.predict(x, np.stack([mixture, q]))
        estimate, variance = effects.gain(x, mixture, q)
        assert estimate == pytest.approx(up - down, abs=1e-8)
        assert variance > 0
    covariances = effects.covariances(roles.X[:5])
    assert np.linalg.eigvalsh(covariances).min() > 0


def test_without_surface_and_steps_the_gain_is_theta_times_the_move():
    _, roles, effects = fit_world(DialsConfig(n_runs=120), 1, surface=False, steps=False)
    x, mixture, q = roles.X[0], np.array([0.4, 0.3, 0.1, 0.1, 0.1]), np.full(5, 0.2)
    move = np.log(mixture) - np.log(q)
    estimate, variance = effects.gain(x, mixture, q)
    assert estimate == pytest.approx(move @ effects.theta(x))
    assert variance == pytest.approx(move @ effects.covariance(x) @ move)


def test_curvature_is_seen_by_the_surface_alone():
    dials = DialsConfig(n_runs=200, heterogeneity="none", curvature=1.0, noise=0.5)
    world, _, bent = fit_world(dials, 2)
    _, _, straight = fit_world(dials, 2, surface=False)
    mixtures = np.random.default_rng(0).dirichlet(np.full(5, 3.0), 200) * 0.9 + 0.02
    truth = world.outcome(np.zeros((200, 3)), mixtures)
    errors = [np.std(effects.predict(np.zeros(3), mixtures) - truth) for effects in (bent, straight)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.slow
def test_intervals_cover_smooth_effects_and_steps():
    """24 sweeps a kind; the standard error of a coverage is about .012, so .90 is more than two below .93."""
    for kind in ("linear", "smooth", "step", "tree"):
        covered = []
        for seed in range(24):
            world, _, effects = fit_world(DialsConfig(n_runs=200, heterogeneity=kind), seed)
            X = np.random.default_rng([seed, 1]).normal(size=(15, 3))
            sd = np.sqrt(np.einsum("mkk->mk", effects.covariances(X)))
            covered.append(np.mean(np.abs(effects.thetas(X) - world.theta(X)) <= 1.96 * sd))
        assert np.mean(covered) > 0.90, kind


def test_confounding_is_taken_up_by_the_level():
    """No design mean, mixtures drawn by the state: effects stay unbiased where a naive regression's do not."""
    errors, naive = [], []
    for seed in range(6):
        dials = DialsConfig(n_runs=250, heterogeneity="none", confounding=1.0, knows_design=False)
        world, roles, effects = fit_world(dials, seed)
        Z = np.column_stack([np.ones(250), roles.Z])
        errors.append(effects.theta(np.zeros(3)) - world.constant)
        naive.append(np.linalg.lstsq(Z, roles.Y, rcond=None)[0][1:] - world.constant)
    assert np.sqrt(np.mean(np.square(errors))) < 0.25
    assert np.sqrt(np.mean(np.square(naive))) > 2 * np.sqrt(np.mean(np.square(errors)))


def test_a_domain_s_effect_sees_its_own_state():
    cfg = EstimatorConfig(name="gp", kind="varying_coefficient_gp", state="domain", steps=False)
    roles = assign_roles(make_runs(make_frame(160)), "signal", cfg, OutcomeConfig())
    effects = fit_effects(roles, cfg, 0).effects
    x = roles.X.mean(axis=0)
    moved = x.copy()
    moved[roles.x_names.index("hes.math")] += 0.5
    change = effects.theta(moved) - effects.theta(x)
    k = DOMAINS.index("math")
    assert change[k] > 0.2
    assert np.abs(np.delete(change, k)).max() < 0.1 * change[k]


def test_an_unknown_smoothness_is_refused():
    with pytest.raises(AnalysisError, match=r"smoothness=matern3 \(did you mean 'matern32'\?\)"):
        fit_world(DialsConfig(n_runs=60), 0, smoothness="matern3")


def test_nested_steps_are_regions_inside_their_parent():
    points, columns, y = make_points(n=200)
    simple = propose_steps(points.X, columns)
    steps = nest_steps(points.X, simple, [3, 30])
    assert steps.n_simple == len(simple.features)
    assert len(steps.features) > len(simple.features)
    h = steps.evaluate(points.X) + steps.means
    assert set(np.unique(h.round(12))) == {0.0, 1.0}
    for s in range(steps.n_simple, len(steps.features)):
        f, cut = steps.features[s, 0], steps.thresholds[s, 0]
        inside = (points.X[:, f] > cut) == steps.above[s, 0]
        assert not np.any(h[~inside, s])
        assert 0.08 < h[:, s].mean() < inside.mean() - 0.08
    assert np.allclose(steps.evaluate(points.X).mean(axis=0), 0)
    kernel = Kernel(columns, "matern32", False)
    solved = solve(kernel.covariance(kernel.start(), points), y[:, None], y)
    gram = make_gram(steps.expand(points.X, points.R), solved, y)
    found = search_steps(gram, 0.7, steps.n_simple)
    assert len({chosen for chosen, _ in found}) == len(found)
    assert len(list_parents(found)) == 3


def test_a_tree_of_effects_is_found_to_be_one():
    """Three leaves cut on two features: the second cut counts on one side of the first alone."""
    _, _, effects = fit_world(DialsConfig(n_runs=300, heterogeneity="tree", noise=0.3, strength=2.0), 5)
    nested = sum(w for chosen, w in effects.step_weights().items() if any(" and " in rule for rule in chosen))
    assert nested > 0.9
