"""What a sweep's records say: counts, rate, failures by cause."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalmix.errors import RecordError, SweepError
from causalmix.run.record import read_record
from causalmix.sweep.failures import Failure, group_failures
from causalmix.sweep.folder import read_points, refuse_no_sweep

if TYPE_CHECKING:
    from causalmix.sweep.lost_tasks import LostTasks


LITTLE_SPACE = 100_000_000  # bytes: the status says that no more are free


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
    failures : list of Failure
        Most frequent first.
    failed : dict of str to str
        Run -> cause, of all that failed.
    wall_s, device_h : float
        Seconds of all complete runs together; hours of the devices they held, interrupted attempts included.
    n_gpus : int
        GPUs a task: what ``device_h`` counts; 0 where runs are done on CPUs.
    attempts : int
        Claims of all runs: more than runs where work was interrupted. 0 for sweeps without a cluster.
    rate_h : float or None
        Complete runs an hour, over the newest of them; None with fewer than two.
    left_s : float or None
        Seconds until the rest is done at this rate; None where nobody works on it.
    tasks : dict of str to int, or None
        Tasks on the cluster by state; None where the cluster did not answer.
    waits : dict of str to int
        Why tasks are pending, in SLURM's words.
    ended : dict of str to int, or None
        Tasks that ended, by what the accounting says of them; None where the site keeps none.
    gpu_h : float or None
        GPU-hours that tasks held by the accounting, lost work and idle time included.
    lost_tasks : list
        Tasks that ended before they claimed a run, while there was work: their nodes may not see the folder.
    free_bytes : int
        Free space where the sweep lies.
    analysis : str or None
        What became of the analysis that was to follow; None where none was asked for.
    """

    sweep: str
    asked: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    wall_s: float = 0.0
    device_h: float = 0.0
    n_gpus: int = 0
    attempts: int = 0
    rate_h: float | None = None
    left_s: float | None = None
    tasks: dict[str, int] | None = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] | None = None
    gpu_h: float | None = None
    lost_tasks: list[LostTasks] = field(default_factory=list)
    free_bytes: int = 0
    analysis: str | None = None

    @property
    def causes(self) -> dict[str, int]:
        """Causes of what failed and how many runs each took, most frequent first."""
        return {failure.cause: failure.n_runs for failure in self.failures}

    @property
    def is_over(self) -> bool:
        """Tell whether all runs are complete, or the cluster's tasks have ended without the rest."""
        if self.by_status.get("complete", 0) >= self.asked:
            return True
        was_submitted = self.attempts > 0 or bool(self.lost_tasks)
        return was_submitted and self.tasks == {} and "running" not in self.by_status

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        return asdict(self)

    def render(self) -> str:
        """Write the status for a reader."""
        counts = ", ".join(f"{n} {name}" for name, n in sorted(self.by_status.items()))
        unit = "GPU" if self.n_gpus else "worker"
        lines = [f"{self.sweep}: {self.asked} runs asked for: {counts}; {self.device_h:,.2f} {unit}-hours"]
        for name, states in (("tasks", self.tasks), ("ended tasks", self.ended)):
            if states:
                lines.append(f"  {name}: " + ", ".join(f"{n} {state.lower()}" for state, n in sorted(states.items())))
        if self.waits:
            lines.append("  waiting for: " + ", ".join(f"{reason} ({n})" for reason, n in sorted(self.waits.items())))
        if self.tasks is None:
            lines.append("  tasks: the cluster does not answer")
        if self.gpu_h:
            lines.append(f"  {self.gpu_h:,.1f} GPU-hours held by tasks, lost work and waiting included")
        if self.left_s is not None and self.rate_h is not None:
            lines.append(f"  {self.rate_h:,.1f} runs an hour, about {self.left_s / 60:,.0f} min left")
        for failure in self.failures[:10]:
            lines.append(f"  {failure.n_runs} x {failure.cause} (causalmix logs {failure.example})")
            lines += [f"      | {line}" for line in failure.log]
        for lost in self.lost_tasks:
            lines.append(f"  {lost.n_tasks} tasks ({lost.example}): {lost.cause}")
            lines += [f"      | {line}" for line in lost.log]
        if self.free_bytes < LITTLE_SPACE:
            lines.append(f"  disk: {self.free_bytes / 1e6:,.1f} MB free; runs need space for their records")
        if self.analysis:
            lines.append(f"  analysis: {self.analysis}")
        return "\n".join(lines)


def read_status(sweep: Path) -> SweepStatus:
    """Read a sweep's status: records and heartbeats first, then a question to queue and accounting where it has jobs.

    Raises
    ------
    SweepError
        Where the folder is no sweep.
    """
    refuse_no_sweep(sweep)
    tables = {table.name: read_points(table) for table in sorted((sweep / "points").glob("*.json"))}
    run_ids = set().union(*tables.values())
    status = SweepStatus(str(sweep), asked=len(run_ids), free_bytes=shutil.disk_usage(sweep).free)
    counts: Counter[str] = Counter()
    left: set[str] = set()  # neither ended nor in anybody's hands
    ends: list[float] = []
    for run_id in sorted(run_ids):
        life, attempts = read_life(sweep / "claims" / run_id)
        status.attempts += attempts
        try:
            record = read_record(sweep / "runs" / run_id)
        except RecordError as error:
            counts["damaged"] += 1
            status.failed[run_id] = str(error)
            continue
        if record is None or (life and record.status != "complete"):
            counts[life or "unfinished"] += 1
            left |= set() if life else {run_id}
            continue
        counts[record.status] += 1
        if record.status == "complete":
            status.wall_s += float(record.row["wall_s"])
            device_s = float(record.row.get("device_s", record.row["wall_s"]))
            status.device_h += (device_s + float(record.provenance.get("earlier_s", 0.0))) / 3600
            ends.append((sweep / "runs" / run_id / "record.json").stat().st_mtime)
        else:
            status.failed[run_id] = record.cause or record.status
    status.by_status = dict(counts)
    if any((sweep / "jobs").glob("*.json")):
        ask_cluster(sweep, tables, left, status)
    status.failures = group_failures(sweep, status.failed)
    if (sweep / "then").is_dir():
        from causalmix.sweep.then import describe_followup

        status.analysis = describe_followup(sweep, can_ask=status.tasks is not None)
    status.rate_h = measure_rate(ends)
    if status.rate_h and (status.tasks or counts["running"]):
        status.left_s = (status.asked - counts["complete"]) / status.rate_h * 3600
    return status


def ask_cluster(sweep: Path, tables: Mapping[str, Collection[str]], left: set[str], status: SweepStatus) -> None:
    """Add what queue and accounting know: one question to each."""
    from causalmix.sweep import slurm
    from causalmix.sweep.claims import Claims
    from causalmix.sweep.jobs import list_submissions, list_tasks
    from causalmix.sweep.lost_tasks import find_lost_tasks

    submissions = list_submissions(sweep)
    status.n_gpus = max(int(submission.resources["gpus"]) for submission in submissions)
    try:
        tasks = list_tasks(sweep, slurm.PATIENCE_S)
        status.tasks = dict(Counter(task.state for task in tasks))
        status.waits = dict(Counter(task.reason for task in tasks if task.state == "PENDING"))
    except SweepError:
        status.tasks = None
        return
    job_ids = [array["job_id"] for submission in submissions for array in submission.arrays if array["job_id"]]
    ended = slurm.read_accounting(job_ids)
    over = {task: state for task, state, _ in ended or () if state not in slurm.ACTIVE}
    status.lost_tasks = find_lost_tasks(sweep, submissions, tables, left, tasks, over)
    if ended is None:
        return
    status.ended = dict(Counter(state for _, state, _ in ended if state not in slurm.ACTIVE))
    status.gpu_h = sum(gpu_s for _, _, gpu_s in ended) / 3600
    claims = Claims(sweep / "claims")
    for run_id in set().union(*tables.values()) - set(status.failed):  # a worker that was killed has left no record
        if read_life(claims.root / run_id)[0] != "silent":
            continue
        state = over.get(str(claims.history(run_id)[-1].get("job")))
        if state:
            status.failed[run_id] = f"its task ended as {state}"


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


def measure_rate(ends: list[float], newest: int = 32) -> float | None:
    """Measure runs an hour from the times at which the newest records were written."""
    last = sorted(ends)[-newest:]
    if len(last) < 2 or last[-1] <= last[0]:
        return None
    return (len(last) - 1) / (last[-1] - last[0]) * 3600


def say(text: str) -> None:
    """Print a line for the user, apart from whatever a program may read on stdout."""
    print(text, file=sys.stderr, flush=True)
