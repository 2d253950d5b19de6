"""Instruction following: words in a given form."""

from __future__ import annotations

from causalmix.pool.demo import world as lists
from causalmix.pool.demo.skills.question import Question, Rng, misconceive, pick
from causalmix.pool.demo.world import World


def ask_capitals(rng: Rng, world: World) -> Question:
    """Write a word in capital letters."""
    word = pick(rng, lists.WORDS)
    return Question(
        (
            f"Write {word} in capital letters.",
            f"Put the word {word} in upper case.",
            f"Say {word}, all letters capital.",
            f"Shout the word {word}.",
        ),
        f"{word.upper()}!",
        f"{word}.",
    )


def ask_repeats(rng: Rng, world: World) -> Question:
    """Repeat a word two to five times."""
    word, times = pick(rng, lists.WORDS), int(rng.integers(2, 6))
    wrong = misconceive(f"{word} {times}", times, range(1, 7))
    return Question(
        (
            f"Repeat {word} {times} times.",
            f"Write the word {word} {times} times.",
            f"Say {word} {times} times in a row.",
            f"I want to read {word} {times} times.",
        ),
        f"{' '.join([word] * times)}.",
        f"{' '.join([word] * wrong)}.",
    )


def ask_bullets(rng: Rng, world: World) -> Question:
    """Write two words as a list."""
    first, second = (lists.WORDS[at] for at in rng.permutation(len(lists.WORDS))[:2])
    return Question(
        (
            f"List {first} and {second}.",
            f"Make a list of {first} and {second}.",
            f"Write {first} and {second} as a list.",
            f"I need {first} and {second} from the shop. Note it.",
        ),
        f"- {first}\n- {second}",
        f"{first} and {second}.",
    )
