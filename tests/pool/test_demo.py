from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from causalmix.config import PoolConfig
from causalmix.pool.demo.generate import SHARES, count_documents, generate_documents, generate_heldout
from causalmix.pool.demo.skills import SKILLS
from causalmix.pool.demo.world import make_world
from causalmix.pool.documents import Document


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
