"""Reading training rows against Hugging Face ``datasets``: ``interleave_datasets``, map-style and streaming.

Equal work: training batches (tokens, positions that restart with each document, labels on the assistant's tokens),
for the peer through the padding-free collator of transformers. The peer's order decides: what it interleaves is read
again by our reader, and every token, position and label must come out the same. Beside it the peer's documents alone,
before any collator. Seconds are those that a core worked; files are warm in the page cache.

    python benchmarks/pool_reading.py [--documents 40000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pool_data import CONTEXT, DOMAINS, time_best, write_store

from causalmix.train.batches import plan_batches
from causalmix.train.reader import IGNORED, BatchReader, Rows
from causalmix.train.tokens import TokenStore

BATCH_ROWS = 32
N_TIMES = 5
PEER_BATCH = 1000  # documents that the peer hands out at once
PACKED = (
    (f"packed, {BATCH_ROWS} rows of {CONTEXT}, memory reused", CONTEXT, BATCH_ROWS, True),
    (f"packed, {BATCH_ROWS} rows of {CONTEXT}", CONTEXT, BATCH_ROWS, False),
    ("packed, 2 rows of 256", 256, 2, False),
)
AIM = 40e6  # tokens a second on one core


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        store, domain_ids = write_store(Path(folder), options.documents)
        rows = measure(store, domain_ids, Path(folder))
    print(f"{'':44} {'tokens':>11} {'core s':>7} {'million tokens a core s':>24} {'ours is faster':>15}")
    for row in rows:
        speed, ratio = row["tokens"] / row["seconds"] / 1e6, row["ours_times_faster"] or ""
        print(f"{row['what']:44} {row['tokens']:>11,} {row['seconds']:>7.3f} {speed:>24.1f} {ratio:>15}")
    ours = max(row["tokens"] / row["seconds"] for row in rows if row["what"].startswith("ours, packed"))
    print(f"the aim of {AIM / 1e6:.0f} million tokens a second and core is {'met' if ours >= AIM else 'missed'}")
    if options.json:
        content = {
            "command": f"python benchmarks/pool_reading.py --documents {options.documents}",
            "date": datetime.now(UTC).date().isoformat(),
            "rows": rows,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measure(store: TokenStore, domain_ids: NDArray[np.uint16], folder: Path) -> list[dict[str, Any]]:
    """Time the peer's two ways and ours over the same documents, and ours over packed rows."""
    rows = []
    for style in ("map-style", "streaming"):
        peer = open_peer(store, domain_ids, folder / "peer", style)
        alone_s, ids = time_best(lambda peer=peer: read_documents(peer), N_TIMES, process_time)
        steps = cut_in_rows(ids, store)
        collated_s, _ = time_best(
            lambda peer=peer: sum(batch["input_ids"].numel() for batch in collate(peer)), 1, process_time
        )
        check_equal(store, steps, collate(peer))
        ours_s, n_tokens = time_reader(store, steps)
        rows.append({"what": f"datasets, {style}, documents alone", "tokens": n_tokens, "seconds": alone_s})
        rows.append({"what": f"datasets, {style}, batches", "tokens": n_tokens, "seconds": collated_s})
        rows.append({"what": "ours, the same order, batches", "tokens": n_tokens, "seconds": ours_s})
        for row in rows[-3:]:
            row["ours_times_faster"] = round(row["seconds"] / ours_s, 1)
    for what, length, batch_rows, reuse in PACKED:
        plan = plan_batches(
            store.lengths(), np.arange(len(store)), max_length=length, batch_rows=batch_rows, seed=0, window=0
        )
        seconds, n_tokens = time_reader(store, plan.steps, length, reuse)
        rows.append({"what": f"ours, {what}", "tokens": n_tokens, "seconds": seconds, "ours_times_faster": None})
    return rows


def time_reader(
    store: TokenStore, steps: Sequence[Rows], length: int = CONTEXT, reuse: bool = True
) -> tuple[float, int]:
    """Seconds to read all steps with ours, and their tokens."""
    reader = BatchReader(store, length, reuse=reuse)
    return time_best(lambda: sum(reader.read(step).n_tokens for step in steps), N_TIMES, process_time)


def open_peer(store: TokenStore, domain_ids: NDArray[np.uint16], folder: Path, style: str) -> Any:
    """Interleave the domains' datasets, equal odds, until the first is empty."""
    import datasets
    import pyarrow as pa

    datasets.disable_progress_bars()
    parts = []
    for domain, name in enumerate(DOMAINS):
        if not (folder / name).exists():
            members = np.flatnonzero(domain_ids == domain)
            documents = [store.document(int(i)) for i in members]
            tokens = [np.asarray(ids[:CONTEXT], dtype=np.int32) for ids, _ in documents]
            labels = [np.where(targets[:CONTEXT], ids, IGNORED) for ids, (_, targets) in zip(tokens, documents)]
            table = pa.table({"id": members, "input_ids": tokens, "labels": labels})
            datasets.Dataset(table).save_to_disk(folder / name)
        part = datasets.load_from_disk(folder / name).with_format("numpy")
        parts.append(part if style == "map-style" else part.to_iterable_dataset())
    odds = [1 / len(DOMAINS)] * len(DOMAINS)
    return datasets.interleave_datasets(parts, probabilities=odds, seed=0, stopping_strategy="first_exhausted")


def read_documents(peer: Any) -> list[int]:
    """Read tokens and labels in the peer's fastest way, many documents at once; return the documents' numbers."""
    ids: list[int] = []
    for batch in peer.iter(batch_size=PEER_BATCH):
        ids += np.asarray(batch["id"]).tolist()
        assert len(batch["input_ids"]) == len(batch["labels"])
    return ids


def collate(peer: Any) -> Iterator[dict[str, Any]]:
    """Read batches as a trainer gets them: one row without padding, positions and labels beside it."""
    from transformers import DataCollatorWithFlattening

    collator = DataCollatorWithFlattening()
    for batch in peer.iter(batch_size=PEER_BATCH):
        features = [{"input_ids": i, "labels": j} for i, j in zip(batch["input_ids"], batch["labels"])]
        yield collator(features)


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


def check_equal(store: TokenStore, steps: list[Rows], expected: Iterator[dict[str, Any]]) -> None:
    """Refuse to compare unless our rows, padding taken out, are the peer's batches end to end."""
    reader = BatchReader(store, CONTEXT)
    given: dict[str, list[NDArray[Any]]] = {"input_ids": [], "position_ids": [], "labels": []}
    for step in steps:
        batch = reader.read(step)
        for row, documents in enumerate(step):
            size = sum(min(int(store.lengths()[i]), CONTEXT) for i in documents)
            for name, kept in given.items():
                kept.append(getattr(batch, name)[row, :size].numpy())
    ours = {name: np.concatenate(parts) for name, parts in given.items()}
    theirs = list(expected)
    for name in ("input_ids", "position_ids"):
        assert np.array_equal(ours[name], np.concatenate([batch[name][0] for batch in theirs])), f"other {name}"
    # Ours stand where they are predicted, the peer's where they are: its model shifts them.
    assert np.array_equal(ours["labels"][:-1], np.concatenate([batch["labels"][0] for batch in theirs])[1:])


if __name__ == "__main__":
    main()
