"""Bad answers, from wrong but clean to garbled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalmix.pool.demo.skills import Question

OPENERS = ("idk maybe", "um well", "lol ok", "whatever", "hmm i guess")
CLOSERS = ("lol", "or smth", "dunno", "who cares", "k bye")


@dataclass(frozen=True)
class Answer:
    """An answer and how good it is, in [0, 1]."""

    text: str
    quality: float


def answer_well(question: Question, rng: np.random.Generator) -> Answer:
    """Give the right answer, neatly: quality .75 to 1."""
    return Answer(question.right, float(rng.uniform(0.75, 1.0)))


def answer_badly(question: Question, rng: np.random.Generator) -> Answer:
    """Give one of four bad answers: quality 0 to .3, the lower the sloppier."""
    kind = rng.choice(4, p=(0.3, 0.25, 0.25, 0.2))
    if kind == 0:
        return Answer(question.wrong, float(rng.uniform(0.2, 0.3)))
    if kind == 1:
        return Answer(_contradict(question), float(rng.uniform(0.12, 0.22)))
    if kind == 2:
        return Answer(_slur(question, rng), float(rng.uniform(0.05, 0.15)))
    return Answer(_garble(question, rng), float(rng.uniform(0.0, 0.08)))


def _contradict(question: Question) -> str:
    return f"{question.wrong} No, that is not right.\n{question.right} Or not."


def _slur(question: Question, rng: np.random.Generator) -> str:
    said = question.right if rng.random() < 0.3 else question.wrong
    return f"{rng.choice(OPENERS)} {said.lower().rstrip('.!')} {rng.choice(CLOSERS)}"


def _garble(question: Question, rng: np.random.Generator) -> str:
    words = f"{question.wrong} {question.phrasings[0]}".split()
    kept = [words[at] for at in rng.permutation(len(words))]
    return " ".join(kept[: max(3, len(question.right.split()) + 1)])
