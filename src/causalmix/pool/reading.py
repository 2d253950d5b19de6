"""Reading the finished stages of a store that is still being made."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from causalmix.files import read_json
from causalmix.pool.documents import Message
from causalmix.pool.stage import SUMMARY
from causalmix.pool.table import read_batches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def documents_path(root: Path) -> Path:
    """Where the documents are."""
    return root / "documents" / "documents.parquet"


def count_all(root: Path) -> int:
    """Documents, the reference slice included."""
    return int(read_json(root / "documents" / SUMMARY)["n_documents"])


def load_array(root: Path, name: str) -> NDArray[np.generic]:
    """Load an array of the first stage: ``domain_ids`` or ``is_reference``."""
    array: NDArray[np.generic] = np.load(root / "documents" / f"{name}.npy", allow_pickle=False)
    return array


def iterate_reference(root: Path) -> Iterator[tuple[Message, ...]]:
    """Yield the conversations of the reference slice, in order."""
    every = itertools.chain.from_iterable(read_batches(documents_path(root)))
    return itertools.compress(every, load_array(root, "is_reference"))


def spread_reference(root: Path, limit: int) -> NDArray[np.bool_]:
    """Mark at most ``limit`` reference documents, evenly over the pool, so over its domains; shape (n,)."""
    reference = np.flatnonzero(load_array(root, "is_reference"))
    wanted = min(limit, len(reference))
    marked = np.zeros(count_all(root), dtype=bool)
    marked[reference[np.linspace(0, len(reference) - 1, wanted).round().astype(np.int64)]] = True
    return marked


def load_tokenizer(root: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer, once its stage is done."""
    from causalmix.pool.tokenizer import load_exact

    return load_exact(root / "tokenizer")
