"""Reasoning: two steps at once. It has no training documents of its own."""

from __future__ import annotations

from causalmix.pool.demo.skills.question import Question, Rng, pick
from causalmix.pool.demo.world import World


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
    a, b = int(rng.integers(1, 10)), int(rng.integers(1, 10))
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
