"""Which documents share a row: best fit decreasing, exact and in a blink."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def pack_best_fit(lengths: NDArray[np.int64], capacity: int) -> list[list[int]]:
    """Pack items by best-fit decreasing: longest first, each into the fullest row that still holds it.

    Rows wait in one heap for each room that is left, and the bits of an integer say which heaps hold any: the
    fullest row that still holds an item is the lowest bit at or above its length. Items of one length go into a
    row together, which is what placing them one by one would do.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n,)
        1 to ``capacity``.
    capacity : int
        Room of a row.

    Returns
    -------
    list of list of int
        Row -> positions in ``lengths``. Of rows with equal room the first takes the item, of items of equal
        length the first goes first: the plan depends on nothing but the arguments.
    """
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    assert not len(ordered) or (ordered[-1] >= 1 and ordered[0] <= capacity), "an item that no row can hold"
    edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(ordered)] if len(ordered) else []
    row_of = np.empty(len(ordered), dtype=np.int64)
    waiting: list[list[int]] = [[] for _ in range(capacity + 1)]  # room -> rows, the first on top
    rooms = 0  # bit r: some row has room r
    n_rows = 0
    for at, stop in pairwise(edges):
        length = int(ordered[at])
        while at < stop:
            fitting = rooms >> length
            if fitting:
                room = length + (fitting & -fitting).bit_length() - 1
                row = heappop(waiting[room])
                if not waiting[room]:
                    rooms ^= 1 << room
            else:
                room, row = capacity, n_rows
                n_rows += 1
            n_taken = min(stop - at, room // length)
            row_of[at : at + n_taken] = row
            at += n_taken
            room -= n_taken * length
            if room:
                heappush(waiting[room], row)
                rooms |= 1 << room
    by_row = order[np.argsort(row_of, kind="stable")].tolist()
    stops = np.cumsum(np.bincount(row_of, minlength=n_rows)).tolist()
    return [by_row[start:stop] for start, stop in pairwise([0, *stops])]


def measure_fill(lengths: NDArray[np.int64], n_rows: int, capacity: int) -> float:
    """Share of the rows' places that hold a document's token; the last row counts like any other.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n,)
        Tokens of the documents that were packed; one cut to ``capacity`` counts as that.
    """
    return float(np.minimum(lengths, capacity).sum() / (n_rows * capacity))
