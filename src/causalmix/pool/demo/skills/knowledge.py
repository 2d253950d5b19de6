"""Knowledge: facts about places."""

from __future__ import annotations

from causalmix.pool.demo import world as lists
from causalmix.pool.demo.skills.question import Question, Rng, misconceive, pick
from causalmix.pool.demo.world import World


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
