"""A pool of the size of tulu-3-sft-mixture without its texts: five domains whose documents differ in length."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from causalmix.pool.store import Pool
from causalmix.train.tokens import TokenStore

DOMAINS = ("coding", "instruction_following", "knowledge", "math", "safety")
SHARES = (0.15, 0.25, 0.2, 0.3, 0.1)  # of the documents
MEDIANS = (420, 260, 70, 350, 120)  # tokens a document
SPREAD = 0.9  # standard deviation of the log
PROMPT_SHARE = 0.4  # of a document's tokens, not learned
VOCABULARY = 50_000
CONTEXT = 4096

T = TypeVar("T")


def draw_lengths(domain_ids: NDArray[np.integer[Any]], seed: int = 0) -> NDArray[np.int64]:
    """Tokens of each document: log-normal around the median of its domain."""
    rng = np.random.default_rng(seed)
    median = np.asarray(MEDIANS, dtype=np.float64)[domain_ids]
    return np.maximum(8, median * np.exp(SPREAD * rng.standard_normal(len(domain_ids)))).astype(np.int64)


def draw_domains(n_documents: int, seed: int = 0) -> NDArray[np.uint16]:
    """Domain of each document."""
    return np.random.default_rng(seed).choice(len(DOMAINS), n_documents, p=SHARES).astype(np.uint16)


def make_pool(n_documents: int, seed: int = 0) -> Pool:
    """Make a pool in memory; every token is 0 and takes no room."""
    domain_ids = draw_domains(n_documents, seed)
    offsets = np.concatenate([[0], np.cumsum(draw_lengths(domain_ids, seed))])
    zeros = np.broadcast_to(np.zeros(1, dtype=np.uint16), (int(offsets[-1]),))
    scores = np.random.default_rng(seed + 1).standard_normal((n_documents, 3))
    frozen = {"features": ["hes", "normalized_loss", "writing_style"], "mean": [0.0] * 3, "sd": [1.0] * 3}
    return Pool(
        Path(),
        {"fingerprint": "0" * 16, "normaliser": frozen},
        DOMAINS,
        domain_ids,
        np.zeros(n_documents, dtype=np.bool_),
        TokenStore(zeros, zeros.view(), offsets),
        scores,
    )


def write_store(folder: Path, n_documents: int, seed: int = 0) -> tuple[TokenStore, NDArray[np.uint16]]:
    """Write random tokens and labels as a pool's store has them; return it memory-mapped, and the domains."""
    domain_ids = draw_domains(n_documents, seed)
    offsets = np.concatenate([[0], np.cumsum(draw_lengths(domain_ids, seed))])
    rng = np.random.default_rng(seed + 2)
    rng.integers(0, VOCABULARY, offsets[-1], dtype=np.uint16).tofile(folder / "tokens.bin")
    sizes = np.diff(offsets)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    (place >= np.repeat(PROMPT_SHARE * sizes, sizes)).astype(np.uint8).tofile(folder / "labels.bin")
    store = TokenStore(
        np.memmap(folder / "tokens.bin", np.uint16, "r"), np.memmap(folder / "labels.bin", np.uint8, "r"), offsets
    )
    return store, domain_ids


def time_best(work: Callable[[], T], n_times: int, clock: Callable[[], float] = time.perf_counter) -> tuple[float, T]:
    """Seconds of the fastest of ``n_times``, and what the last one returned.

    ``clock=time.process_time`` counts the seconds that the process's threads had a core, so that a busy machine does
    not count.
    """
    best = float("inf")
    for _ in range(n_times):
        start = clock()
        result = work()
        best = min(best, clock() - start)
    return best, result
