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
SHARD_BATCH = 1024  # the same, while a shard is read
BATCH_BYTES = 32 * 2**20  # text in memory at once: fewer documents, where they are long
LINE = "line"
ENCODE = json.JSONEncoder(ensure_ascii=False).encode
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
SHARD_SCHEMA = SCHEMA.append(pa.field(LINE, pa.large_binary()))


class DocumentWriter:
    """Write the documents of one shard to Parquet, with the line by which each counts in the pool's hash."""

    def __init__(self, path: Path) -> None:
        self.writer = pq.ParquetWriter(path, SHARD_SCHEMA, compression="lz4")  # read once, soon
        self.documents: list[Document] = []
        self.references: list[bool] = []
        self.lines: list[bytes] = []
        self.n_bytes = 0

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
        self.lines.append(ENCODE(content).encode() + b"\n")
        self.documents.append(document)
        self.references.append(is_reference)
        self.n_bytes += len(self.lines[-1])
        if len(self.documents) >= SHARD_BATCH or self.n_bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self.documents:
            columns = [
                pa.array([document.id for document in self.documents], pa.string()),
                pa.array([document.domain for document in self.documents], pa.string()),
                pa.array(self.references, pa.bool_()),
                pa.array([document.quality for document in self.documents], pa.float64()),
                from_messages([document.messages for document in self.documents]),
                pa.array(self.lines, pa.large_binary()),
            ]
            self.writer.write_table(pa.Table.from_arrays(columns, schema=SHARD_SCHEMA))
        self.documents, self.references, self.lines, self.n_bytes = [], [], [], 0


class DocumentMerger:
    """Write the documents of a pool to Parquet, out of those of its shards, and hash their content on the way."""

    def __init__(self, path: Path) -> None:
        self.writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self.digest = hashlib.sha256()
        self.parts: list[pa.Table] = []
        self.n_rows = 0

    def __enter__(self) -> DocumentMerger:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        if kind is None:
            self._write(self.n_rows)
        with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
            self.writer.close()

    def add(self, path: Path, kept: NDArray[np.bool_]) -> Iterator[pa.Table]:
        """Append the kept documents of a shard's table; yield them, some at a time."""
        start = 0
        with pq.ParquetFile(path) as table:
            for group in range(table.num_row_groups):
                rows = table.read_row_group(group)
                chosen = rows.filter(pa.array(kept[start : start + rows.num_rows]))
                start += rows.num_rows
                self.digest.update(b"".join(chosen.column(LINE).to_pylist()))
                documents = chosen.select(SCHEMA.names)
                self.parts.append(documents)
                self.n_rows += documents.num_rows
                while self.n_rows >= BATCH or self._count_bytes() >= BATCH_BYTES:
                    self._write(min(self.n_rows, BATCH))
                yield documents

    def _count_bytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def _write(self, n_rows: int) -> None:
        if n_rows:
            every = pa.concat_tables(self.parts)
            self.writer.write_table(every.slice(0, n_rows), row_group_size=n_rows)
            self.parts = [every.slice(n_rows)]
        self.n_rows -= n_rows


def read_batches(path: Path, groups: range | None = None) -> Iterator[list[tuple[Message, ...]]]:
    """Yield the conversations of a store in batches, in order: of all row groups, or of some."""
    with pq.ParquetFile(path) as table:
        for group in groups if groups is not None else range(table.num_row_groups):
            # One group at a time: a batch across groups could hold any number of long documents.
            column = table.read_row_group(group, columns=["messages"]).column("messages")
            for chunk in column.chunks:
                yield to_conversations(chunk)


def count_groups(path: Path) -> int:
    """Row groups of a store's documents; each is at most ``BATCH`` documents."""
    with pq.ParquetFile(path) as table:
        return int(table.num_row_groups)


def count_rows(path: Path, groups: range) -> int:
    """Documents in some row groups."""
    with pq.ParquetFile(path) as table:
        return sum(int(table.metadata.row_group(group).num_rows) for group in groups)


def iterate_column(path: Path, name: str) -> Iterator[Any]:
    """Yield one column of all documents."""
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(batch_size=BATCH, columns=[name]):
            yield from batch.column(name).to_pylist()


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
    return rows.column("id").to_pylist(), to_conversations(rows.column("messages").combine_chunks())


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
                chosen += to_conversations(turns.combine_chunks())
            start = stop
    return chosen


def read_column(path: Path, name: str) -> list[Any]:
    """Read one column of all documents."""
    values: list[Any] = pq.read_table(path, columns=[name]).column(name).to_pylist()
    return values


def from_messages(conversations: Sequence[Sequence[Message]]) -> pa.ListArray:
    """Put conversations into an Arrow array, column by column: five times as fast as record by record."""
    every = [message for messages in conversations for message in messages]
    turns = pa.StructArray.from_arrays(
        [pa.array([turn.role for turn in every], pa.string()), pa.array([turn.content for turn in every], pa.string())],
        fields=list(TURN),
    )
    offsets = np.cumsum([0, *map(len, conversations)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), turns, type=SCHEMA.field("messages").type)


def to_conversations(column: pa.ListArray) -> list[tuple[Message, ...]]:
    """Read conversations out of an Arrow array, column by column."""
    turns = column.flatten()
    every = list(map(Message, turns.field("role").to_pylist(), turns.field("content").to_pylist()))
    stops = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False)).tolist()
    return [tuple(every[start:stop]) for start, stop in zip([0, *stops], stops)]


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
