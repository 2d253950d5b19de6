"""Baselines answer through the policies' door: inside the box, repeatable, and with what they left out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.policies.mixing_law import maximise_penalised
from analysis.policies.propose import baseline_config, propose
from analysis.regressors.mixing_law import MixingLaw
from analysis.roles import assign_roles
from causalmix.config import EstimatorConfig, OutcomeConfig, PolicyConfig
from causalmix.errors import AnalysisError
from tests.analysis.synthetic import make_frame, make_runs
from tests.analysis.test_policies import KnownEffects, make_box, make_target

ESTIMATOR = EstimatorConfig(name="no_covariates", kind="no_covariates")


def read(frame):
    return assign_roles(make_runs(frame), "signal", ESTIMATOR, OutcomeConfig())


def ask(roles, name, target=None, **changes):
    n = len(roles.domains)
    target = target or dataclasses.replace(make_target([1 / n] * n, make_box(n, 0.02)), domains=roles.domains)
    cfg = dataclasses.replace(baseline_config(name, PolicyConfig()), **changes)
    return propose(KnownEffects([1.0] * n), roles, target, cfg)


def with_outcome(roles, outcome):
    """The same runs, every ability with this outcome."""
    return dataclasses.replace(roles, outcomes=np.repeat(outcome[:, None], len(roles.outcome_names), axis=1))


# --- regressors with a search ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mixing_law", "mixture_gp"])
def test_a_regressor_moves_towards_the_better_domain_and_repeats_itself(name):
    roles = read(make_frame(60, abilities=("one", "two")))
    roles = with_outcome(roles, 50 + 10 * roles.mixtures[:, 1] - 4 * roles.mixtures[:, 0])
    changes = {"n_candidates": 4000} if name == "mixture_gp" else {"kl_penalty": 0.05}
    first, second = (ask(roles, name, **changes) for _ in range(2))
    assert np.array_equal(first.weights, second.weights)
    assert np.argmax(first.weights) == 1
    assert first.weights[1] > 0.5
    assert make_box(5, 0.02).contains(first.weights, 1e-9)


def test_the_process_searches_as_regmix_does():
    cfg = baseline_config("mixture_gp", PolicyConfig())
    assert (cfg.n_candidates, cfg.n_best, cfg.seed) == (100_000, 128, 42)


def test_the_penalty_leads_back_to_the_reference():
    roles = read(make_frame(60, abilities=("one",)))
    roles = with_outcome(roles, 50 + 10 * roles.mixtures[:, 1])
    distances = [np.abs(ask(roles, "mixing_law", kl_penalty=p).weights - 0.2).sum() for p in (0.0, 0.3, 3.0, 1e4)]
    assert np.all(np.diff(distances) < 1e-9)
    assert distances[0] > 1.0
    assert distances[-1] < 1e-3
    assert "nats, at" in ask(roles, "mixing_law").notes[0]
    with pytest.raises(AnalysisError, match=r"policy\.kl_penalty=-1: 0 or more"):
        ask(roles, "mixing_law", kl_penalty=-1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_proposer_finds_what_a_lattice_finds(sign):
    law = MixingLaw()
    law.floor, law.sign, law.log_size, law.slopes = 0.0, sign, 0.0, np.array([0.5, -1.0, 1.5]) * sign
    target = make_target([0.5, 0.3, 0.2], make_box(3, 0.02, 0.9))
    found = maximise_penalised([law], np.ones(1), 0.7, target, seed=0)
    steps = np.arange(0.02, 0.9, 0.002)
    lattice = np.array([(a, b, 1 - a - b) for a in steps for b in steps if 0.02 <= 1 - a - b <= 0.9])

    def value(T):
        return law.predict(T) - 0.7 * (T * np.log(T / target.reference)).sum(axis=1)

    assert value(found[None, :])[0] >= value(lattice).max() - 1e-9
    assert target.box.contains(found)


# --- own share -------------------------------------------------------------------------------------------


def test_own_share_gives_every_outcome_its_domain():
    answer = ask(read(make_frame(30)), "own_share")  # abilities math and safety are domains too
    assert np.allclose(answer.weights, [0.02, 0.02, 0.02, 0.47, 0.47])
    assert answer.notes[0] == "Left out, having no domain of their own: coding, following, knowledge, reasoning."


def test_own_share_takes_names_by_hand():
    roles = read(make_frame(30))
    answer = ask(roles, "own_share", own_domains={"coding": "code", "reasoning": "code", "math": "math"})
    assert np.allclose(answer.weights, [0.94 * 2 / 3 + 0.0, 0.02, 0.02, 0.94 / 3, 0.02], atol=1e-9)
    with pytest.raises(AnalysisError, match=r"outcome 'codng' \(did you mean 'coding'\?\), domain 'mth' \(did you"):
        ask(roles, "own_share", own_domains={"codng": "code", "math": "mth"})


def test_own_share_says_when_nothing_matches():
    roles = read(make_frame(30, abilities=("one", "two")))
    with pytest.raises(AnalysisError, match=r"no domain has the name of an outcome \(one, two\).*policy\.own_domains"):
        ask(roles, "own_share")


# --- grid ------------------------------------------------------------------------------------------------


def test_the_best_lattice_run_of_another_cohort_answers():
    frame = make_frame(40)
    frame.loc[30:, "cohort"] = "grid"
    frame.loc[0, "outcome.coding"] += 600.0  # the best of all, but no lattice run
    frame["outcome.avg_dev"] = frame[[c for c in frame if c.startswith("outcome.") and c != "outcome.avg_dev"]].mean(
        axis=1
    )
    roles = read(frame)
    answer = ask(roles, "grid")
    best = frame.loc[frame.loc[30:, "outcome.avg_dev"].idxmax()]
    assert np.allclose(answer.weights, [best[f"mixture.{d}"] for d in roles.domains])
    assert f"The best of 10 lattice runs is {best['run_id']}" in answer.notes[0]


def test_fitted_runs_of_a_lattice_answer_too():
    frame = make_frame(40)
    frame["design.kind"] = ["grid" if i % 4 == 0 else "dirichlet" for i in range(40)]
    roles = read(frame)
    best = max(range(0, 40, 4), key=lambda i: roles.Y[i])
    assert np.allclose(ask(roles, "grid").weights, roles.mixtures[best])
    half = roles.take(np.arange(0, 40, 2))
    assert half.designs == roles.designs[::2]
    assert f"The best of 10 lattice runs is {roles.run_ids[best]}" in ask(half, "grid").notes[0]


def test_without_a_lattice_grid_says_how_to_make_one():
    frame = make_frame(40)
    frame.loc[30:, "cohort"] = "anchor"
    with pytest.raises(AnalysisError, match=r"no complete run of cohort=grid.*other cohorts: anchor.*mixture=grid"):
        ask(read(frame), "grid")
