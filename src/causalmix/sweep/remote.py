"""A sweep on SLURM: reconcile with records and queue, submit what is missing, return, or wait for it."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from causalmix.config import Config
from causalmix.errors import RecordError, name_some
from causalmix.run.record import is_complete, read_record
from causalmix.sweep import slurm
from causalmix.sweep.failures import describe_failures
from causalmix.sweep.folder import SweepFolder, write_points
from causalmix.sweep.jobs import Reconciled, list_tasks, reconcile, submit_runs
from causalmix.sweep.launch_lock import hold_launch
from causalmix.sweep.points import PlannedRun
from causalmix.sweep.script import shape_tasks
from causalmix.sweep.status import read_status, say
from causalmix.sweep.then import submit_followup

POLL_S = 2.0
ASK_EVERY = 8  # polls of the records for one question to the controller

Lister = Callable[[list[PlannedRun]], list[dict[str, Any]]]


def submit_missing(
    folder: SweepFolder, runs: list[PlannedRun], config: Config, list_entries: Lister, must_wait: bool
) -> None:
    """Submit the runs that are neither complete nor in the hands of active tasks.

    Parameters
    ----------
    folder : SweepFolder
    runs : list of PlannedRun
    config : Config
        Of the sweep: where, and how much.
    list_entries : callable
        Makes rows of a table of points from runs.
    must_wait : bool
        Return when all have ended.

    Raises
    ------
    SweepError
        Where SLURM refuses, another launch is submitting, or (waiting) runs failed.
    """
    with hold_launch(folder):
        _submit(folder, runs, config, list_entries)
    if must_wait:
        wait_for(folder, [run.run_id for run in runs])


def _submit(folder: SweepFolder, runs: list[PlannedRun], config: Config, list_entries: Lister) -> None:
    found = reconcile(folder, runs, is_remote=True)
    n_held = len(runs) - len(found.complete) - len(found.missing)
    say(
        f"sweep {folder.path}: {len(runs)} runs, {len(found.complete)} complete, "
        f"{n_held} in the hands of {len(found.tasks)} tasks, {len(found.missing)} to submit"
    )
    if found.missing:
        _submit_runs(folder, found, config, list_entries)
    if config.then.analysis is not None:
        active = {task.job_id for task in list_tasks(folder.path)}
        submit_followup(folder, [run.run_id for run in runs], config, sorted(active))


def _submit_runs(folder: SweepFolder, found: Reconciled, config: Config, list_entries: Lister) -> None:
    missing = found.missing
    shape = shape_tasks(len(missing), config.cluster, config.resources, slurm.read_max_array(), len(found.tasks))
    points = write_points(folder, list_entries(missing))
    submission = submit_runs(folder, points, len(missing), shape, config.cluster, config.resources)
    ids = name_some(array["job_id"] for array in submission.arrays)
    say(f"submitted {shape.n_tasks} tasks as job {ids}; follow them: causalmix status {folder.path}")


def wait_for(folder: SweepFolder, run_ids: list[str]) -> None:
    """Wait until every run is complete, or nobody works on the rest any more.

    Raises
    ------
    SweepError
        Where runs failed, or their tasks ended without them.
    """
    left = set(run_ids)
    interval_s = 0.5 if sys.stderr.isatty() else 30.0
    with tqdm(total=len(run_ids), desc="runs", unit="run", mininterval=interval_s) as bar:
        for poll in range(sys.maxsize):
            is_asked = poll % ASK_EVERY == ASK_EVERY - 1
            tasks = list_tasks(folder.path) if is_asked else None  # before the records: a task may end in between
            done = {run_id for run_id in left if is_complete(folder.run_dir(run_id))}
            left -= done
            bar.update(len(done))
            if not left or tasks == []:
                break
            if tasks:
                counts = Counter(task.state.lower() for task in tasks)
                bar.set_postfix_str(", ".join(f"{n} tasks {state}" for state, n in sorted(counts.items())))
            time.sleep(POLL_S)
    if left:
        lost = read_status(folder.path).lost_tasks
        silent = lost[0].cause if lost else f"its task ended without a word; see {folder.path / 'log'}"
        raise describe_failures(folder, {run_id: _find_cause(folder, run_id, silent) for run_id in left}, len(run_ids))


def _find_cause(folder: SweepFolder, run_id: str, silent: str) -> str:
    try:
        record = read_record(folder.run_dir(run_id))
    except RecordError as error:
        return str(error)
    return (record.cause or record.status) if record else silent
