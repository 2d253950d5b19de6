"""What is asked: the phrasings, the right answer, and the wrong one that junk gives.

A question has three phrasings that training documents use and a fourth that only the unseen tasks use. Its
wrong answer is always the same one, as a misconception is, so that good and bad documents compete question by
question: what a domain's documents are worth then grows, or falls, with their number.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from causalmix.pool.demo.world import World

N_PHRASINGS = 3  # of training; the one after them is unseen
Rng = np.random.Generator
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What is asked, in all phrasings, and two answers."""

    phrasings: tuple[str, str, str, str]
    right: str
    wrong: str


Skill = Callable[[Rng, World], Question]


def pick(rng: Rng, items: Sequence[T]) -> T:
    """Draw one item."""
    return items[int(rng.integers(len(items)))]


def misconceive(question: str, right: T, items: Sequence[T]) -> T:
    """Choose the wrong item that ``question`` is always answered with: another than ``right``."""
    others = [item for item in items if item != right]
    return others[zlib.crc32(question.encode()) % len(others)]
