"""How many runs a minute, when a worker trains several proxies as one computation?

Whole runs of the demo's pool from config to record (state, mixture, documents, training, evaluation) in one warm
process on one thread, in groups of N: everything but the training is done one run after the other. Each cell is one
size of model and of step; the same runs are done for every N, in turns, and their outcomes are compared with those of
the runs alone. On a CPU seconds are of CPU time, on a GPU of the clock; the fastest repetition counts.

    python benchmarks/batched.py [--device cuda] [--repetitions N] [--cells narrow] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from causalmix.run.workshop import Workshop

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a sweep: a process a core
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HERE = str(Path(__file__).resolve().parent)
# A script's folder stands first on the path, and coverage.py in it would hide the package that numba imports.
sys.path = [entry for entry in sys.path if entry != HERE]

NARROW = ["model.hidden_size=32", "model.intermediate_size=88"]
CELLS = {  # numbers of a pass's hidden states: what train.batch_runs=auto goes by
    "64 wide, 2 x 256 tokens (the demo)": ["train.batch_rows=2", "train.max_length=256"],
    "64 wide, 1 x 128 tokens": ["train.batch_rows=1", "train.max_length=128"],
    "32 wide, 2 x 128 tokens": [*NARROW, "train.batch_rows=2", "train.max_length=128"],
    "32 wide, 1 x 64 tokens": [*NARROW, "train.batch_rows=1", "train.max_length=64"],
}
SIZES = (1, 2, 4, 8, 16)
LEAST = 4  # runs a measurement
PAYS = 1.1  # a gain that is more than the noise of a measurement
COMMON = ["mixture=dirichlet", "model.base.n_steps=150", "model.base.batch_rows=4", "tracker=disabled", "cluster=local"]


def main() -> None:
    started = time.perf_counter()
    options = parse_options()
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sizes = [size for size in SIZES if size <= options.runs]
    rows = []
    print(f"{'cell':36} {'together':>8} {'runs/min':>9} {'gain':>5} {'training alone':>15} {'difference':>11}")
    for cell, overrides in CELLS.items():
        if options.cells in cell:
            rows += measure_cell(cell, overrides, sizes, options)
            if options.json:  # after each: a measurement that is stopped keeps what it has
                write_json(rows, time.perf_counter() - started, options)
    for cell in dict.fromkeys(row["cell"] for row in rows):
        print(describe_break_even(cell, [row for row in rows if row["cell"] == cell]))


def write_json(rows: list[dict[str, Any]], seconds: float, options: argparse.Namespace) -> None:
    """Write what was measured, where and when."""
    import torch

    device = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or "CPU"
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "device": device,
        "seconds": round(seconds, 1),
        "settings": {"runs": options.runs, "n_samples": options.samples, "repetitions": options.repetitions},
        "rows": rows,
    }
    options.json.write_text(json.dumps(content, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--runs", type=int, default=16, help="of each cell: all of them alone, as many as a group takes together"
    )
    parser.add_argument("--samples", type=int, default=1000, help="documents a run")
    parser.add_argument("--repetitions", type=int, default=1, help="of each measurement; the fastest counts")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="where the demo's pool is or is made")
    parser.add_argument("--cells", default="", help="only cells whose name contains this")
    parser.add_argument("--json", type=Path, help="write the table here too")
    parser.add_argument("--override", action="append", default=[], help="of the demo's config, for smaller ones")
    return parser.parse_args()


def measure_cell(
    cell: str, overrides: list[str], sizes: list[int], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Do the runs of a cell in groups of each size, in turns; print and return a row a size."""
    from causalmix.run.workshop import Workshop

    settings = [f"train.n_samples={options.samples}", f"train.device={options.device}", *overrides, *options.override]
    entries = make_entries(options.runs, settings, options.outputs)
    found: dict[int, dict[str, Any]] = {}
    workshop = Workshop()
    do_runs(entries[:1], 1, workshop, options.device)  # reads the pool, builds the evaluator
    for _ in range(options.repetitions):
        for size in sizes:
            chosen = entries if size == 1 else entries[: max(size, LEAST)]
            now = do_runs(chosen, size, workshop, options.device)
            known = found.setdefault(size, now)
            found[size] = {**now, **{name: min(now[name], known[name]) for name in ("run_s", "training_s")}}
    alone = found[sizes[0]]
    rows = []
    for size, best in found.items():
        row = {
            "cell": cell,
            "together": size,
            "runs_per_min": 60 / best["run_s"],
            "gain": alone["run_s"] / best["run_s"],
            "training_gain": alone["training_s"] / best["training_s"],
            "training_share": best["training_s"] / best["run_s"],
            "difference": compare(best["outcomes"], alone["outcomes"]),
        }
        rows.append(row)
        print(
            f"{cell:36} {size:8} {row['runs_per_min']:9.1f} {row['gain']:5.2f} {row['training_gain']:15.2f} "
            f"{row['difference']:11.1e}",
            flush=True,
        )
    return rows


def make_entries(n_runs: int, settings: list[str], outputs: Path) -> list[dict[str, Any]]:
    """Plan runs of different seeds, as a launch does; makes the pool and the base where they are missing."""
    from causalmix.cli import compose_config
    from causalmix.sweep.points import Inputs, identify
    from causalmix.sweep.submit import list_entries

    plain = compose_config([*COMMON, f"outputs={outputs}", *settings])
    inputs = Inputs(outputs)
    return list_entries([identify({**plain, "seed": seed}, inputs) for seed in range(n_runs)], inputs)


def do_runs(entries: list[dict[str, Any]], size: int, workshop: Workshop, device: str) -> dict[str, Any]:
    """Do runs in groups; seconds a run, of all of it and of its training, and what the records say."""
    from causalmix.run.guard import Guard
    from causalmix.run.record import Record
    from causalmix.run.together import Order, run_together
    from causalmix.sweep.worker import make_point

    clock = make_clock(device)
    outcomes: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, watch_training(clock) as spent:
        started = clock()
        for at in range(0, len(entries), size):
            points = [make_point(entry, "benchmark") for entry in entries[at : at + size]]
            orders = [Order(point, Path(folder) / point.run_id, Guard()) for point in points]
            for _, record in run_together(orders, workshop):
                if not isinstance(record, Record) or record.status != "complete":
                    raise SystemExit(str(record))
                outcomes.append({key: value for key, value in record.row.items() if key.startswith("outcome.")})
        whole_s = clock() - started
    return {"run_s": whole_s / len(entries), "training_s": sum(spent) / len(entries), "outcomes": outcomes}


def make_clock(device: str) -> Callable[[], float]:
    """Seconds of this process's CPU, or of the clock once the GPU has done its work."""
    if device == "cpu":
        return time.process_time
    import torch

    def read() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return read


@contextmanager
def watch_training(clock: Callable[[], float]) -> Iterator[list[float]]:
    """Collect the seconds that trainings take."""
    from causalmix.run import together

    spent: list[float] = []
    train = together.train_all

    def timed(trainings: list[Any]) -> list[Any]:
        started = clock()
        outcomes = train(trainings)
        spent.append(clock() - started)
        return outcomes

    together.train_all = timed
    try:
        yield spent
    finally:
        together.train_all = train


def compare(found: list[dict[str, float]], alone: list[dict[str, float]]) -> float:
    """Largest difference of an outcome from that of the run alone, relative to it."""
    return max(abs(one[key] - other[key]) / abs(other[key]) for one, other in zip(found, alone) for key in other)


def describe_break_even(cell: str, rows: list[dict[str, Any]]) -> str:
    """Say from which size on a group pays."""
    paying = [row["together"] for row in rows if row["gain"] >= PAYS]
    if not paying:
        return f"{cell}: no group is {PAYS} times as fast as runs alone"
    best = max(rows, key=lambda row: row["gain"])
    return f"{cell}: pays from {min(paying)} runs on, most with {best['together']} ({best['gain']:.2f} times)"


if __name__ == "__main__":
    main()
