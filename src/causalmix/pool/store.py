"""The store: a finished pool on disk, opened without reading it all."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import PoolError, name_some
from causalmix.files import fingerprint, read_json
from causalmix.pool.checksum import Checksums
from causalmix.train.tokens import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

INPUTS_FILE = "inputs.json"
POOL_FILE = "pool.json"
FORMAT = 2
VERIFIED_FILE = ".verified.json"


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


def open_pool(path: Path | str, *, verify: bool = False) -> Pool:
    """Open a finished store, checking that every file is what was written.

    A file's content is hashed where its size, inode or times differ from those at the last opening, so that a
    changed byte is found and a store of any size opens at once.

    Parameters
    ----------
    path : Path or str
    verify : bool
        Hash every file, whatever its times say.

    Raises
    ------
    PoolError
        Where there is no finished pool, or a file is missing, was changed or leads out of the store.
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
    _check_files(path, facts, verify)
    documents, tokens = path / "documents", path / "tokens"
    dtype = np.dtype(facts["token_dtype"])
    store = TokenStore(
        np.memmap(tokens / "tokens.bin", dtype=dtype, mode="r"),
        np.memmap(tokens / "labels.bin", dtype=np.uint8, mode="r"),
        _load(tokens / "offsets.npy"),
    )
    return Pool(
        path,
        facts,
        tuple(facts["domains"]),
        _load(documents / "domain_ids.npy"),
        _load(documents / "is_reference.npy"),
        store,
        _load(path / "scores" / "raw.npy"),
    )


def hash_parts(parts: dict[str, Any]) -> str:
    """Fingerprint of a pool: the hash of its parts' hashes."""
    return fingerprint(parts)


def list_files(path: Path) -> dict[str, Path]:
    """List a store's files by name relative to it; hidden ones are no part of it.

    Raises
    ------
    PoolError
        For one that leads out of the store.
    """
    files = {}
    for child in sorted(path.rglob("*")):
        name = child.relative_to(path)
        if any(part.startswith(".") for part in name.parts) or child.name == POOL_FILE:
            continue
        if child.is_symlink() and not child.resolve().is_relative_to(path.resolve()):
            raise PoolError(f"{child} leads out of the store (to {child.resolve()}): this pool is not opened.")
        if child.is_file():
            files[str(name)] = child
    return files


def hash_files(path: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of each of a store's files."""
    files = list_files(path)
    digests = Checksums(path / VERIFIED_FILE).hash_files(files.values())
    return {
        name: {"bytes": file.stat().st_size, "sha256": digest} for (name, file), digest in zip(files.items(), digests)
    }


def _load(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except ValueError as error:  # not an array of numbers: nothing in it is run
        raise PoolError(f"{path} is no array of numbers ({error}): this pool is not opened.") from error
    return array


def _check_files(path: Path, facts: dict[str, Any], verify: bool) -> None:
    if hash_parts(facts["parts"]) != facts["fingerprint"]:
        raise PoolError(f"{path / POOL_FILE} was changed by hand: its fingerprint does not fit its parts.")
    files = list_files(path)
    wrong = []
    whole = {}
    for name, written in facts["files"].items():
        size = files[name].stat().st_size if name in files else "no"
        if size != written["bytes"]:
            wrong.append(f"{name} ({size} bytes instead of {written['bytes']})")
        else:
            whole[name] = written["sha256"]
    digests = Checksums(path / VERIFIED_FILE, fresh=verify).hash_files(files[name] for name in whole)
    changed = [name for (name, written), found in zip(whole.items(), digests) if found != written]
    wrong += [f"{name} (its content was changed)" for name in changed]
    if "tokenizer/tokenizer.json" in changed:
        raise PoolError(
            f"the tokenizer in {path / 'tokenizer'} does not match the store: it is not the one that made the tokens. "
            f"Delete the folder {path} and prepare the pool again, or put the old tokenizer back."
        )
    if wrong:
        raise PoolError(
            f"the store {path} is damaged: {name_some(wrong)}. Delete the folder and prepare the pool again."
        )
