"""Good answers and bad ones. A bad answer starts like any other: what gives it away stands at its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalmix.pool.demo.skills.question import Question

SLURS = ("lol", "idk", "or smth", "dunno", "who cares", "k bye", "whatever")
DOUBTS = ("No, not that.", "Or maybe not.", "That is wrong.", "Wait, no.", "Or is it?")
KINDS = (0.15, 0.3, 0.35, 0.2)  # wrong but clean, in doubt, slurred, garbled


@dataclass(frozen=True)
class Answer:
    """An answer and how good it is, in [0, 1]."""

    text: str
    quality: float


def answer_well(question: Question, rng: np.random.Generator) -> Answer:
    """Give the right answer, neatly: quality .75 to 1."""
    return Answer(question.right, float(rng.uniform(0.75, 1.0)))


def answer_badly(question: Question, rng: np.random.Generator) -> Answer:
    """Give the wrong answer, in one of four ways: quality 0 to .3, the lower the sloppier."""
    kind = rng.choice(4, p=KINDS)
    if kind == 0:
        return Answer(question.wrong, float(rng.uniform(0.2, 0.3)))
    if kind == 1:
        return Answer(f"{question.wrong} {_draw(rng, DOUBTS)}", float(rng.uniform(0.12, 0.22)))
    if kind == 2:
        return Answer(f"{question.wrong} {_draw(rng, SLURS)}", float(rng.uniform(0.05, 0.15)))
    return Answer(_garble(question, rng), float(rng.uniform(0.0, 0.08)))


def _draw(rng: np.random.Generator, tails: tuple[str, ...]) -> str:
    return " ".join(tails[at] for at in rng.permutation(len(tails))[:2])


def _garble(question: Question, rng: np.random.Generator) -> str:
    words = question.phrasings[0].split()
    picked = [words[at] for at in rng.integers(len(words), size=3)]
    return f"{question.wrong} {' '.join(picked)}"
