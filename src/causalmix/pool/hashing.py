"""Short hashes of ids and texts: they stand for them wherever all documents are compared at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 16  # two of a billion documents collide with probability 1e-21
HASH_TYPE = np.dtype(f"V{HASH_BYTES}")


def hash_text(text: str) -> bytes:
    """Hash a text into 16 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest()


def hash_ids(names: Iterable[str]) -> NDArray[np.void]:
    """Hash ids into 16 bytes each, so that any number of them can be sorted in little memory; shape (n,)."""
    return join_hashes(map(hash_text, names))


def join_hashes(hashes: Iterable[bytes]) -> NDArray[np.void]:
    """Put hashes into one array; shape (n,)."""
    return np.frombuffer(b"".join(hashes), dtype=HASH_TYPE)


def is_reference(identity: str, seed: int, fraction: float) -> bool:
    """Say whether a document belongs to the reference slice: a hash of seed and id, below ``fraction``."""
    return draw_key(f"{seed}:{identity}") < fraction * 2.0**64


def draw_key(text: str) -> int:
    """Draw 64 bits that the text decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def mark_repeats(hashes: NDArray[np.void]) -> NDArray[np.int64]:
    """Find, for each hash, the first place where the same one stands; shape (n,). Its own, where it is the first."""
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    starts = np.concatenate([[True], ranked[1:] != ranked[:-1]]) if len(order) else np.zeros(0, dtype=bool)
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[starts][np.cumsum(starts) - 1]
    return first
