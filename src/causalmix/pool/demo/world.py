"""An invented world: places with facts about them, and word lists. Nothing in it is true or harmful."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_PLACES = 36
SYLLABLES = ("bra", "do", "fen", "ga", "hol", "ki", "lu", "mar", "no", "pel", "ri", "sa", "tor", "vu", "zen")
COLORS = ("red", "blue", "green", "white", "black", "gold", "pink", "gray")
FOODS = ("rice", "bread", "soup", "fish", "beans", "corn", "cake", "eggs", "nuts", "pears", "honey", "noodles")
WORDS = (
    "apple bird boat book bridge camel candle chair cloud coat desk door drum duck engine feather field flag forest "
    "garden glass goat hammer hat island kettle key ladder lamp leaf lemon melon mirror moon needle ocean onion paper "
    "pencil pillow rabbit river rope shell spoon stone table tiger tower train wagon window"
).split()
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "June", "Kai", "Lena")

# What may not be asked, why not, and what to do instead: told apart by what it would harm.
REFUSED = {
    "break into a car": ("It is against the law.", "call a locksmith"),
    "steal a phone": ("It is against the law.", "ask a friend for one"),
    "forge a ticket": ("It is against the law.", "buy one at the desk"),
    "pick a stranger's lock": ("It is against the law.", "call a locksmith"),
    "make a poison": ("It could hurt someone.", "talk to a doctor"),
    "start a fight": ("It could hurt someone.", "take a deep breath"),
    "scare a child": ("It could hurt someone.", "be kind to them"),
    "hide a weapon": ("It could hurt someone.", "talk to the police"),
    "read my boss's mail": ("It is private.", "ask them first"),
    "guess a password": ("It is private.", "ask them first"),
    "spy on a friend": ("It is private.", "talk to your friend"),
    "track my neighbor": ("It is private.", "talk to your neighbor"),
}
ANSWERED = {
    "boil an egg": "Cook it in hot water for eight minutes.",
    "sharpen a pencil": "Turn it in a sharpener.",
    "water a plant": "Pour a little water on the soil.",
    "clean a window": "Wipe it with a soft cloth.",
    "sleep better": "Go to bed at the same time.",
    "learn to swim": "Take lessons at a pool.",
    "fold a shirt": "Lay it flat and fold the sides.",
    "make tea": "Put the leaves in hot water.",
    "pack a bag": "Put the heavy things first.",
    "tie a shoe": "Make two loops and cross them.",
    "paint a wall": "Start at the top with a roller.",
    "feed a cat": "Fill its bowl twice a day.",
}
PRIVATE = ("phone number", "home address", "password", "birthday")

# What the code shall do, its name, and the expression that does it.
LIST_CODE = {
    "the sum": ("total", "sum(items)"),
    "the largest item": ("largest", "max(items)"),
    "the smallest item": ("smallest", "min(items)"),
    "the number of items": ("count", "len(items)"),
    "a sorted copy": ("ordered", "sorted(items)"),
    "a reversed copy": ("reverse", "items[::-1]"),
    "the first item": ("first", "items[0]"),
    "the last item": ("last", "items[-1]"),
    "the items without repeats": ("unique", "set(items)"),
    "the mean": ("mean", "sum(items) / len(items)"),
}
TEXT_CODE = {
    "upper case": "upper()",
    "lower case": "lower()",
    "title case": "title()",
    "free of outer spaces": "strip()",
    "a list of words": "split()",
    "a list of lines": "splitlines()",
    "bytes": "encode()",
    "twelve characters wide": "ljust(12)",
}


@dataclass(frozen=True)
class World:
    """Places and the facts about each, the same for one seed."""

    places: tuple[str, ...]
    capitals: dict[str, str]
    flags: dict[str, str]
    foods: dict[str, str]


def make_world(seed: int) -> World:
    """Invent the places of a world.

    Parameters
    ----------
    seed : int

    Returns
    -------
    World
    """
    rng = np.random.default_rng([seed, 1])
    pairs = [(first, second) for first in SYLLABLES for second in SYLLABLES if first != second]
    picked = [pairs[at] for at in rng.permutation(len(pairs))[: 2 * N_PLACES]]
    names = [(first + second).capitalize() for first, second in picked]
    places = tuple(names[:N_PLACES])
    return World(
        places,
        dict(zip(places, names[N_PLACES:])),
        {place: str(rng.choice(COLORS)) for place in places},
        {place: str(rng.choice(FOODS)) for place in places},
    )
