from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.estimators.fit import fit_effects
from analysis.estimators.judged import JudgedEffects
from analysis.estimators.select import CANDIDATES, compare_losses, select_estimator
from analysis.fitted import fit_table
from analysis.roles import assign_roles
from analysis.simulate.world import draw_table, make_world
from causalmix.config import DialsConfig, EstimatorConfig, NuisanceConfig, OutcomeConfig, TargetConfig
from causalmix.errors import AnalysisError
from tests.analysis.synthetic import make_config, make_frame, make_runs

AUTO = EstimatorConfig(name="auto", kind="auto", n_trees=100, nuisance=NuisanceConfig(outcome="auto"))


@pytest.mark.parametrize("kind", ["none", "linear", "step"])
def test_what_is_taken_is_nearly_the_best_in_truth(kind):
    """The choice sees no truth; over three sweeps its error is at most half above the best candidate's."""
    chosen, best = [], []
    for seed in range(3):
        world = make_world(DialsConfig(n_runs=150, heterogeneity=kind, noise=0.5), seed)
        table = draw_table(world, seed)
        errors = {}
        selection = select_estimator(table, "signal", AUTO, OutcomeConfig(), 0)
        for family, state, degree in CANDIDATES:
            if state == "domain":
                continue
            cfg = dataclasses.replace(AUTO, kind=family, degree=degree)
            roles = assign_roles(table, "signal", cfg, OutcomeConfig())
            error = fit_effects(roles, cfg, 0).effects.thetas(roles.X) - world.theta(roles.X)
            errors[family, degree] = float(np.sqrt(np.mean(error**2)))
        chosen.append(errors[selection.chosen.kind, selection.chosen.degree])
        best.append(min(errors.values()))
    assert np.mean(chosen) < 1.5 * np.mean(best)


def test_a_domain_s_own_state_is_taken_where_it_counts():
    selection = select_estimator(make_runs(make_frame(160)), "signal", AUTO, OutcomeConfig(), 0)
    assert selection.chosen.name == "own_state"
    assert selection.chosen.state == "domain"
    losses = {c.name: c for c in selection.candidates}
    assert losses["linear_dml"].behind > 2 * losses["linear_dml"].behind_se
    assert set(losses) <= {"quadratic_dml", "varying_coefficient_gp_by_domain", *(kind for kind, _, _ in CANDIDATES)}
    assert "out-of-fold R-loss" in selection.describe()


def test_a_target_known_by_pool_means_alone_gets_a_family_that_needs_no_more():
    known = ["hes", "normalized_loss", "writing_style"]
    selection = select_estimator(make_runs(make_frame(160)), "signal", AUTO, OutcomeConfig(), 0, known)
    assert selection.chosen.state == "pool"


def test_the_rule_takes_the_first_within_one_standard_error():
    rng = np.random.default_rng(0)
    base = rng.exponential(size=400)
    simple = base + 0.01 * rng.normal(size=400)
    rows = compare_losses({"poor": base + 1.0, "simple": simple - (simple - base).mean(), "best": base - 1e-6})
    assert [row.behind <= row.behind_se for row in rows] == [False, True, True]
    assert rows[2].behind == 0


def test_auto_s_choice_stands_in_the_answer_and_a_table_too_small_for_any_is_refused():
    table = fit_table(make_config("auto"), make_runs(make_frame(120)))
    assert table.cfg.estimator.kind != "auto"
    with pytest.raises(AnalysisError, match=r"^12 runs are too few: estimator=auto needs at least \d\d, .* Run more"):
        fit_table(make_config("auto"), make_runs(make_frame(12)))


def test_auto_says_what_the_target_s_state_lacks():
    frame = make_frame(60)
    frame = frame[[name for name in frame if not (name.startswith("state.") and name.count(".") == 2)]]
    cfg = make_config("auto", target=TargetConfig(state={"hes": 0.0}))
    with pytest.raises(
        AnalysisError, match=r"^target\.state: the fit also reads normalized_loss, writing_style; give them\.$"
    ):
        fit_table(cfg, make_runs(frame))
    with pytest.raises(AnalysisError, match=r"^3 runs are too few: estimator=auto needs at least 25, since const"):
        fit_table(cfg, make_runs(frame[:3]))
    none = frame[[name for name in frame if not name.startswith("state.")]]
    with pytest.raises(AnalysisError, match=r"^estimator\.state=pool: the table has no column state\.<feature>\."):
        fit_table(make_config("auto"), make_runs(none))


def test_a_judged_forest_says_the_same_with_wider_intervals():
    dials = DialsConfig(n_runs=200, heterogeneity="step")
    cfg = EstimatorConfig(name="f", kind="causal_forest", n_trees=100, per_outcome=False)
    roles = assign_roles(draw_table(make_world(dials, 0), 0), "signal", cfg, OutcomeConfig())
    raw = fit_effects(roles, cfg, 0).effects
    judged = fit_effects(roles, dataclasses.replace(cfg, interval="gp"), 0).effects
    assert isinstance(judged, JudgedEffects)
    X = roles.X[:5]
    assert np.array_equal(judged.thetas(X), raw.thetas(X))
    assert np.einsum("mkk->m", judged.covariances(X)).mean() > np.einsum("mkk->m", raw.covariances(X)).mean()
    mixture, q = np.array([0.4, 0.3, 0.1, 0.1, 0.1]), np.full(5, 0.2)
    estimate, variance = judged.gain(X[0], mixture, q)
    assert estimate == raw.gain(X[0], mixture, q)[0]
    assert variance >= judged.judge.gain(X[0], mixture, q)[1]
    with pytest.raises(AnalysisError, match=r"interval=gpp \(did you mean 'gp'\?\)"):
        fit_effects(roles, dataclasses.replace(cfg, interval="gpp"), 0)
