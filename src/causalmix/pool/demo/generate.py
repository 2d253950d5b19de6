"""The documents of the demo pool: five domains of unequal size, about half of each spoilt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from causalmix.config import PoolConfig
from causalmix.pool.demo.junk import answer_badly, answer_well
from causalmix.pool.demo.skills import SKILLS
from causalmix.pool.demo.skills.question import N_PHRASINGS, Skill
from causalmix.pool.demo.world import World, make_world
from causalmix.pool.documents import Document, HeldoutDocument, Message

GENERATOR_VERSION = 1  # raise it where the documents of a seed change
SHARES = {"coding": 0.2, "instruction_following": 0.25, "knowledge": 0.3, "math": 0.15, "safety": 0.1}
JUNK_SHARE = 0.5
N_HELDOUT = 80  # documents a task, at most: tasks with fewer different questions have fewer


def generate_documents(cfg: PoolConfig) -> Iterator[Document]:
    """Yield ``cfg.n_documents`` training documents, each with its ``quality``.

    Yields
    ------
    Document
        Domain by domain; ids are ``<domain>-<number>``.
    """
    world = make_world(cfg.seed)
    for at, (domain, count) in enumerate(count_documents(cfg.n_documents).items()):
        rng = np.random.default_rng([cfg.seed, 2, at])
        for number in range(count):
            question = _draw_skill(rng, domain)(rng, world)
            asked = question.phrasings[int(rng.integers(N_PHRASINGS))]
            answer = (answer_badly if rng.random() < JUNK_SHARE else answer_well)(question, rng)
            yield Document(f"{domain}-{number:06d}", domain, _converse(asked, answer.text), answer.quality)


def generate_heldout(cfg: PoolConfig) -> Iterator[HeldoutDocument]:
    """Yield right answers for six abilities, two tasks each: ``<ability>`` and ``<ability>_unseen``.

    The unseen tasks have a phrasing that no training document uses.

    Yields
    ------
    HeldoutDocument
        Questions differ within a task. Reasoning, two steps at once, has no training documents.
    """
    world = make_world(cfg.seed)
    for at, ability in enumerate(SKILLS):
        for split, task in (("dev", ability), ("unseen", f"{ability}_unseen")):
            rng = np.random.default_rng([cfg.seed, 3, at, split == "unseen"])
            drawn = _draw_different(rng, ability, world, split == "unseen")
            for number, (asked, right) in enumerate(drawn):
                yield HeldoutDocument(f"{task}-{number:03d}", ability, task, split, _converse(asked, right))


def count_documents(n_documents: int) -> dict[str, int]:
    """Split a number of documents over the domains by their natural shares, at least one each."""
    counts = {domain: max(1, int(share * n_documents)) for domain, share in SHARES.items()}
    counts["knowledge"] += max(0, n_documents - sum(counts.values()))
    return counts


def _draw_different(rng: np.random.Generator, ability: str, world: World, unseen: bool) -> dict[tuple[str, str], None]:
    drawn: dict[tuple[str, str], None] = {}
    for _ in range(20 * N_HELDOUT):
        question = _draw_skill(rng, ability)(rng, world)
        phrasing = N_PHRASINGS if unseen else int(rng.integers(N_PHRASINGS))
        drawn[question.phrasings[phrasing], question.right] = None
        if len(drawn) == N_HELDOUT:
            break
    return drawn


def _draw_skill(rng: np.random.Generator, ability: str) -> Skill:
    skills = SKILLS[ability]
    return skills[int(rng.integers(len(skills)))]


def _converse(asked: str, answered: str) -> tuple[Message, ...]:
    return (Message("user", asked), Message("assistant", answered))
