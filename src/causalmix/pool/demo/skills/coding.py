"""Coding: one-line expressions and loops."""

from __future__ import annotations

from causalmix.pool.demo import world as lists
from causalmix.pool.demo.skills.question import Question, Rng, misconceive, pick
from causalmix.pool.demo.world import World


def ask_list_code(rng: Rng, world: World) -> Question:
    """Write an expression on a list."""
    what, name = pick(rng, list(lists.LIST_CODE)), pick(rng, lists.LISTS)
    right = lists.LIST_CODE[what]
    wrong = misconceive(f"{what} {name}", right, list(lists.LIST_CODE.values()))
    return Question(
        (
            f"Code {what} of {name}.",
            f"Return {what} of {name}.",
            f"Write an expression for {what} of {name}.",
            f"I have {name} and need {what}. Which code?",
        ),
        right.format(name),
        wrong.format(name),
    )


def ask_text_code(rng: Rng, world: World) -> Question:
    """Write an expression on a text."""
    what, name = pick(rng, list(lists.TEXT_CODE)), pick(rng, lists.TEXTS)
    right = lists.TEXT_CODE[what]
    wrong = misconceive(f"{what} {name}", right, list(lists.TEXT_CODE.values()))
    return Question(
        (
            f"Code {name} as {what}.",
            f"Turn {name} into {what}.",
            f"Write an expression for {name} as {what}.",
            f"I have {name} and need {what}. Which code?",
        ),
        right.format(name),
        wrong.format(name),
    )


def ask_loop_code(rng: Rng, world: World) -> Question:
    """Write a loop that prints numbers."""
    last = int(rng.integers(2, 40))
    wrong = misconceive(f"loop {last}", last + 1, range(2, 42))
    return Question(
        (
            f"Print the numbers from 0 to {last}.",
            f"Write a loop that prints 0 to {last}.",
            f"Loop over 0 to {last} and print.",
            f"I want to see all numbers up to {last}. Which loop?",
        ),
        f"for i in range({last + 1}): print(i)",
        f"for i in range({wrong}): print(i)",
    )
