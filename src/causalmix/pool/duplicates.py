"""Near-duplicates: documents whose MinHash signatures agree, found through bands sorted one at a time.

An index of all bands in memory would need gigabytes at a million documents. Here the bands' keys and the
signatures lie on the disk, by shard; memory holds one band's keys (8 bytes a document) and the pairs found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WEIGHTS = (0.05, 0.95)  # of pairs compared in vain, and of pairs missed
PAIRS = 20_000  # whose signatures are compared at once
FNV_PRIME, FNV_START = np.uint64(0x100000001B3), np.uint64(0xCBF29CE484222325)


@dataclass(frozen=True)
class Bands:
    """How a signature is cut: ``count`` bands of ``rows`` values; two documents that share one are compared."""

    count: int
    rows: int


def choose_bands(threshold: float, num_perm: int) -> Bands:
    """Choose the cut by datasketch's criterion: missed pairs weigh 19 times what needless comparisons do.

    A needless comparison costs a microsecond here, since signatures decide. At a threshold of .8 and 128 values
    the cut is 16 bands of 8: 95% of pairs of similarity .8 are compared, 99% of .85, 6% of .5.
    """
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=num_perm, weights=WEIGHTS)
    return Bands(index.b, index.r)


def hash_bands(signatures: NDArray[np.uint32], bands: Bands) -> NDArray[np.uint64]:
    """Hash each band of each signature (shape (n, num_perm)) into 64 bits; shape (bands, n)."""
    used = signatures[:, : bands.count * bands.rows].astype(np.uint64).reshape(len(signatures), bands.count, bands.rows)
    keys = np.full((len(signatures), bands.count), FNV_START, dtype=np.uint64)
    for row in range(bands.rows):
        keys = (keys ^ used[:, :, row]) * FNV_PRIME
    return np.ascontiguousarray(keys.T)


def mark_near_duplicates(
    kept: NDArray[np.bool_], keys: Sequence[Path], signatures: Sequence[Path], threshold: float
) -> NDArray[np.int64]:
    """Find the near-duplicates among the documents that are kept so far.

    In their order, each document is dropped where its estimated similarity to an earlier one that stays is
    ``threshold`` or more. Within a band, each is compared with the first and with the one before it, so that a
    thousand copies of one text cost a thousand comparisons, not a million.

    Parameters
    ----------
    kept : ndarray of bool, shape (n,)
    keys, signatures : sequence of Path
        Arrays of each shard, shapes (bands, n_shard) and (n_shard, num_perm); shards in order.
    threshold : float

    Returns
    -------
    ndarray of int64, shape (m,)
        Positions to drop, rising.
    """
    pairs = find_pairs(kept, keys)
    similar = pairs[compare_pairs(pairs, signatures) >= threshold] if len(pairs) else pairs
    dropped: set[int] = set()
    for later, earlier in similar.tolist():  # rising in `later`: what is earlier is decided already
        if earlier not in dropped:
            dropped.add(later)
    return np.array(sorted(dropped), dtype=np.int64)


def find_pairs(kept: NDArray[np.bool_], keys: Sequence[Path]) -> NDArray[np.int64]:
    """Find pairs (later, earlier) of kept documents that share a band; shape (p, 2), sorted, each once."""
    positions = np.flatnonzero(kept)
    codes = [np.zeros(0, dtype=np.int64)]
    for band in _read_bands(keys):
        own = band[positions]
        order = np.argsort(own, kind="stable")
        ranked, at = own[order], positions[order]
        same = np.flatnonzero(ranked[1:] == ranked[:-1]) + 1
        if not len(same):
            continue
        starts = np.concatenate([[0], np.flatnonzero(ranked[1:] != ranked[:-1]) + 1])
        first = starts[np.searchsorted(starts, same, side="right") - 1]
        later = at[same]
        found = np.concatenate([later * len(kept) + at[first], later * len(kept) + at[same - 1]])
        codes.append(np.unique(found))
    every = np.unique(np.concatenate(codes))
    return np.stack([every // len(kept), every % len(kept)], axis=1) if len(kept) else np.zeros((0, 2), dtype=np.int64)


def compare_pairs(pairs: NDArray[np.int64], signatures: Sequence[Path]) -> NDArray[np.float64]:
    """Estimate the Jaccard similarity of each pair: the share of equal hash values; shape (p,)."""
    similarity = np.empty(len(pairs))
    for start in range(0, len(pairs), PAIRS):
        some = pairs[start : start + PAIRS]
        rows, inverse = np.unique(some, return_inverse=True)
        values = _read_rows(rows, signatures)
        left, right = values[inverse.reshape(some.shape)].transpose(1, 0, 2)
        similarity[start : start + PAIRS] = (left == right).mean(axis=1)
    return similarity


def _read_bands(keys: Sequence[Path]) -> Iterator[NDArray[np.uint64]]:
    """Yield each band's keys of all documents."""
    count = len(np.load(keys[0], mmap_mode="r", allow_pickle=False)) if keys else 0
    for band in range(count):
        yield np.concatenate([np.load(path, mmap_mode="r", allow_pickle=False)[band] for path in keys])


def _read_rows(rows: NDArray[np.int64], paths: Sequence[Path]) -> NDArray[np.uint32]:
    """Read some rows (sorted positions over all shards) of the shards' signatures."""
    parts, start = [], 0
    for path in paths:
        shard = np.load(path, mmap_mode="r", allow_pickle=False)
        own = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(shard))] - start
        parts.append(np.asarray(shard[own]))
        start += len(shard)
    return np.concatenate(parts)
