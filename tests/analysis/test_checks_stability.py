from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.checks.check import FAILED, PASSED, SKIPPED, WARNING
from analysis.checks.identification import OneStatePerPool
from analysis.checks.stability import (
    LeaveOnePoolOut,
    RandomisedAgreement,
    SubsetStability,
    cluster_states,
    find_groups,
    find_randomised,
)
from analysis.roles import assign_roles
from causalmix.config import TargetConfig
from causalmix.errors import AnalysisError
from tests.analysis.judging import gather, judge, set_outcomes
from tests.analysis.synthetic import DOMAINS, make_config, make_frame, make_runs
from tests.analysis.test_checks import run
from tests.analysis.test_checks_refutation import Overconfident, confound

MEANS = [f"design.mean_log.{d}" for d in DOMAINS]


def test_halves_of_a_sound_sweep_agree():
    result = judge(SubsetStability, make_frame(160))
    assert result.status == PASSED
    assert "over 12 random halves the gain runs from" in result.message.lower()
    assert 0.4 < result.value < 1.6


def test_halves_that_disagree_by_more_than_the_interval_are_told():
    evidence = gather(make_frame(120))
    proud = dataclasses.replace(evidence.fitted, effects=Overconfident(evidence.fitted.effects))
    result = SubsetStability().run(dataclasses.replace(evidence, fitted=proud))
    assert result.status == WARNING
    assert "Halves disagree by more than the interval says" in result.message
    assert "(at most 1.50 is chance)" in result.message


def test_too_few_runs_for_halves():
    result = judge(SubsetStability, make_frame(30), make_config("no_covariates"))
    assert result.status == SKIPPED
    assert "Half of 30 runs is too few" in result.message


def mix_kinds(n: int, pull: float):
    """A randomised half, and one whose mixture follows a hidden cause that pulls the outcome by ``pull``."""
    frame = make_frame(n, seed=2)
    hidden = np.random.default_rng(5).normal(size=n) * (np.arange(n) >= n // 2)
    mixed = confound(frame, hidden)
    for name in MEANS:
        mixed[name] = np.where(np.arange(n) < n // 2, frame[name], np.nan)
    # The recorded outcome is that of the mixture that was drawn, plus what the hidden cause adds.
    shift = np.log(mixed[[f"mixture.{d}" for d in DOMAINS]]).to_numpy().mean(axis=1)
    return set_outcomes(mixed, 50 + 3 * shift + pull * hidden + np.random.default_rng(6).normal(0, 0.3, n))


def test_two_kinds_of_runs_that_agree():
    result = judge(RandomisedAgreement, mix_kinds(200, pull=0.0), far_target())
    assert result.status == PASSED, result.message
    assert "over 100 randomised runs" in result.message


def far_target():
    return make_config("no_covariates", target=TargetConfig(reference="equal"))


def test_confounded_runs_are_refuted_by_the_randomised_ones():
    frame = mix_kinds(200, pull=4.0)
    candidate = np.array([0.6, 0.1, 0.1, 0.1, 0.1])
    result = RandomisedAgreement().run(gather(frame, far_target(), candidate))
    assert result.status == FAILED
    assert result.message.startswith("The observational runs are confounded: gain ")
    assert "Fit the randomised runs alone" in result.action


def test_one_kind_of_runs_is_not_applicable():
    assert "All runs are randomised" in judge(RandomisedAgreement, make_frame(60)).message
    assert "No runs are known" in judge(RandomisedAgreement, make_frame(60, with_design=False)).message
    few = make_frame(60)
    few.loc[5:, MEANS] = np.nan
    assert judge(RandomisedAgreement, few).status == SKIPPED


def test_a_design_mean_of_its_own_is_no_randomised_run():
    frame = make_frame(60)
    frame.loc[30:, MEANS] += np.random.default_rng(0).normal(size=(30, 5))
    assert find_randomised(frame, DOMAINS).tolist() == [True] * 30 + [False] * 30
    assert not find_randomised(frame.drop(columns=MEANS), DOMAINS).any()


def test_effects_of_a_sound_sweep_carry_over():
    frame = make_frame(200)
    result = judge(LeaveOnePoolOut, frame)
    assert result.status == PASSED, result.message
    assert "4 clusters of states" in result.message
    frame["pool.store_fingerprint"] = np.resize(["a", "b", "c"], 200)
    assert "one of 3 pools (pool.store_fingerprint)" in judge(LeaveOnePoolOut, frame).message


def test_effects_that_turn_round_from_pool_to_pool_are_told():
    frame = make_frame(160)
    sign = np.where(np.arange(160) % 2 == 0, 1.0, -1.0)
    logs = np.log(frame["mixture.code"].to_numpy())
    frame = set_outcomes(frame, 50 + 2 * sign * logs + np.random.default_rng(0).normal(0, 0.3, 160))
    frame["pool.store_fingerprint"] = np.where(sign > 0, "a", "b")
    result = judge(LeaveOnePoolOut, frame)
    assert result.status == WARNING
    assert result.message.startswith("Effects do not carry over")


@pytest.mark.parametrize(
    ("column", "values", "expected", "n_groups"),
    [
        ("pool.store_fingerprint", np.resize(["a", "b"], 80), "pools (pool.store_fingerprint)", 2),
        ("pool.fingerprint", np.resize(["a", "b", "c"], 80), "pools (pool.fingerprint)", 3),
        ("pool.fingerprint", [f"own{i}" for i in range(80)], "clusters of states", 4),
        ("pool.store_fingerprint", ["one"] * 80, "clusters of states", 4),
        ("pool.store_fingerprint", np.resize([f"p{i}" for i in range(12)], 80), "groups of 12 pools", 5),
    ],
)
def test_what_is_left_out(column, values, expected, n_groups):
    frame = make_frame(80)
    frame[column] = values
    groups, what = find_groups(gather(frame))
    assert what.startswith(expected)
    assert sorted(set(groups.tolist())) == list(range(n_groups))


def test_clusters_are_quarters_along_the_main_direction():
    cfg = make_config()
    roles = assign_roles(make_runs(make_frame(80)), "signal", cfg.estimator, cfg.outcome)
    X = np.outer(np.arange(80.0), [1.0, 0.0, 0.5])
    groups, what = cluster_states(dataclasses.replace(roles, X=X, x_names=("a", "b", "c")))
    assert np.bincount(groups).tolist() == [20] * 4
    assert set(np.diff(groups).tolist()) <= {0, 1} or set(np.diff(groups).tolist()) <= {0, -1}
    assert "chiefly a, c" in what
    assert cluster_states(dataclasses.replace(roles, X=np.ones((80, 1)), x_names=("a",)))[0] is None


def share_pools(frame, moved=0.0):
    """Pairs of runs of one candidate pool each, with one state, but for what ``moved`` adds."""
    frame = frame.sort_values("run_id").reset_index(drop=True)
    states = [name for name in frame if name.startswith("state.")]
    odd = frame.index % 2 == 1
    frame.loc[odd, states] = frame.loc[~odd, states].to_numpy()
    frame.loc[odd, "state.hes"] += moved
    frame["pool.fingerprint"] = [f"pool{i // 2}" for i in range(len(frame))]
    return frame


def test_runs_of_one_candidate_pool_have_one_state():
    checks, _ = run(share_pools(make_frame(80)), "linear_dml")
    assert checks["CM019"].status == PASSED
    assert "40 candidate pools are shared by several runs" in checks["CM019"].message
    with pytest.raises(AnalysisError, match=r"\[CM019\] X looks measured on the mixture: runs of pool pool0, pool1"):
        run(share_pools(make_frame(80), moved=0.5), "linear_dml")
    allowed = run(share_pools(make_frame(80), 0.5), "linear_dml", allow_failed_checks=["CM019"])
    assert allowed[0]["CM019"].status == FAILED
    assert allowed[1].overruled == ("CM019",)


def test_fingerprints_that_cannot_compare_are_not_applicable():
    frame = make_frame(60)
    assert "no pool.fingerprint" in judge(OneStatePerPool, frame).message
    frame["pool.fingerprint"] = [f"own{i}" for i in range(60)]
    assert "No two of 60 runs share" in judge(OneStatePerPool, frame).message
    other_scale = share_pools(frame, moved=0.5)
    other_scale["pool.normaliser_fingerprint"] = np.resize(["a", "b"], 60)
    assert judge(OneStatePerPool, other_scale).status == SKIPPED
