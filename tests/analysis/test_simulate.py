from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.simulate.ideal import ideal_regret, ideal_width
from analysis.simulate.oracle import attain, find_regret, oracle_width
from analysis.simulate.repeat import (
    check_simulation,
    load_arms,
    load_estimator,
    repeat,
    replace_nan,
    summarise_effects,
    summarise_policies,
)
from analysis.simulate.world import HETEROGENEITY, draw_table, make_world
from causalmix.config import DialsConfig, SimulateConfig
from causalmix.errors import AnalysisError, ConfigError
from causalmix.table.schema import check_schema

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", HETEROGENEITY)
def test_a_table_is_a_runs_table_and_dealt_twice_the_same(kind):
    world = make_world(DialsConfig(n_runs=40, heterogeneity=kind, confounding=0.5), 3)
    table = draw_table(world, 7)
    check_schema(table.frame)
    assert table.frame.equals(draw_table(make_world(world.dials, 3), 7).frame)
    assert not table.frame.equals(draw_table(world, 8).frame)


@pytest.mark.parametrize(("kind", "curvature"), [("step", 0.0), ("smooth", 0.8), ("none", 2.0)])
def test_no_mixture_beats_the_best(kind, curvature):
    world = make_world(DialsConfig(heterogeneity=kind, curvature=curvature), 1)
    others = 0.02 + 0.9 * np.random.default_rng(0).dirichlet(np.ones(5), 5000)
    for x in np.random.default_rng(1).normal(size=(5, 3)):
        best = world.best(x)
        assert world.box.contains(best, 1e-8)
        top = world.outcome(x[None], best[None])[0]
        assert np.all(world.outcome(np.tile(x, (5000, 1)), others) <= top + 1e-6)


def test_effects_have_the_strength_that_was_dialled():
    X = np.random.default_rng(0).normal(size=(20_000, 3))
    for kind in ("linear", "smooth", "step"):
        spreads = [make_world(DialsConfig(heterogeneity=kind, strength=2.0), s).theta(X).std(axis=0) for s in range(20)]
        assert np.mean(spreads) == pytest.approx(2.0, rel=0.15), kind


def test_the_slopes_of_a_bent_world_are_those_that_least_squares_finds():
    dials = DialsConfig(n_runs=20_000, heterogeneity="none", curvature=1.0, noise=0.1)
    world = make_world(dials, 0)
    frame = draw_table(world, 0).frame
    T = frame[[f"mixture.{d}" for d in world.domains]].to_numpy()
    X = frame[["state.x0", "state.x1", "state.x2"]].to_numpy()
    y = frame["outcome.avg_dev"].to_numpy() - world.level(X)
    fitted = np.linalg.lstsq(np.column_stack([np.ones(len(y)), np.log(T)]), y, rcond=None)[0][1:]
    assert np.allclose(fitted, world.slopes(X[:1])[0], atol=0.08)


def test_confounding_moves_mixtures_with_the_state_and_the_design_knows_it():
    world = make_world(DialsConfig(n_runs=400, confounding=1.0), 0)
    frame = draw_table(world, 0).frame
    logs = np.log(frame[[f"mixture.{d}" for d in world.domains]].to_numpy())
    known = frame[[f"design.mean_log.{d}" for d in world.domains]].to_numpy()
    explained = 1 - (logs - known).var(axis=0) / logs.var(axis=0)
    assert explained.mean() > 0.1
    assert np.abs((logs - known).mean(axis=0)).max() < 0.2
    randomised = draw_table(make_world(DialsConfig(n_runs=40), 0), 0).frame
    assert randomised["design.mean_log.d00"].nunique() == 1


def test_wrong_dials_are_named():
    with pytest.raises(AnalysisError, match=r"heterogeneity=steps \(did you mean 'step'\?\)"):
        make_world(DialsConfig(heterogeneity="steps"), 0)
    with pytest.raises(ConfigError, match=r"estimator 'forest'.*allowed: .*causal_forest"):
        load_estimator("forest")


def test_settings_of_which_nothing_can_be_simulated_are_named():
    check_simulation(SimulateConfig())
    wrong = SimulateConfig(DialsConfig(noise=-1, concentration_min=6), policies=[], n_repetitions=0)
    with pytest.raises(ConfigError, match=r"n_repetitions=0 .*noise=-1 .*concentration_min=6.*policies=\[\]"):
        check_simulation(wrong)


def test_trials_are_the_same_in_one_process_and_in_two():
    cfg = SimulateConfig(estimators=["linear_dml"], policies=["equal", "causalmix_a"])
    arms = load_arms(cfg)
    dials = DialsConfig(n_runs=80)
    one = repeat(dials, arms, n_repetitions=3, n_targets=4, n_workers=1, progress=False)
    two = repeat(dials, arms, n_repetitions=3, n_targets=4, n_workers=2, progress=False)
    assert [t.policies for t in one] == [t.policies for t in two]
    policies = summarise_policies(one)
    assert policies["equal"]["gain"].value == 0
    assert policies["causalmix_a linear_dml"]["regret"].value < policies["equal"]["regret"].value
    assert 0 < summarise_effects(one)["linear_dml"]["rmse"].error < 1


def test_a_folder_keeps_trials_and_gives_them_back(tmp_path, monkeypatch):
    arms = load_arms(SimulateConfig(estimators=["linear_dml"], policies=["equal", "causalmix_a"]))
    settings = {"n_targets": 3, "progress": False, "folder": tmp_path}
    first = repeat(DialsConfig(n_runs=60), arms, n_repetitions=2, **settings)
    monkeypatch.setattr("analysis.simulate.repeat.run_trial", lambda *_, **__: pytest.fail("fitted twice"))
    assert repeat(DialsConfig(n_runs=60), arms, n_repetitions=2, **settings) == first
    monkeypatch.undo()
    more = repeat(DialsConfig(n_runs=60), arms, n_repetitions=3, **settings)
    assert more[:2] == first
    assert repeat(DialsConfig(n_runs=61), arms, n_repetitions=1, **settings) != first[:1]


@pytest.mark.parametrize(("kind", "curvature"), [("linear", 0.0), ("step", 0.5), ("tree", 0.0)])
def test_an_oracle_with_enough_runs_has_no_regret(kind, curvature):
    regrets = []
    for n in (60, 4000):
        world = make_world(DialsConfig(n_runs=n, heterogeneity=kind, curvature=curvature), 2)
        regrets.append(attain(world, 2, np.random.default_rng(0).normal(size=(6, 3))))
    assert 0 <= regrets[1] < 0.02
    assert regrets[1] < regrets[0]


def test_the_command_prints_both_tables_and_writes_json(tmp_path):
    settings = ["dials.n_runs=60", "n_repetitions=2", "n_targets=3", "estimators=[linear_dml]", "policies=[equal]"]
    command = [sys.executable, "-m", "analysis.simulate", *settings, "n_workers=1", f"json={tmp_path}/a.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "effects theta" in done.stdout
    assert "oracle that knows all but the sizes" in done.stdout
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["settings"]["dials"]["n_runs"] == 60
    assert written["policies"][0]["name"] == "equal"
    assert set(written["effects"][0]) == {"name", "rmse", "coverage", "width"}
    automatic = [*command, "estimators=[auto]", "dials.n_runs=80"]
    assert "auto" in subprocess.run(automatic, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    small = subprocess.run([*command, "dials.n_runs=8"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert small.returncode == 2
    assert "8 runs are too few" in small.stderr + small.stdout
    refused = subprocess.run(
        [*command, "dials.heterogeneity=wavy"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert refused.returncode == 2
    assert "allowed: none, linear, smooth, step, tree" in refused.stderr + refused.stdout


def test_a_single_repetition_has_no_standard_error(tmp_path):
    settings = ["dials.n_runs=60", "n_repetitions=1", "n_targets=1", "estimators=[constant_dml]", "policies=[equal]"]
    command = [sys.executable, "-m", "analysis.simulate", *settings, "n_workers=1", f"json={tmp_path}/a.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "+- -" in done.stdout
    assert "nan" not in done.stdout
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["policies"][0]["regret"]["error"] is None
    assert replace_nan({"a": [1.0, float("nan")]}) == {"a": [1.0, None]}


def test_who_must_learn_the_form_of_effects_knows_less_than_who_is_told():
    states = np.random.default_rng(0).normal(size=(8, 3))

    def compare(kind: str, **dials: object) -> float:
        world = make_world(DialsConfig(n_runs=120, heterogeneity=kind, **dials), 1)
        return ideal_width(world, 1, states) / oracle_width(world, 1, states)

    assert 0.8 < compare("none") < 1.0  # constants alone: what is known of worlds narrows them a little
    assert 1.1 < compare("linear") < 1.6
    assert compare("smooth") > 2.0
    assert compare("step", noise=0.3) == pytest.approx(1.0, abs=0.4)
    assert compare("step", noise=3.0) < compare("linear", noise=3.0) * 1.5
    assert 0.8 < compare("tree") < 1.4


def test_the_ideal_width_of_constants_is_that_of_their_posterior():
    world = make_world(DialsConfig(n_runs=60, heterogeneity="none"), 2)
    table = draw_table(world, 2)
    T = table.frame[[f"mixture.{d}" for d in world.domains]].to_numpy()
    R = np.log(T) - world.mean_log(np.zeros((60, 3)), 2)
    covariance = np.linalg.inv(np.eye(5) / 0.49 + R.T @ R)
    expected = 2 * 1.959964 * np.sqrt(np.diag(covariance)).mean()
    assert ideal_width(world, 2, np.zeros((2, 3))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("kind", "curvature"), [("linear", 0.5), ("step", 0.0)])
def test_who_knows_the_kind_of_effects_loses_more_than_an_oracle_and_less_than_who_asks_nobody(kind, curvature):
    lost = {"oracle": 0.0, "ideal": 0.0, "equal": 0.0}
    for seed in range(6):
        world = make_world(DialsConfig(n_runs=120, heterogeneity=kind, curvature=curvature), seed)
        states = np.random.default_rng(seed).normal(size=(4, 3))
        lost["oracle"] += attain(world, seed, states)
        lost["ideal"] += ideal_regret(world, seed, states)
        lost["equal"] += find_regret(world, states, np.ones((4, 5)))
    assert 0 < lost["oracle"] < lost["ideal"] < 0.3 * lost["equal"]
