"""What every scorer has: the features it gives, and a way from texts to numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A document as the scorers read it: raw text, no chat template."""

    prompt: str
    output: str
    id: str = ""

    @property
    def text(self) -> str:
        """Instruction, input and output, joined with newlines."""
        return f"{self.prompt}\n{self.output}" if self.prompt else self.output

    @property
    def boundary(self) -> int:
        """Position of the output's first character."""
        return len(self.prompt) + 1 if self.prompt else 0


class Scorer(Protocol):
    """One feature: a function from texts to numbers.

    A class with ``__call__``, or a plain function; what it needs (a model, a window) is given to the factory
    that makes it. It sees 4,096 documents at a time, in the pool's order.
    """

    def __call__(self, texts: Sequence[ScoredText], /) -> Sequence[float] | NDArray[np.float64]:
        """Score texts: one finite number each, in their order."""
        ...


def bucket_by_length(
    lengths: NDArray[np.int64], batch_tokens: int, *, exact: bool = False
) -> Iterator[NDArray[np.int64]]:
    """Group items of similar length, so that little of a batch is padding.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n,)
        Items of length 0 are left out.
    batch_tokens : int
        Padded tokens a batch; one item alone may exceed it.
    exact : bool
        Never join two lengths: for a model without a padding token.

    Yields
    ------
    ndarray of int64
        Positions, longest batch first, so that memory shows itself at once.
    """
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        batch = order[start : start + max(1, batch_tokens // int(longest))]
        if exact:
            batch = batch[lengths[batch] == longest]
        yield batch
        start += len(batch)


def pad_right(rows: Sequence[NDArray[np.integer[Any]]], pad: int) -> NDArray[np.int64]:
    """Stack rows of unequal length, padded at the end; shape (n_rows, longest)."""
    padded = np.full((len(rows), max(len(row) for row in rows)), pad, dtype=np.int64)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = row
    return padded
