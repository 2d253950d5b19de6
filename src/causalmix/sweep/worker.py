"""A worker process: reads run ids on stdin, executes them in one warm process, answers on stdout.

It ends with its launcher: when stdin closes, the process exits at once, in the middle of a run too.
What is in flight has no record then and is done again.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from causalmix.run.guard import Guard
from causalmix.run.identity import describe_identity
from causalmix.run.proxy import Point
from causalmix.run.record import Record
from causalmix.run.together import Order, run_together
from causalmix.run.workshop import Workshop
from causalmix.sweep.folder import SweepFolder, read_points
from causalmix.sweep.points import to_config


def main() -> None:
    """Serve runs until the launcher closes stdin."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print must not mix with the answers
    orders: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    start = orders.get()
    folder = SweepFolder(path=Path(start["sweep"]), sweep_id=start["sweep_id"])
    entries = read_points(Path(start["points"]))
    _limit_threads(int(start["threads"]))
    workshop = Workshop()
    while True:
        points = [make_point(entries[run_id], folder.sweep_id) for run_id in orders.get()["run_ids"]]
        together = [Order(point, folder.run_dir(point.run_id), Guard()) for point in points]
        for run_id, outcome in run_together(together, workshop):
            if isinstance(outcome, Record):
                answer = {"run_id": run_id, "status": outcome.status, "cause": outcome.cause}
            else:  # not even a record could be written; the launcher tells the user
                answer = {"run_id": run_id, "status": "lost", "cause": f"{outcome}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def make_point(entry: dict[str, Any], sweep_id: str) -> Point:
    """Restore a point from its entry in the table of points."""
    return Point(
        run_id=entry["run_id"],
        sweep_id=sweep_id,
        config=to_config(entry["plain"]),
        identity=describe_identity(entry["plain"], entry["pool_fingerprint"]),
        pool_dir=Path(entry["pool_dir"]),
        base_dir=Path(entry["base_dir"]) if entry["base_dir"] else None,
        git_sha=entry["git_sha"],
    )


def _listen(orders: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(0)  # the launcher is gone


def _limit_threads(n_threads: int) -> None:
    import torch

    torch.set_num_threads(n_threads)


if __name__ == "__main__":
    main()
