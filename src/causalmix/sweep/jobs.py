"""Submissions of a sweep: written down before sbatch is called, so that no job is ever nobody's.

``<sweep>/jobs/<submission>.json`` names the arrays of a submission and their job ids. An id that is missing there
belongs to a launcher that died between sbatch and saving it: the job is found by its name, which is unique, and
adopted; where SLURM knows no such job, it was never submitted.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from causalmix.config import ClusterConfig, ResourcesConfig
from causalmix.errors import RecordError, SweepError
from causalmix.files import read_sealed, write_sealed, write_text
from causalmix.run.record import is_complete, read_record
from causalmix.sweep import slurm
from causalmix.sweep.folder import SweepFolder, read_points, refuse_no_sweep
from causalmix.sweep.points import PlannedRun
from causalmix.sweep.script import Shape, list_array, render_script, work_on
from causalmix.sweep.then import cancel_followups

FORMAT = 1


@dataclass
class Submission:
    """One call of the launcher, and the arrays it made.

    Attributes
    ----------
    name : str
        ``<sweep_id>-<unique>``; its arrays are called ``<name>-<k>``.
    points : str
        Table of points, as a name in ``<sweep>/points``.
    n_runs : int
    arrays : list of dict
        ``name``, ``n_tasks``, ``job_id`` (None: not known to have been submitted).
    resources : dict
        What workers must know: lease, deaths, time a run.
    cancelled : bool
        By `causalmix cancel`: tasks of it that never began are not missed.
    """

    name: str
    points: str
    n_runs: int
    arrays: list[dict[str, Any]]
    resources: dict[str, Any]
    sweep_id: str
    jitter_s: float = 0.0
    cancelled: bool = False
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    format: int = FORMAT

    @property
    def n_tasks(self) -> int:
        """Tasks of all its arrays."""
        return sum(array["n_tasks"] for array in self.arrays)

    def write(self, sweep: Path) -> None:
        """Save, atomically."""
        write_sealed(sweep / "jobs" / f"{self.name}.json", asdict(self))


def read_submission(path: Path) -> Submission:
    """Read a submission back.

    Raises
    ------
    RecordError
        Where it is damaged, or comes from another version.
    SweepError
        Where it names files outside of its sweep.
    """
    submission = Submission(**read_sealed(path, FORMAT))
    if Path(submission.points).name != submission.points or submission.name != path.stem:
        raise SweepError(f"{path} names files outside of its sweep")
    return submission


def list_submissions(sweep: Path) -> list[Submission]:
    """List a sweep's submissions, oldest first."""
    found = [read_submission(path) for path in (sweep / "jobs").glob("*.json")]
    return sorted(found, key=lambda submission: (submission.created_at, submission.name))


def submit_runs(
    folder: SweepFolder, points: Path, n_runs: int, shape: Shape, cluster: ClusterConfig, resources: ResourcesConfig
) -> Submission:
    """Submit workers for a table of points.

    Returns
    -------
    Submission
        With every job id saved.
    """
    name = f"{folder.sweep_id}-{uuid.uuid4().hex[:8]}"
    sweep = folder.path.resolve()
    script = sweep / "jobs" / f"{name}.sh"
    submission = Submission(
        name=name,
        points=points.name,
        n_runs=n_runs,
        arrays=[{"name": f"{name}-{k}", "n_tasks": n, "job_id": None} for k, n in enumerate(shape.arrays)],
        resources=asdict(resources),
        sweep_id=folder.sweep_id,
        jitter_s=cluster.jitter_s,
    )
    write_text(script, render_script(name, sweep, work_on(sweep, name, points.name), shape, cluster, resources))
    (sweep / "log").mkdir(exist_ok=True)
    submission.write(sweep)
    first = 0
    after: list[str] = []
    for array in submission.arrays:
        extra = {"CAUSALMIX_FIRST_TASK": str(first)}
        array["job_id"] = slurm.submit(script, array["name"], list_array(array["n_tasks"], cluster), extra, after)
        if cluster.max_running:  # SLURM limits an array, not a submission: the next one waits for the end of this one
            after = [array["job_id"]]
        submission.write(sweep)
        first += array["n_tasks"]
    return submission


def list_tasks(sweep: Path, timeout_s: float = 60.0) -> list[slurm.Task]:
    """List the tasks of a sweep that wait or run, in one question; jobs whose id was lost are adopted."""
    submissions = list_submissions(sweep)
    names = [array["name"] for submission in submissions for array in submission.arrays]
    tasks = slurm.list_tasks(names, timeout_s)
    ids = {task.name: task.job_id for task in tasks}
    for submission in submissions:
        lost = [array for array in submission.arrays if array["job_id"] is None and array["name"] in ids]
        for array in lost:
            array["job_id"] = ids[array["name"]]
        if lost:
            submission.write(sweep)
    return tasks


@dataclass(frozen=True)
class Reconciled:
    """What is left of the runs that were asked for, by records and queue.

    Attributes
    ----------
    complete, missing : list of PlannedRun
        Done; to do. The rest is in the hands of active tasks.
    tasks : list of Task
        Those, of the whole sweep.
    """

    complete: list[PlannedRun]
    missing: list[PlannedRun]
    tasks: list[slurm.Task]


def reconcile(folder: SweepFolder, runs: list[PlannedRun], is_remote: bool) -> Reconciled:
    """Find out which runs are to be done; a run that failed is, though tasks that will not try it again go on."""
    # The queue before the records: a task may end in between.
    queued, tasks = find_queued(folder.path) if is_remote else (set[str](), list[slurm.Task]())
    complete = [run for run in runs if is_complete(folder.run_dir(run.run_id))]
    done = {run.run_id for run in complete}
    missing = [
        run for run in runs if run.run_id not in done and (run.run_id not in queued or has_failed(folder, run.run_id))
    ]
    return Reconciled(complete, missing, tasks)


def has_failed(folder: SweepFolder, run_id: str) -> bool:
    """Tell whether a run failed in a submission."""
    try:
        record = read_record(folder.run_dir(run_id))
    except RecordError:
        return False
    return record is not None and record.status in ("failed", "timed_out") and "submission" in record.provenance


def find_queued(sweep: Path) -> tuple[set[str], list[slurm.Task]]:
    """Find the runs that active tasks will do, and those tasks."""
    tasks = list_tasks(sweep)
    names = {task.name for task in tasks}
    queued: set[str] = set()
    for submission in list_submissions(sweep):
        if any(array["name"] in names for array in submission.arrays):
            queued.update(read_points(sweep / "points" / submission.points))
    return queued, tasks


def cancel_sweep(sweep: Path) -> Counter[str]:
    """Cancel a sweep's tasks that wait or run, adopted ones and the analysis too; return their states before.

    Raises
    ------
    SweepError
        Where the folder is no sweep, or SLURM does not answer.
    """
    refuse_no_sweep(sweep)
    tasks = list_tasks(sweep)
    ids = sorted({task.job_id for task in tasks})
    if ids:
        slurm.ask("scancel", *ids)
    for submission in list_submissions(sweep):
        if any(array["job_id"] in ids for array in submission.arrays):
            submission.cancelled = True
            submission.write(sweep)
    cancel_followups(sweep)
    return Counter(task.state for task in tasks)
