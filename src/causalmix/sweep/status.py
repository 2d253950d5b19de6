"""What a sweep's records say: counts, rate, failures by cause."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from causalmix.errors import RecordError, SweepError
from causalmix.run.record import read_record
from causalmix.sweep.folder import SweepFolder, read_points


@dataclass
class SweepStatus:
    """Counts of a sweep's runs.

    Attributes
    ----------
    asked : int
        Distinct runs in the tables of points.
    by_status : dict of str to int
        complete, failed, timed_out, preempted, damaged, unfinished.
    causes : dict of str to int
        Causes of what failed, most frequent first; one stands for all that differ in numbers alone.
    wall_s : float
        Seconds of all complete runs together.
    """

    sweep: str
    asked: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    wall_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        return {**self.__dict__}


def read_status(sweep: Path) -> SweepStatus:
    """Read a sweep folder's status from its records alone.

    Raises
    ------
    SweepError
        Where the folder is no sweep.
    """
    if not (sweep / "sweep.json").exists():
        raise SweepError(f"{sweep} is no sweep folder: it has no sweep.json")
    run_ids: set[str] = set()
    for table in sorted((sweep / "points").glob("*.json")):
        run_ids.update(read_points(table))
    counts: Counter[str] = Counter()
    causes: list[str] = []
    status = SweepStatus(str(sweep), asked=len(run_ids))
    for run_id in sorted(run_ids):
        try:
            record = read_record(sweep / "runs" / run_id)
        except RecordError as error:
            counts["damaged"] += 1
            causes.append(str(error))
            continue
        if record is None:
            counts["unfinished"] += 1
            continue
        counts[record.status] += 1
        if record.status == "complete":
            status.wall_s += float(record.row["wall_s"])
        else:
            causes.append(record.cause or record.status)
    status.by_status = dict(counts)
    status.causes = count_causes(causes)
    return status


def count_causes(causes: Iterable[str]) -> dict[str, int]:
    """Count causes, most frequent first; those that differ in numbers alone (ids, steps) count as their first."""
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for cause in causes:
        shape = re.sub(r"\d[\d.,\s]*", "#", cause)
        counts[examples.setdefault(shape, cause)] += 1
    return dict(counts.most_common())


def describe_failures(folder: SweepFolder, failed: dict[str, str], n_runs: int) -> SweepError:
    """Make the error of a pass in which runs failed: causes grouped, most frequent first."""
    lines = "\n".join(f"  {n} x {cause}" for cause, n in list(count_causes(failed.values()).items())[:10])
    example = next(iter(failed))
    return SweepError(
        f"{len(failed)} of {n_runs} runs failed:\n{lines}\n"
        f"Look at {folder.run_dir(example) / 'log'}; the same command tries the failed ones again."
    )


def say(text: str) -> None:
    """Print a line for the user, apart from whatever a program may read on stdout."""
    print(text, file=sys.stderr, flush=True)
