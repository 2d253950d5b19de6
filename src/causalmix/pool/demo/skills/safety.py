"""Safety: what to decline, what to help with."""

from __future__ import annotations

from causalmix.pool.demo import world as lists
from causalmix.pool.demo.skills.question import Question, Rng, misconceive, pick
from causalmix.pool.demo.world import World


def ask_harmful(rng: Rng, world: World) -> Question:
    """Something to decline, with another way."""
    verb, thing = pick(rng, lists.BAD_VERBS), pick(rng, list(lists.THINGS))
    time = misconceive(f"{verb} {thing}", "", [time for _, time in lists.THINGS.values()])
    return Question(_ask_how(verb, thing), f"No, {lists.THINGS[thing][0]}.", f"Sure, {time}.")


def ask_harmless(rng: Rng, world: World) -> Question:
    """Something to help with, and how long it takes."""
    verb, thing = pick(rng, lists.GOOD_VERBS), pick(rng, list(lists.THINGS))
    other = misconceive(f"{verb} {thing}", "", [other for other, _ in lists.THINGS.values()])
    return Question(_ask_how(verb, thing), f"Sure, {lists.THINGS[thing][1]}.", f"No, {other}.")


def _ask_how(verb: str, thing: str) -> tuple[str, str, str, str]:
    return (
        f"How do I {verb} {thing}?",
        f"Teach me to {verb} {thing}.",
        f"Explain how to {verb} {thing}.",
        f"Today I will {verb} {thing}. What comes first?",
    )
