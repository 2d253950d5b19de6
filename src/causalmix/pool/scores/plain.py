"""Scores that need no model: length, compression, variety of words."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import PoolError, nearest_name
from causalmix.pool.scores.scorer import ScoredText, Scorer

PARTS = ("text", "prompt", "output")
UNITS: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(text.split()),
    "characters": len,
    "bytes": lambda text: len(text.encode()),
}
WORD = re.compile(r"\w+")


def length(part: str = "text", unit: str = "words", log: bool = False) -> Scorer:
    """Count words, characters or bytes; ``log`` takes log(1 + count), which long documents do not rule."""
    if unit not in UNITS:
        raise PoolError(f"unit={unit!r} of a length is not one of {', '.join(UNITS)}{nearest_name(unit, UNITS)}.")
    count = UNITS[unit]
    return score_each(part, lambda text: math.log1p(count(text)) if log else count(text))


def compression_ratio(part: str = "text", level: int = 9) -> Scorer:
    """Divide the bytes of a text by those of its zlib compression: high where it repeats itself; 0 where empty."""

    def score(text: str) -> float:
        raw = text.encode()
        return len(raw) / len(zlib.compress(raw, level)) if raw else 0.0

    return score_each(part, score)


def type_token_ratio(part: str = "text") -> Scorer:
    """Divide distinct words by words, lower case; 0 without words. It falls with length: see the moving one."""

    def score(text: str) -> float:
        words = WORD.findall(text.lower())
        return len(set(words)) / len(words) if words else 0.0

    return score_each(part, score)


def moving_type_token_ratio(part: str = "text", window: int = 50) -> Scorer:
    """Average the type-token ratio over every window of so many words (Covington and McFall, 2010).

    A text shorter than the window has its plain ratio.
    """
    if window < 1:
        raise PoolError(f"window={window} of a moving type-token ratio must be 1 or more.")

    def score(text: str) -> float:
        words = WORD.findall(text.lower())
        if not words:
            return 0.0
        size = min(window, len(words))
        counts = Counter(words[:size])
        total = len(counts)
        for leaves, enters in zip(words, words[size:]):
            counts[enters] += 1
            counts[leaves] -= 1
            if not counts[leaves]:
                del counts[leaves]
            total += len(counts)
        return total / size / (len(words) - size + 1)

    return score_each(part, score)


def score_each(part: str, score: Callable[[str], float]) -> Scorer:
    """Make a scorer of a function of one string: the whole text, the prompt or the output."""
    if part not in PARTS:
        raise PoolError(f"part={part!r} of a score is not one of {', '.join(PARTS)}{nearest_name(part, PARTS)}.")

    def score_all(texts: Sequence[ScoredText]) -> NDArray[np.float64]:
        return np.array([score(getattr(text, part)) for text in texts], dtype=np.float64)

    return score_all
