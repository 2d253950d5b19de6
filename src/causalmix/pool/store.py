"""The store: a finished pool on disk, opened without reading it all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import PoolError, name_some
from causalmix.files import fingerprint, read_json
from causalmix.train.tokens import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

INPUTS_FILE = "inputs.json"
POOL_FILE = "pool.json"
FORMAT = 1


@dataclass(frozen=True)
class Pool:
    """A finished pool. Arrays have one entry a document, in the order of the store.

    Attributes
    ----------
    path : Path
    facts : dict
        What ``pool.json`` holds: counts, settings, fingerprints.
    domains : tuple of str
        Sorted; ``domain_ids`` index it.
    domain_ids : ndarray of uint16, shape (n,)
    is_reference : ndarray of bool, shape (n,)
        Documents kept for the tokenizer, the raters and the shared base; no candidate pool holds them.
    store : TokenStore
        Tokens and labels, memory-mapped.
    raw_scores : ndarray of float64, shape (n, 3)
        In the scorers' units; columns as ``features``.
    """

    path: Path
    facts: dict[str, Any] = field(repr=False)
    domains: tuple[str, ...]
    domain_ids: NDArray[np.uint16] = field(repr=False)
    is_reference: NDArray[np.bool_] = field(repr=False)
    store: TokenStore = field(repr=False)
    raw_scores: NDArray[np.float64] = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Hash of documents, tokens and the scores' settings."""
        return str(self.facts["fingerprint"])

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the scores' columns."""
        return tuple(self.facts["normaliser"]["features"])

    @property
    def n_documents(self) -> int:
        """Documents, the reference slice included."""
        return len(self.domain_ids)

    @property
    def tokenizer_fingerprint(self) -> str:
        """Hash of the tokenizer that made the tokens."""
        return str(self.facts["parts"]["tokenizer"])

    @property
    def vocab_size(self) -> int:
        """Embeddings a model of this pool needs."""
        return int(self.facts["vocab_size"])

    @property
    def heldout_path(self) -> Path | None:
        """JSONL of held-out documents (id, ability, task, split, messages), if there are any."""
        return self.path / "documents" / "heldout.jsonl" if self.facts["heldout"] else None

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """Scores on the frozen normaliser's scale, shape (n, 3)."""
        frozen = self.facts["normaliser"]
        return np.asarray((self.raw_scores - np.asarray(frozen["mean"])) / np.asarray(frozen["sd"]))

    @cached_property
    def ids(self) -> list[str]:
        """Documents' ids, read when first asked for."""
        from causalmix.pool.table import read_column

        return read_column(self.path / "documents" / "documents.parquet", "id")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The pool's tokenizer, loaded when first asked for."""
        from causalmix.pool.tokenizer import load_exact

        tokenizer = load_exact(self.path / "tokenizer")
        self.check_tokenizer(tokenizer)
        return tokenizer

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Refuse a tokenizer that would give these documents other tokens.

        Raises
        ------
        PoolError
        """
        from causalmix.pool.tokenizer import fingerprint_tokenizer

        given = fingerprint_tokenizer(tokenizer)
        if given != self.tokenizer_fingerprint:
            raise PoolError(
                f"the tokenizer (fingerprint {given}) does not match the store {self.path}, whose tokens "
                f"were made by "
                f"{self.tokenizer_fingerprint}. Use the pool's own tokenizer, or prepare a pool for this one "
                f"with "
                f"pool.tokenizer.kind=pretrained pool.tokenizer.path=..."
            )

    def reference_ids(self) -> NDArray[np.int64]:
        """Positions of the reference slice."""
        return np.flatnonzero(self.is_reference)

    def candidate_counts(self) -> dict[str, int]:
        """Documents a domain that runs may draw."""
        counts = np.bincount(self.domain_ids[~self.is_reference], minlength=len(self.domains))
        return {domain: int(count) for domain, count in zip(self.domains, counts)}


def open_pool(path: Path | str) -> Pool:
    """Open a finished store, checking its files' sizes and its fingerprints.

    Raises
    ------
    PoolError
        Where there is no finished pool, a file is missing or of another size, or the tokenizer was exchanged.
    """
    path = Path(path)
    if not (path / POOL_FILE).is_file():
        raise PoolError(
            f"{path} holds no finished pool ({POOL_FILE} is missing). Make one with `causalmix pool "
            f"prepare`; "
            f"an interrupted one goes on where it stopped."
        )
    facts = read_json(path / POOL_FILE)
    if facts.get("format") != FORMAT:
        raise PoolError(f"{path / POOL_FILE} has format {facts.get('format')!r}; this version reads {FORMAT}.")
    _check_files(path, facts)
    documents, tokens = path / "documents", path / "tokens"
    dtype = np.dtype(facts["token_dtype"])
    store = TokenStore(
        np.memmap(tokens / "tokens.bin", dtype=dtype, mode="r"),
        np.memmap(tokens / "labels.bin", dtype=np.uint8, mode="r"),
        np.load(tokens / "offsets.npy", allow_pickle=False),
    )
    return Pool(
        path,
        facts,
        tuple(facts["domains"]),
        np.load(documents / "domain_ids.npy", allow_pickle=False),
        np.load(documents / "is_reference.npy", allow_pickle=False),
        store,
        np.load(path / "scores" / "raw.npy", allow_pickle=False),
    )


def hash_parts(parts: dict[str, Any]) -> str:
    """Fingerprint of a pool: the hash of its parts' hashes."""
    return fingerprint(parts)


def measure_files(path: Path) -> dict[str, int]:
    """Sizes in bytes of a store's files, by name relative to it."""
    files = sorted(child for child in path.rglob("*") if child.is_file())
    named = {child.relative_to(path): child.stat().st_size for child in files if child.name != POOL_FILE}
    return {str(name): size for name, size in named.items() if not any(part.startswith(".") for part in name.parts)}


def _check_files(path: Path, facts: dict[str, Any]) -> None:
    found = measure_files(path)
    wrong = [
        f"{name} ({found.get(name, 'no')} bytes instead of {size})"
        for name, size in facts["files"].items()
        if found.get(name) != size
    ]
    if wrong:
        raise PoolError(
            f"the store {path} is damaged: {name_some(wrong)}. Delete the folder and prepare the pool again."
        )
    if hash_parts(facts["parts"]) != facts["fingerprint"]:
        raise PoolError(f"{path / POOL_FILE} was changed by hand: its fingerprint does not fit its parts.")
    digest = hashlib.sha256((path / "tokenizer" / "tokenizer.json").read_bytes()).hexdigest()
    if digest != facts["tokenizer_sha256"]:
        raise PoolError(
            f"the tokenizer in {path / 'tokenizer'} does not match the store: it is not the one that made "
            f"the tokens. "
            f"Delete the folder {path} and prepare the pool again, or put the old tokenizer back."
        )
