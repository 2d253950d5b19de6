"""Tokens of all documents: row groups of the documents are tokenised by any of several processes, then joined.

The parts are cut by the documents alone, so the result is the same for any number of processes; a part that is
whole is not made again.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmix.config import PoolConfig
from causalmix.errors import PoolError
from causalmix.files import read_json, write_json
from causalmix.pool.documents import Message, Problems
from causalmix.pool.encode import Encoded, Encoder
from causalmix.pool.progress import Progress
from causalmix.pool.reading import count_all, documents_path, load_array, load_tokenizer
from causalmix.pool.sources import ROW_BYTES
from causalmix.pool.stage import SUMMARY, Summary
from causalmix.pool.statistics import summarise_lengths
from causalmix.pool.table import count_groups, count_rows, read_batches, read_rows
from causalmix.pool.workers import count_workers, run_tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUPS = 4  # row groups a part
COUNTS = ("n_target_tokens", "n_truncated", "n_without_target", "n_literal")


@dataclass(frozen=True)
class TokenTask:
    """Row groups to tokenise, and where their tokens go."""

    root: Path
    folder: Path
    number: int
    groups: range
    max_length: int
    dtype: str
    tokenizer: str  # its fingerprint

    def path(self, name: str) -> Path:
        """One of the part's files."""
        return self.folder / f"{self.number:05d}.{name}"


def build_tokens(folder: Path, cfg: PoolConfig, root: Path, work: Path | None = None, *, progress: bool) -> Summary:
    """Write token ids and labels of all documents, one after the other."""
    work = work or folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = read_json(root / "tokenizer" / SUMMARY)
    dtype = np.dtype(np.uint16 if tokenizer["vocab_size"] <= 2**16 else np.uint32)
    n_groups = count_groups(documents_path(root))
    tasks = [
        TokenTask(
            root,
            work,
            at // GROUPS,
            range(at, min(n_groups, at + GROUPS)),
            cfg.max_length,
            dtype.name,
            tokenizer["fingerprint"],
        )
        for at in range(0, n_groups, GROUPS)
    ]
    waiting = [task for task in tasks if not task.path("json").is_file()]
    total = count_all(root)
    done = sum(read_json(task.path("json"))["n_documents"] for task in tasks if task not in waiting)
    with Progress("tokenise", total, show=progress, done=done) as bar:
        n_workers = count_workers(cfg.n_workers, len(waiting), total * ROW_BYTES)
        run_tasks(tokenise_part, waiting, n_workers, bar)
    digest, lengths = join_parts(folder, tasks, dtype)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(folder / "offsets.npy", offsets)
    digest.update(offsets.tobytes())
    parts = [read_json(task.path("json")) for task in tasks]
    if work.parent == folder:
        shutil.rmtree(work)
    domains = read_json(root / "documents" / SUMMARY)["domains"]
    return {
        "sha256": digest.hexdigest(),
        "dtype": dtype.name,
        "n_tokens": int(offsets[-1]),
        **{name: sum(part[name] for part in parts) for name in COUNTS},
        "lengths": summarise_lengths(lengths, load_array(root, "domain_ids").astype(np.uint16), domains),
    }


def tokenise_part(task: TokenTask) -> int:
    """Tokenise some row groups; return how many documents they hold."""
    encoder = open_encoder(task.root, task.max_length, task.tokenizer)
    lengths: list[int] = []
    counts = dict.fromkeys(COUNTS, 0)
    dtype = np.dtype(task.dtype)
    with task.path("tokens").open("wb") as tokens, task.path("labels").open("wb") as labels:
        for conversations in read_batches(documents_path(task.root), task.groups):
            for document in _encode(task, encoder, conversations, len(lengths)):
                tokens.write(document.tokens.astype(dtype, copy=False).tobytes())
                labels.write(document.labels.tobytes())
                lengths.append(len(document.tokens))
                n_targets = int(document.labels.sum())
                counts["n_target_tokens"] += n_targets
                counts["n_truncated"] += document.is_truncated
                counts["n_without_target"] += not n_targets
                counts["n_literal"] += document.is_literal
    np.save(task.path("lengths.npy"), np.asarray(lengths, dtype=np.int64))
    write_json(task.path("json"), {"n_documents": len(lengths), **counts})
    return len(lengths)


def _encode(
    task: TokenTask, encoder: Encoder, conversations: Sequence[tuple[Message, ...]], before: int
) -> list[Encoded]:
    """Encode conversations; those that the template refuses are named with their documents' ids."""
    try:
        return encoder.encode(conversations)
    except PoolError:
        path = documents_path(task.root)
        start = count_rows(path, range(task.groups.start)) + before
        ids, _ = read_rows(path, start, start + len(conversations))
        problems = Problems()
        for identity, conversation in zip(ids, conversations):
            try:
                encoder.encode([conversation])
            except PoolError as problem:
                problems.add(identity, problem)
        problems.raise_any("documents that cannot be tokenised")
        raise


def join_parts(folder: Path, tasks: Sequence[TokenTask], dtype: np.dtype[Any]) -> tuple[Any, NDArray[np.int64]]:
    """Join the parts' tokens and labels; return the running hash of all documents, and their lengths."""
    digest = hashlib.sha256(dtype.name.encode())
    every = [np.load(task.path("lengths.npy"), allow_pickle=False) for task in tasks]
    with (folder / "tokens.bin").open("wb") as tokens, (folder / "labels.bin").open("wb") as labels:
        for task, lengths in zip(tasks, every):
            ids, mask = memoryview(task.path("tokens").read_bytes()), memoryview(task.path("labels").read_bytes())
            tokens.write(ids)
            labels.write(mask)
            start, size = 0, dtype.itemsize
            for length in lengths.tolist():
                digest.update(ids[start * size : (start + length) * size])
                digest.update(mask[start : start + length])
                start += length
    return digest, np.concatenate(every)


@lru_cache(maxsize=1)
def open_encoder(root: Path, max_length: int, tokenizer: str) -> Encoder:
    """Open the pool's encoder, once a process; the tokenizer's fingerprint tells two of one folder apart."""
    return Encoder(load_tokenizer(root), max_length)
