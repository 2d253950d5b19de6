from __future__ import annotations

import numpy as np
import pytest

from analysis.estimators.fit import fit_effects
from analysis.estimators.gp import processes, search
from analysis.estimators.gp.evidence import cross_effects, solve
from analysis.estimators.gp.kernel import Kernel, Points
from analysis.estimators.gp.options import PRIOR_MORE, list_options, make_gram
from analysis.estimators.gp.search import draw_steps, find_steps, list_parents
from analysis.estimators.gp.steps import Steps, nest_steps, polish_steps, propose_steps, refine_steps
from analysis.roles import assign_roles
from analysis.simulate.ideal import ideal_width
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


def make_options(n: int = 60, n_options: int | None = None):
    points, columns, y = make_points(n=n)
    kernel = Kernel(columns, "matern32", False)
    K = kernel.covariance(kernel.start(), points)
    steps = propose_steps(points.X, columns)
    expanded = steps.expand(points)[:, :n_options]
    if n_options:
        y = y + 0.9 * expanded[:, 1, 0]
    gram = make_gram(expanded.reshape(len(y), -1), solve(K, y[:, None], y), y)
    return K, y, expanded, list_options(gram, expanded.shape[2], expanded.shape[1], single=True)


def evidence(K, y, F, variance):
    return solve(K + variance * F @ F.T, y[:, None], y).log_evidence


def test_steps_are_scored_as_if_their_covariance_were_written_out():
    K, y, expanded, options = make_options()
    flat, n = expanded.reshape(len(y), -1), expanded.shape[1]
    whole, single = 3, n + 30 * 3 + 1  # step 3 of every effect; step 30 of the second of three
    assert options.name((whole, single)) == ((3, None), (30, 1))
    assert options.gather((whole, single)).tolist() == [12, 13, 14, 15, 121, 123]
    none = evidence(K, y, flat[:, :0], 1.0)
    alone = [evidence(K, y, flat[:, options.gather((i,))], 0.7) for i in (whole, single)]
    both = evidence(K, y, flat[:, options.gather((whole, single))], 0.7)
    found = options.weigh((), 0.7)
    assert found[whole] == pytest.approx(alone[0] - none, abs=1e-6)
    assert found[single] == pytest.approx(alone[1] - none, abs=1e-6)
    assert options.weigh((whole,), 0.7)[single] == pytest.approx(both - alone[0], abs=1e-6)
    assert options.weigh((single,), 0.7)[whole] == pytest.approx(both - alone[1], abs=1e-6)
    assert options.score((whole, single), 0.7) == pytest.approx(both - none, abs=1e-6)
    assert np.exp(options.log_prior).sum() == pytest.approx(1.0)


def test_some_of_the_options_are_weighed_as_they_are_among_all():
    _, _, _, options = make_options()
    n = len(options.options)
    kept = np.array([1, 3, 7, 40, n - 5, n - 1])
    fewer, _ = options.take(kept)
    assert [each.name for each in fewer.options] == [options.options[i].name for i in kept]
    assert np.allclose(fewer.weigh((), 0.7), options.weigh((), 0.7)[kept])
    assert np.allclose(fewer.weigh((1, 4), 0.7), options.weigh((3, n - 5), 0.7)[kept])
    assert fewer.score((1, 4), 0.7) == pytest.approx(options.score((3, n - 5), 0.7))


@pytest.mark.parametrize("log_none", [0.0, 2.0])
def test_steps_are_drawn_as_often_as_their_posterior_says(monkeypatch, log_none):
    """Three steps of three effects, at most two at a time: every pair of places is written out."""
    monkeypatch.setattr(search, "N_SPARE", 1)
    monkeypatch.setattr(search, "N_SWEEPS", 2000)
    K, y, expanded, options = make_options(n_options=3)
    n, variance = len(options.options), 0.7
    prior = np.append(options.log_prior + np.log(PRIOR_MORE), 0.0)
    exact: dict[tuple, float] = {}
    moments = []
    for i, j in np.ndindex(n + 1, n + 1):
        chosen = tuple(sorted(k for k in (i, j) if k < n))
        logs = options.score(chosen, variance) + prior[i] + prior[j] - np.log((1, 2, 1)[len(chosen)])
        logs += 0.0 if chosen else log_none
        exact[options.name(chosen)] = exact.get(options.name(chosen), 0.0) + np.exp(logs)
        mean = np.zeros(expanded[0].size)
        rows = options.gather(chosen)
        F = expanded.reshape(len(y), -1)[:, rows]
        np.add.at(mean, rows, variance * F.T @ np.linalg.solve(K + variance * F @ F.T, y))
        moments.append((np.exp(logs), mean))
    total = sum(exact.values())
    drawn = draw_steps(options, (0,), (variance,), 0, log_none)
    for name, weight in sorted(exact.items(), key=lambda item: -item[1])[:4]:
        assert drawn.weights.get(name, 0.0) == pytest.approx(weight / total, abs=0.04)
    expected = sum(weight * mean for weight, mean in moments) / total
    found = np.zeros_like(expected)
    found[drawn.rows] = drawn.mean[:, 0]
    assert np.allclose(found, expected, atol=0.1 * np.abs(expected).max())
    assert np.linalg.eigvalsh(drawn.covariance).min() > 0
    again = draw_steps(options, (0,), (variance,), 0, log_none)
    assert np.array_equal(again.mean, drawn.mean)
    assert np.array_equal(again.covariance, drawn.covariance)


def test_where_no_step_is_worth_a_draw_there_is_none():
    _, _, _, options = make_options()
    drawn = draw_steps(options, (), (0.7,), 0, log_none=100.0)
    assert drawn.weights == {(): 1.0}
    assert drawn.mean.shape == (0, 1)


def test_half_of_the_prior_says_that_nothing_depends_on_the_state():
    """Where it is so, intervals are about as wide as those of one who knows."""
    dials = DialsConfig(heterogeneity="none")
    widths = []
    for seed in range(6):
        world, roles, effects = fit_world(dials, seed)
        states = roles.X[:8]
        sd = np.sqrt(np.einsum("mkk->mk", effects.covariances(states)))
        widths.append(2 * 1.96 * sd.mean() / ideal_width(world, seed, states))
    assert np.mean(widths) < 1.25


def test_products_of_coefficients_asked_for_again_are_the_same():
    K, _, expanded, options = make_options()
    F = expanded.reshape(len(K), -1)
    whole = F.T @ np.linalg.solve(K, F)
    for rows in ([3, 1, 3], [1, 7]):
        assert np.allclose(options.gram.cross(np.array(rows)), whole[rows])
    assert sorted(options.gram.known) == [1, 3, 7]


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


@pytest.mark.parametrize("kind", ["step", "linear"])
def test_effects_of_many_states_are_those_of_each(kind):
    """Means of all states at once against the posterior of one state, which also has the covariance."""
    _, roles, effects = fit_world(DialsConfig(n_runs=120, n_domains=3, heterogeneity=kind), 0)
    X = roles.X[:20]
    alone = np.stack([effects._answer(x, effects.slopes)[0] for x in X]) / effects.scale.z
    assert np.allclose(effects.thetas_by_outcome(X), effects.coordinates.lift(alone), atol=1e-10)
    assert np.allclose(effects.thetas(X), np.concatenate([effects.thetas(x[None, :]) for x in X]), atol=1e-10)


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
    gram = make_gram(steps.expand(points).reshape(len(y), -1), solved, y)
    options = list_options(gram, 4, steps.n_simple, single=True)
    assert np.exp(options.log_prior).sum() == pytest.approx(1.0)
    found = find_steps(options, (0.7,))[0]
    assert len(set(found)) == len(found)
    assert list_parents(options, found) == list(dict.fromkeys(step for step, _ in options.name(found)))[:3]


def test_what_has_credit_is_small_and_at_most_two_more_than_effects():
    """In noise as many are found as may be, each of one effect, where any is believed beforehand."""
    _, _, _, options = make_options(n=60)
    assert len(find_steps(options, (0.1,))[0]) < 3
    found, _ = find_steps(options, (0.1,), credit=50.0)
    assert len(found) == options.n_effects + search.N_OVER == 5
    assert all(coordinate is not None for _, coordinate in options.name(found))


def test_many_steps_are_found_where_each_alone_is_lost_in_the_others(monkeypatch):
    """Ten steps and 256 runs: one explains a tenth of what all do. Without credit first, few are found."""
    X = np.random.default_rng(0).normal(size=(40, 3))
    errors = []
    for credits in (processes.WARM, processes.COLD):
        monkeypatch.setattr(processes, "WARM", credits)
        world, _, effects = fit_world(DialsConfig(n_runs=256, n_domains=10, heterogeneity="step"), 3)
        errors.append(np.sqrt(np.mean((effects.thetas(X) - world.theta(X)) ** 2)))
    assert errors[0] < 0.3 < 0.6 < errors[1]


def test_an_effect_jumps_at_every_mixture_that_a_confounded_design_draws(monkeypatch):
    """Where the design moves with the state, a step of the residuals alone leaves a jump of the level unexplained."""
    dials = DialsConfig(n_runs=256, heterogeneity="step", confounding=1.0, knows_design=False)
    X = np.random.default_rng(0).normal(size=(40, 3))
    found = []
    for moves in (lambda points: points.Z, lambda points: points.R):

        def expand(steps, points, moves=moves):
            h = steps.evaluate(points.X)
            return np.concatenate([h * moves(points)[:, None, :], h.mean(axis=2, keepdims=True)], axis=2)

        monkeypatch.setattr(Steps, "expand", expand)
        world, _, effects = fit_world(dials, 0)
        sd = np.sqrt(np.einsum("mkk->mk", effects.covariances(X)))
        covered = np.mean(np.abs(effects.thetas(X) - world.theta(X)) < 1.96 * sd)
        found.append((sd.mean(), covered))
    assert found[0][0] < 0.8 * found[1][0]
    assert found[0][1] > 0.9


def test_refined_steps_lie_next_to_the_one_they_refine():
    points, columns, _ = make_points(n=200)
    simple = propose_steps(points.X, columns)
    steps = refine_steps(points.X, simple, [3])
    added = steps.thresholds[len(simple.thresholds) :, 0]
    assert steps.n_simple == len(steps.features) > len(simple.features)
    assert np.all(steps.features[len(simple.features) :, 0] == simple.features[3, 0])
    assert np.all((added > simple.thresholds[2, 0]) & (added < simple.thresholds[4, 0]))
    assert np.allclose(steps.evaluate(points.X).mean(axis=0), 0)


def test_a_step_of_one_effect_is_found_to_be_one():
    """Every domain has its own threshold: five steps, each of one effect."""
    world, _, effects = fit_world(DialsConfig(n_runs=256, heterogeneity="step", noise=0.3), 2)
    single = sum(w for chosen, w in effects.step_weights().items() if all(":" in rule for rule in chosen))
    assert single > 0.5
    X = np.random.default_rng(0).normal(size=(40, 3))
    far = np.abs(X[:, world.features] - world.thresholds) > 0.2
    sd = np.sqrt(np.einsum("mkk->mk", effects.covariances(X)))
    assert sd[far].mean() < 0.15
    assert np.abs(effects.thetas(X) - world.theta(X))[far].max() < 0.5


def test_a_tree_of_effects_is_found_to_be_one():
    """Three leaves cut on two features: the second cut counts on one side of the first alone."""
    _, _, effects = fit_world(DialsConfig(n_runs=300, heterogeneity="tree", noise=0.3, strength=2.0), 5)
    nested = sum(w for chosen, w in effects.step_weights().items() if any(" and " in rule for rule in chosen))
    assert nested > 0.9


def test_polished_steps_move_one_threshold_of_those_found_to_gaps_between_runs():
    points, columns, _ = make_points(n=80)
    nested = nest_steps(points.X, propose_steps(points.X, columns), [3, 30])
    found = [3, nested.n_simple + 2]
    steps = polish_steps(points.X, nested, found)
    assert np.array_equal(steps.features[: len(nested.features)], nested.features)
    assert steps.n_simple == nested.n_simple
    new = range(len(nested.features), len(steps.features))
    assert len(new) > 40  # up to twenty places for each of three thresholds
    for s in new:
        like = [f for f in found if np.array_equal(steps.features[s], nested.features[f])]
        moved = [np.flatnonzero(steps.thresholds[s] != nested.thresholds[f]) for f in like]
        [at] = min(moved, key=len)
        assert steps.thresholds[s, at] in points.X[:, columns[:, steps.features[s, at]]]


def test_a_tree_of_effects_is_found_to_a_few_runs_of_where_it_splits():
    world = make_world(DialsConfig(heterogeneity="tree", noise=0.5), 4)
    cfg = EstimatorConfig(name="gp", kind="varying_coefficient_gp", per_outcome=False, surface=False)
    effects = fit_effects(assign_roles(draw_table(world, 4), "signal", cfg, OutcomeConfig()), cfg, 4).effects
    states = np.array([[0.25 + a, -0.25 + b, 0.0] for a in (-0.1, 0.1) for b in (-0.1, 0.1)])
    # Of effects that differ by points; .9 where thresholds stay on the grids.
    assert np.sqrt(np.mean((effects.thetas(states) - world.theta(states)) ** 2)) < 0.15
