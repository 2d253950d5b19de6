"""The documents of a store as Parquet: written while they are read, read back in batches."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from causalmix.pool.documents import Document, HeldoutDocument, Message

BATCH = 4096  # documents in memory at once
TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("domain", pa.string()),
        ("is_reference", pa.bool_()),
        ("quality", pa.float64()),
        ("messages", pa.list_(TURN)),
    ]
)


class DocumentWriter:
    """Write documents to Parquet in batches and hash their content on the way."""

    def __init__(self, path: Path) -> None:
        self.writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self.rows: list[dict[str, Any]] = []
        self.digest = hashlib.sha256()

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
            self.writer.close()

    def add(self, document: Document, *, is_reference: bool) -> None:
        """Append one document."""
        turns = [[message.role, message.content] for message in document.messages]
        content = [document.id, document.domain, is_reference, document.quality, turns]
        self.digest.update(json.dumps(content, ensure_ascii=False).encode() + b"\n")
        self.rows.append(
            {
                "id": document.id,
                "domain": document.domain,
                "is_reference": is_reference,
                "quality": document.quality,
                "messages": [{"role": role, "content": text} for role, text in turns],
            }
        )
        if len(self.rows) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, schema=SCHEMA))
        self.rows = []


def read_batches(path: Path) -> Iterator[list[tuple[Message, ...]]]:
    """Yield the conversations of a store in batches, in order."""
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(batch_size=BATCH, columns=["messages"]):
            yield [to_messages(turns) for turns in batch.column("messages").to_pylist()]


def read_rows(path: Path, start: int, stop: int) -> tuple[list[str], list[tuple[Message, ...]]]:
    """Read ids and conversations of the documents at positions ``start`` to ``stop - 1``."""
    with pq.ParquetFile(path) as table:
        sizes = [table.metadata.row_group(at).num_rows for at in range(table.num_row_groups)]
        ends = list(itertools.accumulate(sizes))
        groups = [at for at, end in enumerate(ends) if end > start and end - sizes[at] < stop]
        if not groups:
            return [], []
        first = ends[groups[0]] - sizes[groups[0]]
        rows = table.read_row_groups(groups, columns=["id", "messages"]).slice(start - first, stop - start)
    return rows.column("id").to_pylist(), [to_messages(turns) for turns in rows.column("messages").to_pylist()]


def read_positions(path: Path, positions: Sequence[int] | NDArray[np.int64]) -> list[tuple[Message, ...]]:
    """Read the conversations of some documents, by their sorted positions, a row group at a time."""
    chosen: list[tuple[Message, ...]] = []
    start = 0
    with pq.ParquetFile(path) as table:
        for group in range(table.num_row_groups):
            stop = start + table.metadata.row_group(group).num_rows
            inside = [int(at) - start for at in positions if start <= at < stop]
            if inside:
                turns = table.read_row_group(group, columns=["messages"]).column("messages").take(inside)
                chosen += [to_messages(one) for one in turns.to_pylist()]
            start = stop
    return chosen


def read_column(path: Path, name: str) -> list[Any]:
    """Read one column of all documents."""
    values: list[Any] = pq.read_table(path, columns=[name]).column(name).to_pylist()
    return values


def to_messages(turns: Sequence[dict[str, str]]) -> tuple[Message, ...]:
    """Turn role-content records into messages."""
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def write_heldout(path: Path, documents: Sequence[HeldoutDocument]) -> None:
    """Write held-out documents as JSONL: id, ability, task, split, messages."""
    with path.open("w", encoding="utf-8") as handle:
        for document in documents:
            record = {
                "id": document.id,
                "ability": document.ability,
                "task": document.task,
                "split": document.split,
                "messages": [{"role": turn.role, "content": turn.content} for turn in document.messages],
            }
            handle.write(json.dumps(record, ensure_ascii=False) + "\n")
