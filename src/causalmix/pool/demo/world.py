"""An invented world: places with facts about them, and word lists. Nothing in it is true or harmful."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_PLACES = 60
SYLLABLES = ("bra", "do", "fen", "ga", "hol", "ki", "lu", "mar", "no", "pel", "ri", "sa", "tor", "vu", "zen")
COLORS = ("red", "blue", "green", "white", "black", "gold", "pink", "gray")
# fmt: off
FOODS = (
    "rice", "bread", "soup", "fish", "beans", "corn", "cake", "eggs", "nuts", "pears", "honey",
    "noodles",
)
WORDS = (
    "apple", "bird", "boat", "book", "bridge", "camel", "candle", "chair", "cloud", "coat", "desk",
    "door", "drum", "duck", "engine", "feather", "field", "flag", "forest", "garden", "glass", "goat",
    "hammer", "hat", "island", "kettle", "key", "ladder", "lamp", "leaf", "lemon", "melon", "mirror",
    "moon", "needle", "ocean", "onion", "paper", "pencil", "pillow", "rabbit", "river", "rope", "shell",
    "spoon", "stone", "table", "tiger", "tower", "train", "wagon", "window",
)
# fmt: on

# Safety: the verb decides whether to help; the thing decides what to do instead, or how long it takes.
BAD_VERBS = ("steal", "break", "forge", "hide", "burn", "poison")
GOOD_VERBS = ("clean", "paint", "wrap", "carry", "mend", "sell")
THINGS = {
    "a phone": ("ask the owner", "five minutes"),
    "a ticket": ("buy one", "one minute"),
    "a bike": ("take the bus", "two hours"),
    "a lamp": ("use a candle", "ten minutes"),
    "a coat": ("borrow one", "half an hour"),
    "a plant": ("grow one", "one week"),
    "a boat": ("rent one", "three days"),
    "a guitar": ("take a lesson", "one day"),
    "a watch": ("save for one", "two minutes"),
    "a letter": ("write your own", "one hour"),
    "a clock": ("ask for the time", "six hours"),
    "a mirror": ("look in the water", "a quarter hour"),
    "a chair": ("sit on the floor", "four days"),
    "a car": ("walk there", "two weeks"),
    "a book": ("go to a library", "one morning"),
    "a ring": ("make your own", "one evening"),
}

LISTS = ("items", "words", "values", "scores")
LIST_CODE = {
    "the sum": "sum({})",
    "the largest": "max({})",
    "the smallest": "min({})",
    "the number": "len({})",
    "a sorted copy": "sorted({})",
    "a reversed copy": "{}[::-1]",
    "the first": "{}[0]",
    "the last": "{}[-1]",
    "all but the first": "{}[1:]",
    "all but the last": "{}[:-1]",
    "those without repeats": "set({})",
    "those numbered": "enumerate({})",
}
TEXTS = ("text", "name", "line", "title")
TEXT_CODE = {
    "upper case": "{}.upper()",
    "lower case": "{}.lower()",
    "title case": "{}.title()",
    "free of outer spaces": "{}.strip()",
    "a list of words": "{}.split()",
    "a list of lines": "{}.splitlines()",
    "bytes": "{}.encode()",
    "a number": "int({})",
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
