"""Rows of documents out of the store's memory map: a few passes over the batch, none over its documents."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from causalmix.train.tokens import TokenStore

IGNORED = -100
ROW_MULTIPLE = 8  # a batch is as long as its longest row, rounded up to this

Rows = tuple[tuple[int, ...], ...]  # row -> document ids
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Rows of documents, laid out.

    A document longer than a row is cut to its first ``max_length`` tokens. Positions restart at 0 with each
    document; position 0 alone therefore marks where a document starts, and padding is one more document without
    labels at the end of its row. Labels are already shifted: ``labels[r, t]`` is the token that follows
    ``input_ids[r, t]`` in the same document where that token is a target, and -100 elsewhere.

    Attributes
    ----------
    input_ids, position_ids, labels : Tensor of int64, shape (rows, length)
    boundaries : Tensor of int32, shape (segments + 1,)
        Where documents and paddings start in the rows laid end to end, and where the last one ends: the
        ``cu_seqlens`` of kernels for sequences of different lengths.
    documents : list of int
        The documents in it, in row order.
    n_tokens, n_targets : int
        Tokens that belong to documents, and labels that are not -100.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    boundaries: torch.Tensor
    documents: list[int]
    n_tokens: int
    n_targets: int


class BatchReader:
    """Lay documents of a store out in rows, again and again.

    Parameters
    ----------
    store : TokenStore
    max_length : int
        Tokens a row holds at most, and a document is cut to.
    reuse : bool
        Write every batch into the memory of the one before, which is then gone: for whoever is done with a batch
        before asking for the next.
    """

    def __init__(self, store: TokenStore, max_length: int, *, reuse: bool = False) -> None:
        # Plain arrays over the same memory: slicing and gathering from a memmap object costs microseconds more.
        self.tokens = np.asarray(store.tokens)
        labels = np.asarray(store.labels)
        self.targets = labels if labels.itemsize == 1 else labels.astype(np.bool_)
        self.offsets = store.offsets
        self.max_length = max_length
        self.reuse = reuse
        self.memory: dict[str, NDArray[Any]] = {}

    def read(self, rows: Rows) -> Batch:
        """Lay one batch out.

        Parameters
        ----------
        rows : tuple of tuple of int
            Row -> document ids, at least one; the documents of a row, cut, fit into ``max_length``.

        Returns
        -------
        Batch
            As long as its longest row, rounded up to a multiple of eight and never beyond ``max_length``.
        """
        documents = list(chain.from_iterable(rows))
        source, begin, totals, length = self._place(np.array(documents, dtype=np.int64), rows)
        size = len(rows) * length
        ends = np.empty_like(begin)
        ends[:-1], ends[-1] = begin[1:], size
        sizes = ends - begin
        counting = self._count_to(size)
        inputs, positions, labels = (self._take(name, size, np.int64) for name in ("inputs", "positions", "labels"))
        tokens = self._take("tokens", size, self.tokens.dtype, scratch=True)
        targets = self._take("targets", size, self.targets.dtype, scratch=True)

        np.subtract(counting, begin.repeat(sizes), out=positions)
        index = np.add(counting, (source - begin).repeat(sizes), out=self._take("index", size, np.int64, scratch=True))
        self.tokens.take(index, out=tokens, mode="clip")  # padding reads what stands there: overwritten below
        self.targets.take(index, out=targets, mode="clip")
        for row in np.flatnonzero(totals < length).tolist():
            padding = slice(row * length + int(totals[row]), (row + 1) * length)
            tokens[padding] = 0
            targets[padding] = 0
        starts = begin[sizes > 0]
        targets[starts] = 0  # nothing predicts a document's first token
        inputs[...] = tokens
        # (token + 100) * target - 100: a copy under a mask takes five times as long where the mask changes often.
        np.subtract(inputs[1:], IGNORED, out=labels[:-1])
        np.multiply(labels[:-1], targets[1:], out=labels[:-1])
        labels[-1] = 0
        np.add(labels, IGNORED, out=labels)
        shape = (len(rows), length)
        return Batch(
            input_ids=torch.from_numpy(inputs.reshape(shape)),
            position_ids=torch.from_numpy(positions.reshape(shape)),
            labels=torch.from_numpy(labels.reshape(shape)),
            boundaries=torch.from_numpy(np.append(starts, size).astype(np.int32)),
            documents=documents,
            n_tokens=int(totals.sum()),
            n_targets=int(np.count_nonzero(targets)),
        )

    def _place(self, documents: Integers, rows: Rows) -> tuple[Integers, Integers, Integers, int]:
        """Say where every segment, a document or a row's padding, comes from and goes to.

        Returns
        -------
        source, begin : ndarray of int64, shape (documents + rows,)
            First token in the store (0 for padding), first place in the rows laid end to end.
        totals : ndarray of int64, shape (rows,)
            Tokens a row.
        length : int
            Places a row.
        """
        first = self.offsets[documents]
        sizes = np.minimum(self.offsets[documents + 1] - first, self.max_length)
        row_number = np.arange(len(rows))
        n_documents = np.array([len(row) for row in rows])
        after = n_documents.cumsum()
        ends = sizes.cumsum()
        row_ends = ends[after - 1]
        totals = row_ends.copy()
        totals[1:] -= row_ends[:-1]
        length = min(-(-int(totals.max()) // ROW_MULTIPLE) * ROW_MULTIPLE, self.max_length)
        row_begin = row_number * length
        row_of = row_number.repeat(n_documents)
        # Segments stand in the order of the rows: a row's documents, then its padding.
        segment = np.arange(len(documents)) + row_of
        padding = after + row_number
        begin = np.empty(len(documents) + len(rows), dtype=np.int64)
        begin[segment] = ends - sizes + (row_begin - row_ends + totals)[row_of]
        begin[padding] = row_begin + totals
        source = np.zeros(len(begin), dtype=np.int64)
        source[segment] = first
        return source, begin, totals, length

    def _count_to(self, size: int) -> Integers:
        known = self.memory.get("counting")
        if known is None or len(known) < size:
            known = self.memory["counting"] = np.arange(size)
        counting: Integers = known[:size]
        return counting

    def _take(self, name: str, size: int, dtype: Any, scratch: bool = False) -> NDArray[Any]:
        """Memory for ``size`` values: the same again for scratch or where batches are not kept, else new."""
        if not (scratch or self.reuse):
            return np.empty(size, dtype=dtype)
        known = self.memory.get(name)
        if known is None or len(known) < size:
            known = self.memory[name] = np.empty(size, dtype=dtype)
        return known[:size]


def build_batch(store: TokenStore, rows: Rows, max_length: int) -> Batch:
    """Lay documents out in rows, once; see :class:`BatchReader`."""
    return BatchReader(store, max_length).read(rows)
