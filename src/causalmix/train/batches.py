"""A plan of documents in rows and steps, without attention from one document to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.train.packing import pack_best_fit
from causalmix.train.reader import Batch, Rows, build_batch
from causalmix.train.tokens import TokenStore

WINDOW = 4096  # documents packed together where nothing else is asked for


@dataclass(frozen=True)
class BatchPlan:
    """Which documents stand in which row of which step.

    Attributes
    ----------
    steps : tuple of tuple of tuple of int
        Step -> row -> document ids.
    max_length : int
        Tokens a row holds at most.
    """

    steps: tuple[Rows, ...]
    max_length: int

    def __len__(self) -> int:
        return len(self.steps)

    def documents(self, step: int) -> list[int]:
        """Return the ids of the documents of one step, in row order."""
        return [document for row in self.steps[step] for document in row]

    def build(self, store: TokenStore, step: int) -> Batch:
        """Copy one step's documents out of the store."""
        return build_batch(store, self.steps[step], self.max_length)


def plan_batches(
    lengths: NDArray[np.int64],
    doc_ids: NDArray[np.int64],
    *,
    max_length: int,
    batch_rows: int,
    seed: int | list[int],
    window: int = WINDOW,
) -> BatchPlan:
    """Shuffle documents and pack them by best fit into rows, every one exactly once.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n,)
        Tokens of each of ``doc_ids``, in the same order.
    doc_ids : ndarray of int64, shape (n,)
        Documents of one epoch; an id may stand there several times.
    max_length : int
        Tokens a row; longer documents count as this long.
    batch_rows : int
        Rows a step; the last step may have fewer.
    seed : int or list of int
        Feeds ``numpy.random.default_rng``.
    window : int
        Documents packed together; 0 packs all of them together, which wastes a part of one row an epoch
        instead of one a window.

    Returns
    -------
    BatchPlan
        The same for the same arguments, on any machine.
    """
    rows = plan_rows(lengths, doc_ids, max_length, np.random.default_rng(seed), window)
    steps = tuple(tuple(rows[at : at + batch_rows]) for at in range(0, len(rows), batch_rows))
    return BatchPlan(steps=steps, max_length=max_length)


def plan_rows(
    lengths: NDArray[np.int64],
    doc_ids: NDArray[np.int64],
    max_length: int,
    rng: np.random.Generator,
    window: int = WINDOW,
) -> list[tuple[int, ...]]:
    """Shuffle and pack one epoch's documents; see :func:`plan_batches`."""
    order = rng.permutation(len(doc_ids))
    clipped = np.minimum(lengths, max_length)
    size = window or max(1, len(order))
    rows: list[tuple[int, ...]] = []
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        packed = pack_best_fit(clipped[chosen], max_length)
        ids = doc_ids[chosen].tolist()
        # Best fit puts long documents first; a second shuffle makes the steps of a window alike.
        rows += [tuple([ids[item] for item in packed[at]]) for at in rng.permutation(len(packed)).tolist()]
    return rows
