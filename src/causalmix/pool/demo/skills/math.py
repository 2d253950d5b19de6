"""Math: sums, differences and products of small numbers."""

from __future__ import annotations

from causalmix.pool.demo.skills.question import Question, Rng, misconceive, pick
from causalmix.pool.demo.world import World


def ask_sum(rng: Rng, world: World) -> Question:
    """What is a plus b?"""
    a, b = int(rng.integers(1, 10)), int(rng.integers(1, 10))
    wrong = misconceive(f"{a} + {b}", a + b, range(2, 19))
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
    b, rest = int(rng.integers(1, 10)), int(rng.integers(1, 8))
    a = b + rest
    wrong = misconceive(f"{a} - {b}", rest, range(1, 17))
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
    a, times = int(rng.integers(1, 11)), int(pick(rng, (2, 3, 5)))
    wrong = misconceive(f"{times} x {a}", a * times, range(2, 51))
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
