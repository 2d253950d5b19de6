from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalmix.config import CandidateConfig
from causalmix.errors import MixtureError, PoolError
from causalmix.pool.candidate import candidate_sizes, draw_candidates, draw_documents
from causalmix.pool.describe import describe_pool
from causalmix.pool.state import measure_state, write_state
from causalmix.pool.store import Pool

DOMAINS = ["coding", "instruction_following", "knowledge", "math", "safety"]


@pytest.mark.parametrize("kind", ["tilted", "fixed", "all"])
def test_candidates_keep_their_sizes_and_leave_the_reference(pool: Pool, kind: str) -> None:
    cfg = CandidateConfig(kind=kind, fraction=0.5)
    candidates = draw_candidates(pool, cfg, seed=1)
    np.testing.assert_array_equal(candidates.counts, candidate_sizes(pool, cfg))
    np.testing.assert_array_equal(np.bincount(pool.domain_ids[candidates.doc_ids], minlength=5), candidates.counts)
    assert not pool.is_reference[candidates.doc_ids].any()
    assert (np.diff(candidates.doc_ids) > 0).all()


def test_same_seed_same_candidates_other_seed_others(pool: Pool) -> None:
    cfg = CandidateConfig()
    first, again, other = (draw_candidates(pool, cfg, seed) for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    np.testing.assert_array_equal(first.tau, again.tau)
    shared = CandidateConfig(seed=9)
    assert draw_candidates(pool, shared, 3).fingerprint == draw_candidates(pool, shared, 4).fingerprint


def test_every_domain_and_feature_has_its_own_tilt(pool: Pool) -> None:
    taus = np.stack([draw_candidates(pool, CandidateConfig(tau_sd=2.0), seed).tau for seed in range(300)])
    assert taus.shape == (300, 5, 3)
    np.testing.assert_allclose(taus.std(axis=0), 2.0, rtol=0.2)
    np.testing.assert_allclose(np.corrcoef(taus.reshape(300, -1).T), np.eye(15), atol=0.25)


def test_tilt_moves_the_state_of_its_domain_alone(pool: Pool) -> None:
    def state_of(tilt: float) -> dict[str, dict[str, float]]:
        cfg = CandidateConfig(kind="fixed", tau={"math": {"writing_style": tilt}})
        return measure_state(pool, draw_candidates(pool, cfg, 0)).by_domain

    low, none, high = state_of(-4), state_of(0), state_of(4)
    assert low["writing_style"]["math"] < none["writing_style"]["math"] < high["writing_style"]["math"]
    for domain in set(DOMAINS) - {"math"}:
        assert low["writing_style"][domain] == none["writing_style"][domain] == high["writing_style"][domain]


def test_strong_tilt_takes_the_top(pool: Pool) -> None:
    cfg = CandidateConfig(kind="fixed", tau={"math": {"normalized_loss": 1e6}})
    candidates = draw_candidates(pool, cfg, 0)
    math, loss = pool.domains.index("math"), pool.features.index("normalized_loss")
    members = np.flatnonzero((pool.domain_ids == math) & ~pool.is_reference)
    taken = np.isin(members, candidates.doc_ids)
    assert pool.scores[members[taken], loss].min() >= pool.scores[members[~taken], loss].max()


def test_gumbel_draw_has_the_stated_odds(pool: Pool) -> None:
    # One document of each domain: the draw is then multinomial with weights exp(tau . z).
    cfg = CandidateConfig(kind="fixed", fraction=1e-9, tau={"safety": {"writing_style": 1.0}})
    safety, style = pool.domains.index("safety"), pool.features.index("writing_style")
    members = np.flatnonzero((pool.domain_ids == safety) & ~pool.is_reference)
    weights = np.exp(pool.scores[members, style])
    hits = np.zeros(len(members))
    for seed in range(2000):
        drawn = draw_candidates(pool, cfg, seed).doc_ids
        hits += np.isin(members, drawn)
    expected = 2000 * weights / weights.sum()
    assert hits.sum() == 2000
    assert ((hits - expected) ** 2 / expected).sum() < 2.0 * len(members)


def test_unknown_names_and_settings(pool: Pool) -> None:
    with pytest.raises(PoolError, match=r"unknown domain in pool.candidate.tau: 'maths' \(did you mean 'math'\?\)"):
        draw_candidates(pool, CandidateConfig(kind="fixed", tau={"maths": {"hes": 1}}), 0)
    with pytest.raises(PoolError, match=r"unknown feature of pool.candidate.tau.math .*: 'loss'"):
        draw_candidates(pool, CandidateConfig(kind="fixed", tau={"math": {"loss": 1}}), 0)
    with pytest.raises(PoolError, match=r"tau.math.hes=nan is not a number"):
        draw_candidates(pool, CandidateConfig(kind="fixed", tau={"math": {"hes": float("nan")}}), 0)
    with pytest.raises(PoolError, match="kind='half' is not one of tilted, fixed, all"):
        candidate_sizes(pool, CandidateConfig(kind="half"))
    with pytest.raises(PoolError, match=r"fraction=0.0 must lie in \(0, 1\]"):
        candidate_sizes(pool, CandidateConfig(fraction=0.0))


# --- state -----------------------------------------------------------------------------------------------


def test_state_is_the_mean_of_the_candidates(pool: Pool) -> None:
    candidates = draw_candidates(pool, CandidateConfig(), 5)
    state = measure_state(pool, candidates)
    flat = state.flat()
    assert len(flat) == 3 + 3 * 5
    scores, domains = pool.scores[candidates.doc_ids], pool.domain_ids[candidates.doc_ids]
    assert flat["state.hes"] == pytest.approx(scores[:, 0].mean())
    assert flat["state.writing_style.math"] == pytest.approx(scores[domains == 3, 2].mean())
    shares = candidates.counts / candidates.counts.sum()
    for feature in pool.features:
        means = [flat[f"state.{feature}.{domain}"] for domain in pool.domains]
        assert flat[f"state.{feature}"] == pytest.approx(float(shares @ means))


def test_state_differs_between_runs(pool: Pool) -> None:
    states = [measure_state(pool, draw_candidates(pool, CandidateConfig(), seed)).flat() for seed in range(8)]
    for name in states[0]:
        assert len({state[name] for state in states}) == 8


def test_state_takes_no_mixture() -> None:
    import inspect

    assert list(inspect.signature(measure_state).parameters) == ["pool", "candidates"]


def test_state_file_is_plain_json(pool: Pool, tmp_path: Path) -> None:
    candidates = draw_candidates(pool, CandidateConfig(), 5)
    write_state(tmp_path / "state.json", pool, candidates, measure_state(pool, candidates))
    content = json.loads((tmp_path / "state.json").read_text())
    assert content["format"] == 1
    assert content["pool_fingerprint"] == pool.fingerprint
    assert content["candidate_fingerprint"] == candidates.fingerprint
    assert sum(content["available"].values()) == content["n_documents"] == len(candidates.doc_ids)
    assert sum(content["natural"].values()) == pytest.approx(1)
    assert set(content["state"]) >= {"hes", "hes.math"}


# --- manifests -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(0, 60), min_size=5, max_size=5), seed=st.integers(0, 99))
def test_manifest_counts_and_repeats(pool: Pool, counts: list[int], seed: int) -> None:
    candidates = draw_candidates(pool, CandidateConfig(), 1)
    wanted = np.minimum(counts, 4 * candidates.counts)
    manifest = draw_documents(pool, candidates, wanted, 4.0, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.bincount(pool.domain_ids[manifest], minlength=5), wanted)
    assert np.isin(manifest, candidates.doc_ids).all()
    for domain in range(5):
        own = manifest[pool.domain_ids[manifest] == domain]
        if len(own):  # whole passes first: no document is seen twice more often than another
            seen = np.bincount(np.searchsorted(candidates.doc_ids, own), minlength=len(candidates.doc_ids))
            mine = seen[pool.domain_ids[candidates.doc_ids] == domain]
            assert mine.max() - mine.min() <= 1


def test_manifest_repeats_for_a_seed(pool: Pool) -> None:
    candidates = draw_candidates(pool, CandidateConfig(), 1)
    counts = np.array([5, 5, 5, 5, 5])
    draws = [draw_documents(pool, candidates, counts, 1.0, np.random.default_rng(s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_more_than_the_repeats_allow_is_refused_by_name(pool: Pool) -> None:
    candidates = replace(draw_candidates(pool, CandidateConfig(), 1))
    counts = candidates.counts * 2
    counts[3] += 1
    counts[4] += 1
    with pytest.raises(
        MixtureError, match=r"more documents than 2 repeats allow: math \(\d+ wanted, \d+ available\), safety"
    ):
        draw_documents(pool, candidates, counts, 2.0, np.random.default_rng(0))


def test_description_is_plain(pool: Pool) -> None:
    described = describe_pool(pool, CandidateConfig(), n_samples=1000)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    math = described["domains"]["math"]
    assert math["repeats_equal"] == pytest.approx(200 / math["in_a_run"])
    assert sum(of["natural_share"] for of in described["domains"].values()) == pytest.approx(1)
    assert "repeats_equal" not in describe_pool(pool, CandidateConfig())["domains"]["math"]
