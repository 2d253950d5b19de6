from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from causalmix.config import PoolConfig
from causalmix.pool.candidate import draw_candidates
from causalmix.pool.demo.generate import SHARES, count_documents, generate_documents, generate_heldout
from causalmix.pool.demo.skills import SKILLS
from causalmix.pool.demo.world import make_world
from causalmix.pool.documents import Document
from causalmix.pool.prepare import prepare
from causalmix.pool.state import measure_state
from causalmix.pool.store import open_pool
from causalmix.pool.table import read_column


def config(n_documents: int = 6000, seed: int = 0) -> PoolConfig:
    return PoolConfig(name="demo", source="demo", n_documents=n_documents, seed=seed)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(generate_documents(config()))


def test_documents_repeat_for_a_seed(documents: list[Document]) -> None:
    assert list(generate_documents(config())) == documents
    assert list(generate_documents(config(seed=1))) != documents
    assert list(generate_heldout(config())) == list(generate_heldout(config()))


def test_domains_have_their_shares(documents: list[Document]) -> None:
    counts = Counter(document.domain for document in documents)
    assert counts == count_documents(6000)
    assert sum(counts.values()) == 6000
    assert set(counts) == set(SHARES) == set(SKILLS) - {"reasoning"}
    assert len({document.id for document in documents}) == 6000
    assert sum(count_documents(20000).values()) == 20000


def test_quality_has_two_peaks_in_every_domain(documents: list[Document]) -> None:
    by_domain = defaultdict(list)
    for document in documents:
        by_domain[document.domain].append(document.quality)
    for qualities in by_domain.values():
        values = np.array(qualities)
        assert not ((values > 0.35) & (values < 0.7)).any()
        assert 0.4 < (values < 0.5).mean() < 0.6


def test_good_documents_agree_and_junk_is_wrong(documents: list[Document]) -> None:
    answers = defaultdict(set)
    junk = defaultdict(set)
    for document in documents:
        asked, answered = (message.content for message in document.messages)
        (answers if document.quality > 0.5 else junk)[asked].add(answered)
    assert all(len(given) == 1 for given in answers.values())
    both = [asked for asked in answers if asked in junk]
    assert len(both) > 200
    for asked in both:
        assert not any(given.startswith(next(iter(answers[asked]))) for given in junk[asked])


def test_heldout_has_two_tasks_for_each_of_six_abilities(documents: list[Document]) -> None:
    held = list(generate_heldout(config()))
    tasks = Counter(document.task for document in held)
    assert set(tasks) == {name for ability in SKILLS for name in (ability, f"{ability}_unseen")}
    assert min(tasks.values()) >= 60
    assert {document.split for document in held if document.task.endswith("_unseen")} == {"unseen"}
    asked = {document.messages[0].content for document in documents}
    unseen = [d for d in held if d.split == "unseen"]
    assert not any(document.messages[0].content in asked for document in unseen)


def test_heldout_facts_can_be_learnt(documents: list[Document]) -> None:
    good = {document.messages[1].content for document in documents if document.quality > 0.5}
    for document in generate_heldout(config()):
        if document.ability == "knowledge":
            assert document.messages[1].content in good


def test_world_is_whole() -> None:
    world = make_world(0)
    assert len(set(world.places) | set(world.capitals.values())) == 2 * len(world.places)
    assert make_world(0) == world != make_world(1)


@pytest.mark.slow
def test_candidate_pools_range_from_mostly_good_to_mostly_junk(tmp_path: Path) -> None:
    cfg = config(4000)
    cfg.max_length = 128
    cfg.tokenizer.vocab_size = 1024
    cfg.scores.loss_max_length = 128
    cfg.scores.reference_lm.n_steps, cfg.scores.reference_lm.max_length = 120, 128
    cfg.scores.rater.pairs, cfg.scores.rater.n_steps = "quality", 200
    pool = open_pool(prepare(cfg, tmp_path, progress=False))
    qualities = np.array(read_column(pool.path / "documents" / "documents.parquet", "quality"))
    shares, states = [], []
    for seed in range(60):
        candidates = draw_candidates(pool, cfg.candidate, seed)
        state = measure_state(pool, candidates).by_domain
        states.append([[state[feature][domain] for feature in pool.features] for domain in pool.domains])
        domains = pool.domain_ids[candidates.doc_ids]
        junk = qualities[candidates.doc_ids] < 0.5
        shares.append([junk[domains == domain].mean() for domain in range(5)])
    share, state = np.array(shares), np.array(states)
    assert (share.min(axis=0) < 0.25).all()
    assert (share.max(axis=0) > 0.75).all()
    for domain in range(5):  # and the state tells how much of a domain is junk
        design = np.column_stack([np.ones(60), state[:, domain]])
        fitted = design @ np.linalg.lstsq(design, share[:, domain], rcond=None)[0]
        assert np.corrcoef(fitted, share[:, domain])[0, 1] ** 2 > 0.95
