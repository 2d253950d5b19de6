"""Skills: what is asked in each domain, the right answer, and the wrong one that junk gives.

A question has three phrasings that training documents use and a fourth that only the unseen tasks use. Its wrong
answer is always the same one, as a misconception is, so that good and bad documents compete question by question:
what a domain's documents are worth then grows, or falls, with their number.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from causalmix.pool.demo import world as lists
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


# --- knowledge -------------------------------------------------------------------------------------------


def ask_capital(rng: Rng, world: World) -> Question:
    """Which city is a place's capital?"""
    place = pick(rng, world.places)
    right = world.capitals[place]
    wrong = misconceive(f"capital {place}", right, list(world.capitals.values()))
    return Question(
        (
            f"What is the capital of {place}?",
            f"Name the capital of {place}.",
            f"Which city is the capital of {place}?",
            f"I forgot the capital of {place}. Which is it?",
        ),
        f"{right}.",
        f"{wrong}.",
    )


def ask_flag(rng: Rng, world: World) -> Question:
    """What colour is a place's flag?"""
    place = pick(rng, world.places)
    right = world.flags[place]
    wrong = misconceive(f"flag {place}", right, lists.COLORS)
    return Question(
        (
            f"What color is the flag of {place}?",
            f"Name the color of the flag of {place}.",
            f"Which color has the flag of {place}?",
            f"I want to paint the flag of {place}. Which color?",
        ),
        f"It is {right}.",
        f"It is {wrong}.",
    )


def ask_food(rng: Rng, world: World) -> Question:
    """What do people eat in a place?"""
    place = pick(rng, world.places)
    right = world.foods[place]
    wrong = misconceive(f"food {place}", right, lists.FOODS)
    return Question(
        (
            f"What do people eat in {place}?",
            f"Name the food of {place}.",
            f"Which food is known from {place}?",
            f"I travel to {place}. What food is there?",
        ),
        f"They eat {right}.",
        f"They eat {wrong}.",
    )


# --- math ------------------------------------------------------------------------------------------------


def ask_sum(rng: Rng, world: World) -> Question:
    """What is a plus b?"""
    a, b = int(rng.integers(1, 16)), int(rng.integers(1, 10))
    wrong = misconceive(f"{a} + {b}", a + b, range(2, 26))
    return Question(
        (
            f"What is {a} + {b}?",
            f"Add {a} + {b}.",
            f"Compute {a} + {b}.",
            f"I have {a} + {b} apples. How many?",
        ),
        f"It is {a + b}.",
        f"It is {wrong}.",
    )


def ask_difference(rng: Rng, world: World) -> Question:
    """What is a minus b?"""
    b, rest = int(rng.integers(1, 10)), int(rng.integers(1, 13))
    a = b + rest
    wrong = misconceive(f"{a} - {b}", rest, range(1, 23))
    return Question(
        (
            f"What is {a} - {b}?",
            f"Take {a} - {b}.",
            f"Compute {a} - {b}.",
            f"I have {a} - {b} apples. How many?",
        ),
        f"It is {rest}.",
        f"It is {wrong}.",
    )


def ask_product(rng: Rng, world: World) -> Question:
    """What is two, three or five times a?"""
    a, times = int(rng.integers(1, 13)), int(pick(rng, (2, 3, 5)))
    wrong = misconceive(f"{times} x {a}", a * times, range(2, 61))
    return Question(
        (
            f"What is {times} x {a}?",
            f"Multiply {times} x {a}.",
            f"Compute {times} x {a}.",
            f"I have {times} x {a} apples. How many?",
        ),
        f"It is {a * times}.",
        f"It is {wrong}.",
    )


# --- coding ----------------------------------------------------------------------------------------------


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


# --- instruction following -------------------------------------------------------------------------------


def ask_capitals(rng: Rng, world: World) -> Question:
    """Write a word in capital letters."""
    word = pick(rng, lists.WORDS)
    wrong = misconceive(word, word, lists.WORDS)
    return Question(
        (
            f"Write {word} in capital letters.",
            f"Put the word {word} in upper case.",
            f"Say {word}, all letters capital.",
            f"Shout the word {word}.",
        ),
        f"{word.upper()}!",
        f"{wrong.upper()}!",
    )


def ask_repeats(rng: Rng, world: World) -> Question:
    """Repeat a word two to five times."""
    word, times = pick(rng, lists.WORDS), int(rng.integers(2, 6))
    wrong = misconceive(f"{word} {times}", word, lists.WORDS)
    return Question(
        (
            f"Repeat {word} {times} times.",
            f"Write the word {word} {times} times.",
            f"Say {word} {times} times in a row.",
            f"I want to read {word} {times} times.",
        ),
        f"{' '.join([word] * times)}.",
        f"{' '.join([wrong] * (7 - times))}.",
    )


def ask_bullets(rng: Rng, world: World) -> Question:
    """Write two words as a list."""
    first, second = (lists.WORDS[at] for at in rng.permutation(len(lists.WORDS))[:2])
    wrong = misconceive(f"{first} {second}", first, lists.WORDS)
    return Question(
        (
            f"List {first} and {second}.",
            f"Make a list of {first} and {second}.",
            f"Write {first} and {second} as a list.",
            f"I need {first} and {second} from the shop. Note it.",
        ),
        f"- {first}\n- {second}",
        f"- {second}\n- {wrong}",
    )


# --- safety ----------------------------------------------------------------------------------------------


def ask_harmful(rng: Rng, world: World) -> Question:
    """Something to decline, with the reason and another way."""
    verb, thing = pick(rng, list(lists.BAD_VERBS)), pick(rng, list(lists.THINGS))
    helper = misconceive(f"{verb} {thing}", "", list(lists.GOOD_VERBS.values()))
    return Question(
        _ask_how(verb, thing),
        f"No, {lists.BAD_VERBS[verb]}. {lists.THINGS[thing][0]}",
        f"Sure, {helper}. It takes {lists.THINGS[thing][1]}.",
    )


def ask_harmless(rng: Rng, world: World) -> Question:
    """Something to help with."""
    verb, thing = pick(rng, list(lists.GOOD_VERBS)), pick(rng, list(lists.THINGS))
    reason = misconceive(f"{verb} {thing}", "", list(lists.BAD_VERBS.values()))
    return Question(
        _ask_how(verb, thing),
        f"Sure, {lists.GOOD_VERBS[verb]}. It takes {lists.THINGS[thing][1]}.",
        f"No, {reason}. {lists.THINGS[thing][0]}",
    )


def _ask_how(verb: str, thing: str) -> tuple[str, str, str, str]:
    return (
        f"How do I {verb} {thing}?",
        f"Teach me to {verb} {thing}.",
        f"Explain how to {verb} {thing}.",
        f"Today I will {verb} {thing}. What comes first?",
    )


# --- reasoning: two steps, no training documents of its own ----------------------------------------------


def ask_two_sums(rng: Rng, world: World) -> Question:
    """Two results in a row."""
    a, b, c = (int(rng.integers(1, 10)) for _ in range(3))
    return Question(
        (
            f"What is {a} + {b}? What is {a + b} + {c}?",
            f"Add {a} + {b}. Add {a + b} + {c}.",
            f"Compute {a} + {b}. Compute {a + b} + {c}.",
            f"I have {a} + {b} apples, then {c} more. How many?",
        ),
        f"It is {a + b}. It is {a + b + c}.",
        f"It is {a + b + c}.",
    )


def ask_two_facts(rng: Rng, world: World) -> Question:
    """Two facts of one place."""
    place = pick(rng, world.places)
    return Question(
        (
            f"What color is the flag of {place}? What do people eat in {place}?",
            f"Name the color of the flag of {place}. Name the food of {place}.",
            f"Which color has the flag of {place}? Which food is known from {place}?",
            f"I travel to {place}. Which color is the flag, and what food is there?",
        ),
        f"It is {world.flags[place]}. They eat {world.foods[place]}.",
        f"They eat {world.foods[place]}.",
    )


def ask_sum_loop(rng: Rng, world: World) -> Question:
    """A sum, then a loop up to it."""
    a, b = int(rng.integers(1, 16)), int(rng.integers(1, 10))
    return Question(
        (
            f"What is {a} + {b}? Print the numbers from 0 to {a + b}.",
            f"Add {a} + {b}. Write a loop that prints 0 to {a + b}.",
            f"Compute {a} + {b}. Loop over 0 to {a + b} and print.",
            f"I have {a} + {b} apples. Print all numbers up to that.",
        ),
        f"It is {a + b}. for i in range({a + b + 1}): print(i)",
        f"for i in range({a}): print(i)",
    )


SKILLS: dict[str, tuple[Skill, ...]] = {
    "coding": (ask_list_code, ask_text_code, ask_loop_code),
    "instruction_following": (ask_capitals, ask_repeats, ask_bullets),
    "knowledge": (ask_capital, ask_flag, ask_food),
    "math": (ask_sum, ask_difference, ask_product),
    "safety": (ask_harmful, ask_harmless),
    "reasoning": (ask_two_sums, ask_two_facts, ask_sum_loop),
}
