"""MinHash signatures of documents, with datasketch's permutations."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.config import DedupConfig
from causalmix.errors import PoolError

WORD = re.compile(r"\w+")
SCHEME = "affine32"
PRIME = np.uint32(0x01000193)  # of FNV: mixes the hashes of a shingle's words, order included
MAX_WORDS = 100_000  # of a document; what follows says little about whether two are alike


class Signer:
    """Sign documents: the MinHash of the set of its word n-grams.

    Words are runs of letters and digits, in lower case, so that spaces, line ends and punctuation do not
    matter; a text of fewer words than ``ngram`` is one shingle.

    Raises
    ------
    PoolError
        For settings that cannot work.
    """

    def __init__(self, cfg: DedupConfig) -> None:
        from datasketch import MinHash

        check_settings(cfg)
        self.cfg = cfg
        self.minhash: Any = MinHash(num_perm=cfg.num_perm, seed=cfg.seed, hashfunc=_same, scheme=SCHEME)

    def sign(self, texts: Iterable[str]) -> NDArray[np.uint32]:
        """Sign one document, given as its parts; shape (num_perm,)."""
        self.minhash.clear()
        self.minhash.update_batch(self.hash_shingles(texts).tolist())  # it takes them one by one: quicker off a list
        values: NDArray[np.uint32] = self.minhash.hashvalues
        return values

    def hash_shingles(self, texts: Iterable[str]) -> NDArray[np.uint32]:
        """Hash every word n-gram into 32 bits; shape (n_words - ngram + 1,), at least one."""
        words = [word for text in texts for word in WORD.findall(text.lower())][:MAX_WORDS]
        hashes = np.fromiter((zlib.crc32(word.encode()) for word in words), dtype=np.uint32, count=len(words))
        count = max(1, len(hashes) - self.cfg.ngram + 1)
        shingles = np.zeros(count, dtype=np.uint32)
        for at in range(min(self.cfg.ngram, len(hashes))):
            shingles = shingles * PRIME ^ hashes[at : at + count]
        return np.unique(shingles)


def check_settings(cfg: DedupConfig) -> None:
    """Refuse settings of ``pool.dedup`` that cannot work.

    Raises
    ------
    PoolError
    """
    if cfg.kind not in ("off", "exact", "near"):
        raise PoolError(f"pool.dedup.kind={cfg.kind!r} is not one of off, exact, near.")
    if not 0 < cfg.threshold <= 1:
        raise PoolError(f"pool.dedup.threshold={cfg.threshold} must lie in (0, 1].")
    if not 8 <= cfg.num_perm <= 1024:
        raise PoolError(f"pool.dedup.num_perm={cfg.num_perm} must lie in 8 .. 1024.")
    if cfg.ngram < 1:
        raise PoolError(f"pool.dedup.ngram={cfg.ngram} must be 1 or more.")


def _same(value: Any) -> Any:
    return value
