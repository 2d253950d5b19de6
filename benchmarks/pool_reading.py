"""Reading training rows against Hugging Face ``datasets``: ``interleave_datasets``, map-style and streaming.

The peer's order decides: what it interleaves is read again by our reader, document by document in rows, and every
token must come out the same. Ours also lays out positions and labels, which the peer leaves to a collator. One
thread each, files warm in the page cache.

    python -m benchmarks.pool_reading [--documents 40000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.pool_data import CONTEXT, DOMAINS, time_best, write_store
from causalmix.train.batches import plan_batches
from causalmix.train.reader import Batch, BatchReader, Rows
from causalmix.train.tokens import TokenStore

BATCH_ROWS = 32
N_TIMES = 3
PEER_BATCH = 1000  # documents that the peer hands out at once
AIM = 40e6  # tokens a second on one core


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        store, domain_ids = write_store(Path(folder), options.documents)
        rows = measure(store, domain_ids, Path(folder))
    print(f"{'':44} {'tokens':>11} {'s':>7} {'million tokens a second':>24} {'times the peer':>15}")
    for row in rows:
        print(
            f"{row['what']:44} {row['tokens']:>11,} {row['seconds']:>7.3f} {row['tokens'] / row['seconds'] / 1e6:>24.1f} "
            f"{row['times_peer'] or '':>15}"
        )
    ours = max(row["tokens"] / row["seconds"] for row in rows if row["what"].startswith("ours, packed"))
    print(f"the aim of {AIM / 1e6:.0f} million tokens a second is {'met' if ours >= AIM else 'missed'}")
    if options.json:
        content = {
            "command": f"python -m benchmarks.pool_reading --documents {options.documents}",
            "date": datetime.now(UTC).date().isoformat(),
            "rows": rows,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measure(store: TokenStore, domain_ids: NDArray[np.uint16], folder: Path) -> list[dict[str, Any]]:
    """Time the peer's two ways and ours over the same documents, and ours over packed rows."""
    rows = []
    for style in ("map-style", "streaming"):
        peer = open_peer(store, domain_ids, folder / "peer", style)
        seconds, ids = time_best(lambda peer=peer: read_peer(peer)[0], 1)
        for _ in range(N_TIMES - 1):
            seconds = min(seconds, time_best(lambda peer=peer: read_peer(peer), 1)[0])
        steps = cut_in_rows(ids, store)
        check_equal(store, steps, read_peer(peer, keep=True)[1])
        reader = BatchReader(store, CONTEXT, reuse=True)
        ours, n_tokens = time_best(lambda: sum(reader.read(step).n_tokens for step in steps), N_TIMES)
        rows.append({"what": f"datasets, {style} interleave", "tokens": n_tokens, "seconds": seconds})
        rows.append({"what": f"ours, the {style} peer's order", "tokens": n_tokens, "seconds": ours})
    plan = plan_batches(
        store.lengths(), np.arange(len(store)), max_length=CONTEXT, batch_rows=BATCH_ROWS, seed=0, window=0
    )
    for reuse in (True, False):
        reader = BatchReader(store, CONTEXT, reuse=reuse)
        seconds, n_tokens = time_best(lambda: sum(reader.read(step).n_tokens for step in plan.steps), N_TIMES)
        what = f"ours, packed rows, memory {'reused' if reuse else 'new each batch'}"
        rows.append({"what": what, "tokens": n_tokens, "seconds": seconds})
    for at, row in enumerate(rows):
        is_pair = row["what"].startswith("ours, the")
        row["times_peer"] = round(rows[at - 1]["seconds"] / row["seconds"], 1) if is_pair else None
    return rows


def open_peer(store: TokenStore, domain_ids: NDArray[np.uint16], folder: Path, style: str) -> Any:
    """Interleave the domains' datasets, equal odds, until the first is empty."""
    import datasets
    import pyarrow as pa

    datasets.disable_progress_bars()
    parts = []
    for domain, name in enumerate(DOMAINS):
        if not (folder / name).exists():
            members = np.flatnonzero(domain_ids == domain)
            documents = [np.asarray(store.document(int(i))[0][:CONTEXT]) for i in members]
            column = pa.array(documents, type=pa.list_(pa.uint16()))
            datasets.Dataset(pa.table({"id": members, "input_ids": column})).save_to_disk(folder / name)
        part = datasets.load_from_disk(folder / name).with_format("numpy")
        parts.append(part if style == "map-style" else part.to_iterable_dataset())
    odds = [1 / len(DOMAINS)] * len(DOMAINS)
    return datasets.interleave_datasets(parts, probabilities=odds, seed=0, stopping_strategy="first_exhausted")


def read_peer(peer: Any, keep: bool = False) -> tuple[list[int], list[NDArray[Any]]]:
    """Read everything in the peer's fastest way; return the documents' numbers, and the tokens if they are kept."""
    ids: list[int] = []
    kept: list[NDArray[Any]] = []
    batches: Iterable[dict[str, Any]] = peer.iter(batch_size=PEER_BATCH)
    for batch in batches:
        ids += np.asarray(batch["id"]).tolist()
        if keep:
            kept += list(batch["input_ids"])
    return ids, kept


def cut_in_rows(ids: list[int], store: TokenStore) -> list[Rows]:
    """Lay documents in rows in the order given, a new row where the next does not fit."""
    lengths = np.minimum(store.lengths(), CONTEXT)
    rows: list[list[int]] = []
    room = 0
    for document in ids:
        size = int(lengths[document])
        if size > room:
            rows.append([])
            room = CONTEXT
        rows[-1].append(document)
        room -= size
    return [tuple(map(tuple, rows[at : at + BATCH_ROWS])) for at in range(0, len(rows), BATCH_ROWS)]


def check_equal(store: TokenStore, steps: list[Rows], expected: list[NDArray[Any]]) -> None:
    """Refuse to compare unless our rows hold the peer's tokens, one after the other."""
    reader = BatchReader(store, CONTEXT, reuse=True)
    at = 0
    for step in steps:
        batch: Batch = reader.read(step)
        for row, documents in enumerate(step):
            tokens = batch.input_ids[row].numpy()
            given = np.concatenate(expected[at : at + len(documents)])
            assert np.array_equal(tokens[: len(given)], given), "the peer read other tokens"
            at += len(documents)
    assert at == len(expected)


if __name__ == "__main__":
    main()
