"""Documents of a prepared pool, written out: one file a domain, or a whole training set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmix.files import write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

    from causalmix.pool.store import Pool

BATCH = 4096  # documents in memory at once, beside the compressed columns
COLUMNS = ["id", "domain", "messages"]
SHUFFLE = 7301  # keeps the order of files apart from other draws of the same seed


def write_rows(pool: Pool, doc_ids: NDArray[np.int64], path: Path) -> None:
    """Write documents, in the order given, as ``.jsonl`` or ``.parquet``: ``id``, ``domain``, ``messages``."""

    def write(temporary: Path) -> None:
        batches = _read_batches(pool, doc_ids, path.name)
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            from causalmix.pool.table import SCHEMA

            kept = SCHEMA.empty_table().select(COLUMNS).schema
            with pq.ParquetWriter(temporary, kept, compression="zstd") as writer:
                for batch in batches:
                    writer.write_table(batch.cast(kept))
        else:
            with temporary.open("w", encoding="utf-8") as handle:
                for batch in batches:
                    _write_lines(batch, handle)

    write_atomically(path, write)


def write_domains(pool: Pool, folder: Path, domains: tuple[str, ...], seed: int) -> list[Path]:
    """Write ``<domain>.jsonl`` of each domain: every document that a run may draw, in a random order."""
    paths = []
    for name in domains:
        at = pool.domains.index(name)
        members = np.flatnonzero((pool.domain_ids == at) & ~pool.is_reference).astype(np.int64)
        rng = np.random.default_rng([SHUFFLE, seed, at])
        paths.append(folder / f"{name}.jsonl")
        write_rows(pool, rng.permutation(members), paths[-1])
    return paths


def _read_batches(pool: Pool, doc_ids: NDArray[np.int64], name: str) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq
    from tqdm import tqdm

    chunks = pq.read_table(pool.path / "documents" / "documents.parquet", columns=COLUMNS).to_batches()
    starts = np.cumsum([0, *(chunk.num_rows for chunk in chunks[:-1])])
    with tqdm(total=len(doc_ids), desc=name, unit="document", disable=None, leave=False) as bar:
        for start in range(0, len(doc_ids), BATCH):
            batch = _take(chunks, starts, doc_ids[start : start + BATCH])
            yield batch
            bar.update(batch.num_rows)


def _take(chunks: list[pa.RecordBatch], starts: NDArray[np.int64], doc_ids: NDArray[np.int64]) -> pa.Table:
    """Take rows chunk by chunk: a table's own ``take`` would join all chunks first, and text above 2 GB cannot be."""
    import pyarrow as pa

    chunk_of = np.searchsorted(starts, doc_ids, side="right") - 1
    order = np.argsort(chunk_of, kind="stable")
    parts = [
        chunks[at].take(pa.array(doc_ids[order[chunk_of[order] == at]] - starts[at])) for at in np.unique(chunk_of)
    ]
    return pa.Table.from_batches(parts).take(pa.array(np.argsort(order, kind="stable")))


def _write_lines(batch: pa.Table, handle: IO[str]) -> None:
    rows: list[dict[str, Any]] = batch.to_pylist()
    handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
