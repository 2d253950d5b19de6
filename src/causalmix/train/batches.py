"""Documents packed into rows of equal length, without attention from one document to another.

Rules. A document longer than a row is cut to its first ``max_length`` tokens. Positions restart at 0 with
each document; position 0 alone therefore marks where a document starts, and padding is one more document
without labels at the end of its row. Labels are already shifted: ``labels[r, t]`` is the token that follows
``input_ids[r, t]`` in the same document where that token is a target, and -100 elsewhere.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from causalmix.train.tokens import TokenStore

IGNORED = -100
WINDOW = 4096  # documents packed together: the shuffle is kept at this scale, the work is bounded
ROW_MULTIPLE = 8  # a batch is as long as its longest row, rounded up to this


@dataclass(frozen=True)
class Batch:
    """One optimiser step's rows.

    Attributes
    ----------
    input_ids, position_ids, labels : Tensor of int64, shape (rows, length)
        See the rules above.
    documents : list of int
        The documents in it, in row order.
    n_tokens, n_targets : int
        Tokens that belong to documents, and labels that are not -100.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    documents: list[int]
    n_tokens: int
    n_targets: int

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on a device."""
        if device.type == "cpu":
            return self
        names = ("input_ids", "position_ids", "labels")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


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

    steps: tuple[tuple[tuple[int, ...], ...], ...]
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

    Returns
    -------
    BatchPlan
        The same for the same arguments, on any machine.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(doc_ids))
    clipped = np.minimum(lengths, max_length)
    rows: list[tuple[int, ...]] = []
    for start in range(0, len(order), WINDOW):
        window = order[start : start + WINDOW]
        packed = pack_best_fit(clipped[window], max_length)
        # Best fit puts long documents first; a second shuffle makes the steps of a window alike.
        rows += [tuple(doc_ids[window[packed[at]]].tolist()) for at in rng.permutation(len(packed))]
    steps = tuple(tuple(rows[at : at + batch_rows]) for at in range(0, len(rows), batch_rows))
    return BatchPlan(steps=steps, max_length=max_length)


def pack_best_fit(lengths: NDArray[np.int64], capacity: int) -> list[list[int]]:
    """Pack items by best-fit decreasing: longest first, each into the fullest row that still holds it.

    Returns
    -------
    list of list of int
        Row -> positions in ``lengths``.
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room left, row), sorted
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        at = bisect_left(free, (length, -1))
        if at < len(free):
            room, row = free.pop(at)
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(item)
        if room > length:
            insort(free, (room - length, row))
    return rows


def build_batch(store: TokenStore, rows: tuple[tuple[int, ...], ...], max_length: int) -> Batch:
    """Lay documents out in rows.

    Parameters
    ----------
    store : TokenStore
    rows : tuple of tuple of int
        Row -> document ids; the documents of a row, cut to ``max_length``, fit into ``max_length``.
    max_length : int

    Returns
    -------
    Batch
        As long as its longest row, rounded up to a multiple of eight and never beyond ``max_length``.
    """
    spans = [[_span(store, document, max_length) for document in row] for row in rows]
    longest = max(sum(stop - start for start, stop in row) for row in spans)
    length = min(-(-longest // ROW_MULTIPLE) * ROW_MULTIPLE, max_length)
    inputs = np.zeros((len(rows), length), dtype=np.int64)
    positions = np.zeros((len(rows), length), dtype=np.int64)
    labels = np.full((len(rows), length), IGNORED, dtype=np.int64)
    counting = np.arange(length)
    n_tokens = 0
    for row, row_spans in enumerate(spans):
        at = 0
        for start, stop in row_spans:
            size = stop - start
            tokens = store.tokens[start:stop].astype(np.int64)
            inputs[row, at : at + size] = tokens
            positions[row, at : at + size] = counting[:size]
            labels[row, at : at + size - 1] = np.where(store.labels[start + 1 : stop], tokens[1:], IGNORED)
            at += size
        positions[row, at:] = counting[: length - at]
        n_tokens += at
    return Batch(
        input_ids=torch.from_numpy(inputs),
        position_ids=torch.from_numpy(positions),
        labels=torch.from_numpy(labels),
        documents=[document for row in rows for document in row],
        n_tokens=n_tokens,
        n_targets=int(np.count_nonzero(labels != IGNORED)),
    )


def _span(store: TokenStore, document: int, max_length: int) -> tuple[int, int]:
    start = int(store.offsets[document])
    return start, min(int(store.offsets[document + 1]), start + max_length)
