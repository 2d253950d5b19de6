"""What a sweep's records say: counts, rate, failures by cause."""

from __future__ import annotations

import re
import sys
import time
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
        complete, failed, timed_out, preempted, damaged, running, silent (a worker holds it but has not shown life
        for a lease), unfinished.
    causes : dict of str to int
        Causes of what failed, most frequent first; one stands for all that differ in numbers alone.
    examples : dict of str to str
        A run of each cause, to look at.
    wall_s, device_h : float
        Seconds of all complete runs together; hours of the devices they held, interrupted attempts included.
    attempts : int
        Claims of all runs: more than runs where work was interrupted. 0 for sweeps without a cluster.
    rate_h : float or None
        Complete runs an hour, over the newest of them; None with fewer than two.
    left_s : float or None
        Seconds until the rest is done at this rate; None where nobody works on it.
    tasks : dict of str to int, or None
        Tasks on the cluster by state; None where the cluster did not answer.
    """

    sweep: str
    asked: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    wall_s: float = 0.0
    device_h: float = 0.0
    attempts: int = 0
    rate_h: float | None = None
    left_s: float | None = None
    tasks: dict[str, int] | None = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        return {**self.__dict__}

    def render(self) -> str:
        """Write the status for a reader."""
        counts = ", ".join(f"{n} {name}" for name, n in sorted(self.by_status.items()))
        lines = [f"{self.sweep}: {self.asked} runs asked for: {counts}; {self.wall_s:.0f} s of training and evaluation"]
        if self.tasks is None:
            lines.append("  tasks: the cluster does not answer")
        elif self.tasks:
            lines.append("  tasks: " + ", ".join(f"{n} {state.lower()}" for state, n in sorted(self.tasks.items())))
        if self.left_s is not None and self.rate_h is not None:
            lines.append(f"  {self.rate_h:,.1f} runs an hour, about {self.left_s / 60:,.0f} min left")
        for cause, n in list(self.causes.items())[:10]:
            lines.append(f"  {n} x {cause}" + (f" (causalmix logs {self.examples[cause]})" if n else ""))
        return "\n".join(lines)


def read_status(sweep: Path) -> SweepStatus:
    """Read a sweep's status: records and heartbeats first, then one question to the cluster where it has jobs.

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
    causes: list[tuple[str, str]] = []
    ends: list[float] = []
    status = SweepStatus(str(sweep), asked=len(run_ids))
    for run_id in sorted(run_ids):
        life, attempts = read_life(sweep / "claims" / run_id)
        status.attempts += attempts
        try:
            record = read_record(sweep / "runs" / run_id)
        except RecordError as error:
            counts["damaged"] += 1
            causes.append((str(error), run_id))
            continue
        if record is None or (life and record.status != "complete"):
            counts[life or "unfinished"] += 1
            continue
        counts[record.status] += 1
        if record.status == "complete":
            status.wall_s += float(record.row["wall_s"])
            device_s = float(record.row.get("device_s", record.row["wall_s"]))
            status.device_h += (device_s + float(record.provenance.get("earlier_s", 0.0))) / 3600
            ends.append((sweep / "runs" / run_id / "record.json").stat().st_mtime)
        else:
            causes.append((record.cause or record.status, run_id))
    status.by_status = dict(counts)
    status.causes = count_causes(cause for cause, _ in causes)
    status.examples = {cause: next(run_id for said, run_id in causes if said == cause) for cause in status.causes}
    status.tasks = ask_tasks(sweep)
    status.rate_h = measure_rate(ends)
    if status.rate_h and (status.tasks or counts["running"]):
        status.left_s = (status.asked - counts["complete"]) / status.rate_h * 3600
    return status


def read_life(folder: Path) -> tuple[str | None, int]:
    """Read from a run's claims whether somebody holds it now, and how many claims there were.

    Returns
    -------
    life : str or None
        running, silent; None where nobody holds it. For people: it compares the file's time with the clock of this
        machine, which workers never do.
    n_claims : int
    """
    from causalmix.sweep.claims import has_ticket, list_numbers, read_claim

    numbers = list_numbers(folder)
    if not numbers or (folder / f"{numbers[-1]}.end").exists():
        return None, len(numbers)
    claim = read_claim(folder, numbers[-1])
    if not has_ticket(folder, claim):
        return None, len(numbers)
    try:
        silent_s = time.time() - (folder / f"{numbers[-1]}.beat").stat().st_mtime
    except OSError:
        silent_s = 0.0
    lease_s = float((claim or {}).get("lease_s", 60.0))
    return ("running" if silent_s < lease_s else "silent"), len(numbers)


def ask_tasks(sweep: Path) -> dict[str, int] | None:
    """Count a sweep's tasks on the cluster by state."""
    if not any((sweep / "jobs").glob("*.json")):
        return {}
    from causalmix.sweep.jobs import list_tasks

    try:
        return dict(Counter(task.state for task in list_tasks(sweep)))
    except SweepError:
        return None


def measure_rate(ends: list[float], newest: int = 32) -> float | None:
    """Measure runs an hour from the times at which the newest records were written."""
    last = sorted(ends)[-newest:]
    if len(last) < 2 or last[-1] <= last[0]:
        return None
    return (len(last) - 1) / (last[-1] - last[0]) * 3600


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
