"""Best-fit packing against TRL's ``pack_dataset(strategy="bfd")``: the same documents, packed and laid out.

Both end with every token in its row. TRL packs 1,000 documents at a time unless told otherwise; told to pack all of
them at once, it must come to the same rows: as many, with the same numbers of tokens in them. Seconds are those that
a core worked.

    python benchmarks/pool_packing.py [--documents 100000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
from pool_data import CONTEXT, time_best, write_store

from causalmix.train.batches import plan_batches
from causalmix.train.packing import measure_fill
from causalmix.train.reader import BatchReader
from causalmix.train.tokens import TokenStore

BATCH_ROWS = 32
N_TIMES = 3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        store, _ = write_store(Path(folder), options.documents)
        rows = measure(store)
    peer = next(row["seconds"] for row in rows if row["what"] == "trl bfd, all at once")
    print(f"{options.documents} documents, {int(store.offsets[-1]):,} tokens, context {CONTEXT}")
    print(f"{'':44} {'rows':>7} {'fill':>8} {'core s':>8} {'times faster than trl, all at once':>36}")
    for row in rows:
        ratio = peer / row["seconds"]
        print(f"{row['what']:44} {row['rows']:>7} {row['fill']:>8.3%} {row['seconds']:>8.3f} {ratio:>36.1f}")
    if options.json:
        content = {
            "command": f"python benchmarks/pool_packing.py --documents {options.documents}",
            "date": datetime.now(UTC).date().isoformat(),
            "rows": rows,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measure(store: TokenStore) -> list[dict[str, Any]]:
    """Time both, and check that they did the same."""
    lengths = store.lengths()
    ids = np.arange(len(lengths))
    rows = []
    for what, window in (("ours, train.packing_window=4096", 4096), ("ours, train.packing_window=0", 0)):

        def plan(window: int = window) -> Any:
            return plan_batches(lengths, ids, max_length=CONTEXT, batch_rows=BATCH_ROWS, seed=0, window=window)

        seconds, planned = time_best(plan, N_TIMES, process_time)
        rows.append(describe(f"{what}: plan", seconds, [sum_row(lengths, row) for s in planned.steps for row in s]))
        reader = BatchReader(store, CONTEXT, reuse=True)

        def plan_and_read(reader: BatchReader = reader) -> int:
            return sum(reader.read(step).n_tokens for step in plan().steps)

        seconds, n_tokens = time_best(plan_and_read, N_TIMES, process_time)
        assert n_tokens == np.minimum(lengths, CONTEXT).sum()
        rows.append({**rows[-1], "what": f"{what}: and rows", "seconds": seconds})
    ours = rows[-1]["totals"]
    for what, size in (("trl bfd, 1,000 at a time", 1000), ("trl bfd, all at once", len(lengths))):
        seconds, totals = time_peer(store, size)
        rows.append(describe(what, seconds, totals))
    assert sorted(rows[-1]["totals"]) == sorted(ours), "the peer packed other rows"
    for row in rows:
        del row["totals"]
    return rows


def sum_row(lengths: Any, row: tuple[int, ...]) -> int:
    return int(np.minimum(lengths[list(row)], CONTEXT).sum())


def describe(what: str, seconds: float, totals: list[int]) -> dict[str, Any]:
    fill = measure_fill(np.array(totals), len(totals), CONTEXT)
    return {"what": what, "seconds": seconds, "rows": len(totals), "fill": fill, "totals": totals}


def time_peer(store: TokenStore, batch_size: int) -> tuple[float, list[int]]:
    """Pack with TRL, in memory and without its cache; return seconds and the tokens of each row."""
    import datasets
    import pyarrow as pa
    from trl import pack_dataset

    datasets.disable_progress_bars()
    datasets.disable_caching()
    column = pa.LargeListArray.from_arrays(store.offsets, pa.array(np.asarray(store.tokens).astype(np.int32)))
    dataset = datasets.Dataset(pa.table({"input_ids": column}))

    def pack() -> Any:
        options = {"batch_size": batch_size, "keep_in_memory": True}
        return pack_dataset(dataset, CONTEXT, strategy="bfd", map_kwargs=options)

    seconds, packed = time_best(pack, N_TIMES, process_time)
    table = packed.with_format("arrow")[:]
    totals = table["input_ids"].combine_chunks().value_lengths().to_pylist()
    assert sum(totals) == np.minimum(store.lengths(), CONTEXT).sum()
    return seconds, totals


if __name__ == "__main__":
    main()
