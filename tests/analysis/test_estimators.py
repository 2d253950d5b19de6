from __future__ import annotations

import numpy as np
import pytest

from analysis.estimators.effects import clip_to_psd
from analysis.estimators.fit import FAMILIES, fit_effects
from analysis.estimators.nuisances import assign_folds, residualise
from analysis.roles import assign_roles
from analysis.simulate import world as simulated_world
from causalmix.config import DialsConfig, EstimatorConfig, NuisanceConfig, OutcomeConfig
from causalmix.errors import AnalysisError
from tests.analysis.synthetic import DOMAINS, FEATURES, World, make_frame, make_runs, make_world

STATE = {"own_state": "domain"}


def make_estimator(kind: str, **changes: object) -> EstimatorConfig:
    nuisance = NuisanceConfig(outcome="ridge", treatment="design")
    settings = {
        "name": kind,
        "kind": kind,
        "state": STATE.get(kind, "pool"),
        "n_trees": 200,
        "nuisance": nuisance,
    }
    return EstimatorConfig(**{**settings, **changes})


def fit(kind: str, frame, **changes: object):
    cfg = make_estimator(kind, **changes)
    roles = assign_roles(make_runs(frame), "signal", cfg, OutcomeConfig())
    return fit_effects(roles, cfg, seed=3).effects, roles


def true_theta(roles, world: World):
    names = [[roles.x_names.index(f"{f}.{d}") for f in FEATURES] for d in DOMAINS]
    return world.theta(roles.X[:, names])


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_refits_are_equal_to_the_last_bit(kind):
    frame = make_frame(80)
    (first, roles), (second, _) = fit(kind, frame), fit(kind, frame)
    X = roles.X[:5]
    assert np.array_equal(first.thetas(X), second.thetas(X))
    assert np.array_equal(first.covariances(X), second.covariances(X))


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_answers_have_the_shapes_of_the_contract(kind):
    effects, roles = fit(kind, make_frame(80))
    K = len(DOMAINS)
    assert effects.thetas(roles.X[:3]).shape == (3, K)
    assert effects.theta(roles.X[0]).shape == (K,)
    covariance = effects.covariances(roles.X[:3])
    assert covariance.shape == (3, K, K)
    assert np.linalg.eigvalsh(covariance).min() >= -1e-10
    assert np.trace(covariance[0]) > 0
    q, t = np.full(K, 0.2), np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    up, down = effects.predict(roles.X[0], np.stack([t, q]))
    estimate, variance = effects.gain(roles.X[0], t, q)
    assert estimate == pytest.approx(up - down)
    assert variance >= 0


def test_own_state_recovers_the_truth_and_its_intervals_cover_it():
    world = make_world()
    misses, errors = 0, []
    for seed in range(12):
        effects, roles = fit("own_state", make_frame(240, seed=seed))
        theta = true_theta(roles, world)[:10]
        estimate = effects.thetas(roles.X[:10])
        sd = np.sqrt(np.einsum("mkk->mk", effects.covariances(roles.X[:10])))
        misses += int((np.abs(estimate - theta) > 1.96 * sd).sum())
        errors.append(np.abs(estimate - theta).mean())
    assert np.mean(errors) < 0.25
    # 600 intervals, strongly dependent within a table: about 30 misses are expected.
    assert misses < 90


def test_noise_in_a_fitted_treatment_mean_shrinks_effects_and_the_design_s_own_does_not():
    world, errors = make_world(), {"design": [], "lightgbm": []}
    for seed in range(4):
        for treatment, found in errors.items():
            nuisance = NuisanceConfig(outcome="ridge", treatment=treatment)
            effects, roles = fit("own_state", make_frame(160, seed=seed), nuisance=nuisance)
            found.append(np.mean(effects.thetas(roles.X) - true_theta(roles, world)))
    assert abs(np.mean(errors["design"])) < 0.06
    assert np.mean(errors["lightgbm"]) < -0.1


def test_own_state_beats_pool_means_where_a_domain_s_own_state_counts():
    world = make_world()
    frame = make_frame(240)
    own, roles = fit("own_state", frame)
    theta = true_theta(roles, world)
    pool, pool_roles = fit("linear_dml", frame)
    error = np.sqrt(np.mean((own.thetas(roles.X) - theta) ** 2))
    error_pool = np.sqrt(np.mean((pool.thetas(pool_roles.X) - theta) ** 2))
    assert error < 0.5 * error_pool


def test_the_forest_finds_a_step():
    rng = np.random.default_rng(0)
    frame = make_frame(500, noise=0.2)
    high = frame["state.hes"] > frame["state.hes"].median()
    for ability in ("coding", "following", "knowledge", "math", "safety", "reasoning"):
        step = np.where(high, 3.0, 0.0) * np.log(frame["mixture.math"])
        frame[f"outcome.{ability}"] = 50 + step + rng.normal(0, 0.3, len(frame))
    frame["outcome.avg_dev"] = frame[[c for c in frame if c.startswith("outcome.") and "avg" not in c]].mean(axis=1)
    effects, roles = fit("causal_forest", frame)
    low, up = np.quantile(roles.X[:, 0], [0.15, 0.85])
    states = np.zeros((2, 3))
    states[:, 0] = low, up
    theta = effects.thetas(states)[:, DOMAINS.index("math")]
    assert theta[0] < 0.8
    assert theta[1] > 2.2
    assert int(np.argmax(effects.importances())) == 0


def test_one_forest_of_equal_outcomes_has_the_variance_of_each():
    frame = make_frame(120)
    for ability in ("coding", "following", "knowledge", "math", "safety", "reasoning"):
        frame[f"outcome.{ability}"] = frame["outcome.avg_dev"]
    averaged, roles = fit("causal_forest", frame)
    single, _ = fit("causal_forest", frame, per_outcome=False)
    x = roles.X[:4]
    assert np.allclose(averaged.thetas(x), single.thetas(x))
    assert np.allclose(averaged.covariances(x), single.covariances(x))


def test_the_forest_s_variances_are_econml_s():
    frame = make_frame(160)
    effects, roles = fit("causal_forest", frame, per_outcome=False)
    x = roles.X[:20]
    theirs = effects._forests[0].predict_and_var(x)[1]
    ours = np.einsum("mkk->mk", effects.covariances(x))
    # They correct the diagonal, we the eigenvalues: not the same number, but the same size.
    ratio = np.median(np.sqrt(ours / np.einsum("mkk->mk", theirs)))
    assert 0.7 < ratio < 1.4


def test_least_squares_agrees_with_econml_s_linear_dml():
    from econml.dml import LinearDML
    from sklearn.dummy import DummyRegressor

    effects, roles = fit("linear_dml", make_frame(240))
    cfg = make_estimator("linear_dml")
    residuals = residualise(roles, cfg.nuisance, seed=3)
    theirs = LinearDML(
        model_y=DummyRegressor(strategy="constant", constant=0.0),
        model_t=DummyRegressor(strategy="constant", constant=np.zeros(len(DOMAINS))),
        cv=2,
        random_state=0,
    ).fit(residuals.outcomes @ roles.outcome_weights, residuals.Z, X=roles.X)
    assert np.allclose(effects.thetas(roles.X), theirs.const_marginal_effect(roles.X), atol=1e-6)


def test_no_covariates_is_least_squares_of_outcome_on_logs():
    effects, roles = fit("no_covariates", make_frame(240), nuisance=NuisanceConfig(n_folds=240, treatment="lightgbm"))
    # Leave-one-out means scale every residual by n / (n - 1): the slopes are those of plain least squares.
    Z = np.column_stack([np.ones(roles.n_runs), roles.Z])
    slopes = np.linalg.lstsq(Z, roles.Y, rcond=None)[0][1:]
    assert np.allclose(effects.theta(np.empty(0)), slopes, atol=1e-8)


@pytest.mark.parametrize("name", ["ilr", "ilr_even", "alr"])
def test_log_ratios_say_what_logs_say_about_every_contrast(name):
    """A rotation of the logs is the same fit; contrasts alone lose only what all logs do together."""
    frame = make_frame(240)
    logs, roles = fit("linear_dml", frame)
    other, _ = fit("linear_dml", frame, coordinates=name)
    q, t = np.full(5, 0.2), np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    expected, estimate = logs.gain(roles.X[0], t, q)[0], other.gain(roles.X[0], t, q)[0]
    if name == "ilr_even":
        assert np.allclose(other.thetas(roles.X), logs.thetas(roles.X), atol=1e-8)
    else:
        assert np.allclose(other.thetas(roles.X).sum(axis=1), 0, atol=1e-9)
        assert estimate == pytest.approx(expected, abs=1.0)


def test_shares_on_the_tangent_plane_find_an_effect_that_is_linear_in_shares():
    rng = np.random.default_rng(0)
    frame = make_frame(300)
    slope = np.array([4.0, 0.0, -2.0, 1.0, -3.0])
    T = frame[[f"mixture.{d}" for d in DOMAINS]].to_numpy()
    for ability in [c for c in frame if c.startswith("outcome.")]:
        frame[ability] = 50 + T @ slope + rng.normal(0, 0.05, len(frame))
    frame["outcome.avg_dev"] = frame[[c for c in frame if c.startswith("outcome.") and "avg" not in c]].mean(axis=1)
    effects, roles = fit("constant_dml", frame, coordinates="tangent", nuisance=NuisanceConfig(outcome="ridge"))
    assert np.allclose(effects.theta(roles.X[0]), slope - slope.mean(), atol=0.1)
    assert roles.design_mean is None
    assert roles.randomised


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_outcomes_average_to_the_whole(kind):
    effects, roles = fit(kind, make_frame(80))
    each = effects.thetas_by_outcome(roles.X[:3])
    assert each.shape == (3, roles.outcomes.shape[1], len(DOMAINS))
    assert np.allclose(np.einsum("a,mak->mk", roles.outcome_weights, each), effects.thetas(roles.X[:3]))


def test_a_quadratic_state_finds_what_a_line_cannot():
    rng = np.random.default_rng(0)
    frame = make_frame(400)
    bend = (frame["state.hes"] / frame["state.hes"].std()) ** 2
    moved = np.log(frame["mixture.math"]) - frame["design.mean_log.math"]
    for ability in ("coding", "following", "knowledge", "math", "safety", "reasoning"):
        frame[f"outcome.{ability}"] = 50 + bend * moved + rng.normal(0, 0.3, len(frame))
    frame["outcome.avg_dev"] = frame[[c for c in frame if c.startswith("outcome.") and "avg" not in c]].mean(axis=1)
    k = DOMAINS.index("math")
    for degree, least, most in ((1, 0.5, 3.0), (2, 0.0, 0.4)):
        effects, roles = fit("linear_dml", frame, degree=degree)
        error = np.sqrt(np.mean((effects.thetas(roles.X)[:, k] - bend.to_numpy()) ** 2))
        assert least <= error <= most
    with pytest.raises(AnalysisError, match=r"estimator\.degree=3; allowed: 1"):
        fit("linear_dml", frame, degree=3)


def test_auto_takes_the_nuisance_that_predicts_held_out_runs_better():
    frame = make_frame(160)
    frame["outcome.coding"] += 8 * np.sin(8 * frame["state.hes"])  # a wave: trees see it, a line does not
    frame["outcome.avg_dev"] = frame[[c for c in frame if c.startswith("outcome.") and "avg" not in c]].mean(axis=1)
    cfg = make_estimator("linear_dml")
    roles = assign_roles(make_runs(frame), "signal", cfg, OutcomeConfig())
    hats = {}
    for kind in ("lightgbm", "ridge", "auto"):
        hats[kind] = residualise(roles, NuisanceConfig(outcome=kind), seed=3).outcomes_hat
    errors = {kind: ((roles.outcomes - hat) ** 2).sum(axis=0) for kind, hat in hats.items()}
    assert np.array_equal(errors["auto"], np.minimum(errors["lightgbm"], errors["ridge"]))
    coding = roles.outcome_names.index("coding")
    assert np.array_equal(hats["auto"][:, coding], hats["lightgbm"][:, coding])
    assert np.any(errors["ridge"] < errors["lightgbm"])


def test_folds_are_even_and_no_run_sees_itself():
    folds = assign_folds(103, 5, seed=0)
    assert sorted(np.bincount(folds)) == [20, 20, 21, 21, 21]
    assert np.array_equal(folds, assign_folds(103, 5, seed=0))


def test_the_design_s_mean_is_refused_where_the_table_lacks_it():
    frame = make_frame(80, with_design=False)
    with pytest.raises(AnalysisError, match=r"needs the columns design\.mean_log\.code.*treatment=lightgbm"):
        fit("own_state", frame)
    auto, _ = fit("own_state", frame, nuisance=NuisanceConfig(treatment="auto"))
    light, _ = fit("own_state", frame, nuisance=NuisanceConfig(treatment="lightgbm"))
    assert np.array_equal(auto.beta, light.beta)


def test_wrong_nuisances_name_the_right_ones():
    with pytest.raises(AnalysisError, match=r"nuisance\.outcome=lightgb \(did you mean 'lightgbm'\?\)"):
        fit("own_state", make_frame(80), nuisance=NuisanceConfig(outcome="lightgb"))
    with pytest.raises(AnalysisError, match=r"n_folds=1: from 2"):
        fit("own_state", make_frame(80), nuisance=NuisanceConfig(n_folds=1))


def test_a_feature_missing_for_a_domain_is_named():
    frame = make_frame(80).drop(columns="state.hes.math")
    with pytest.raises(AnalysisError, match=r"own_state needs every feature.*missing: hes\.math"):
        fit("own_state", frame)


def test_clipping_leaves_what_is_already_positive():
    matrix = np.array([[[2.0, 0.5], [0.5, 1.0]]])
    assert np.allclose(clip_to_psd(matrix), matrix)
    clipped = clip_to_psd(np.array([[[1.0, 2.0], [2.0, 1.0]]]))
    assert np.linalg.eigvalsh(clipped).min() >= -1e-12


@pytest.mark.parametrize("treatment", ["auto", "lightgbm"])
def test_residuals_that_a_fit_does_not_need_are_made_when_they_are_asked_for(treatment, monkeypatch):
    """The process holds the level: no model is fitted for it, and the residuals are the shared ones all the same."""
    world = simulated_world.make_world(DialsConfig(n_runs=80, n_domains=3, knows_design=False), 0)
    nuisance = NuisanceConfig(treatment=treatment)
    cfg = EstimatorConfig(name="gp", kind="varying_coefficient_gp", per_outcome=False, nuisance=nuisance)
    roles = assign_roles(simulated_world.draw_table(world, 0), "signal", cfg, OutcomeConfig())
    with monkeypatch.context() as patch:
        patch.setattr("analysis.estimators.nuisances.make_regressor", None)
        fitted = fit_effects(roles, cfg, 0)
    expected = residualise(roles, nuisance, 0)
    for name in ("outcomes", "outcomes_hat", "Z", "Z_hat", "folds"):
        assert np.array_equal(getattr(fitted.residuals, name), getattr(expected, name))
