"""From a command to runs: plan, reconcile with the records, execute what is missing, say what came of it."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from causalmix.config import Config
from causalmix.errors import SweepError
from causalmix.run.record import is_complete, read_record
from causalmix.sweep import slurm
from causalmix.sweep.failures import describe_failures
from causalmix.sweep.folder import SweepFolder, find_sweep, open_sweep, write_points
from causalmix.sweep.groups import describe_groups, form_groups
from causalmix.sweep.jobs import list_tasks, reconcile
from causalmix.sweep.launch_lock import hold_lock
from causalmix.sweep.plan import make_plan
from causalmix.sweep.points import Inputs, PlannedRun, find_base, identify, plan_runs, read_git_sha, to_config
from causalmix.sweep.script import check_cluster
from causalmix.sweep.status import read_life, say
from causalmix.sweep.then import RESULT, check_then, follow_up, make_followup


def run_sweep(
    points: list[dict[str, Any]], swept: list[str], inputs: Inputs | None = None, must_wait: bool = False
) -> SweepFolder:
    """Run every point that has no complete record yet, here or on the cluster.

    Parameters
    ----------
    points : list of dict
        Plain resolved configs.
    swept : list of str
        The keys that differ between points by intent.
    inputs : Inputs, optional
        Pools that the caller has prepared already: preparing again reads every source file.
    must_wait : bool
        Return only when every run is complete, on a cluster too.

    Returns
    -------
    SweepFolder

    Raises
    ------
    SweepError
        Where runs failed; their causes are grouped, and the same command tries them again.
    """
    inputs = inputs or Inputs(Path(points[0]["outputs"]))
    config = to_config(points[0])
    is_remote = takes_slurm(config.cluster.kind)
    if is_remote:  # first: preparing a pool may take hours
        check_cluster(config.cluster)
    check_then(config.then)
    runs = plan_runs(points, inputs)
    if config.plan:
        folder, _ = find_sweep(inputs.outputs, config.sweep_dir, runs, swept)
        plan = make_plan(folder, runs, config, is_remote)
        print(json.dumps(asdict(plan), indent=1) if config.as_json else plan.render())
        return folder
    if not is_remote:
        refuse_ranks(config.resources.ranks)
    folder = open_sweep(inputs.outputs, config.sweep_dir, runs, swept)
    if is_remote:
        from causalmix.sweep.remote import submit_missing

        entries = functools.partial(list_entries, inputs=inputs)
        submit_missing(folder, runs, config, entries, must_wait or config.cluster.wait)
        return folder
    with hold_lock(folder) as lock:
        refuse_active_jobs(folder)
        missing = reconcile(folder, runs, is_remote=False).missing
        say(f"sweep {folder.path}: {len(runs)} runs, {len(runs) - len(missing)} complete, {len(missing)} to do")
        if missing:
            _execute(folder, missing, inputs, lock)
    if config.then.analysis is not None:
        _analyse(folder, runs, config)
    return folder


def _analyse(folder: SweepFolder, runs: list[PlannedRun], config: Config) -> None:
    run_ids = [run.run_id for run in runs]
    status = follow_up(folder.path, make_followup(folder, run_ids, config.then))
    if status:
        raise SweepError(f"the runs are complete, their analysis failed; it says why in {folder.path / RESULT}")


def run_single(plain: dict[str, Any]) -> None:
    """Run one point and print its outcome: here, unless the cluster is asked for by name."""
    inputs = Inputs(Path(plain["outputs"]))
    if plain["cluster"]["kind"] == "auto":
        plain = {**plain, "cluster": {**plain["cluster"], "kind": "local"}}
    folder = run_sweep([plain], swept=[], inputs=inputs)
    run = identify(plain, inputs)
    if plain["plan"] or not is_complete(folder.run_dir(run.run_id)):  # what was submitted is done later
        return
    record = read_record(folder.run_dir(run.run_id))
    assert record is not None
    say(f"run {run.run_id}: outcome.avg_dev {record.row['outcome.avg_dev']:.3f}, {record.row['wall_s']:.1f} s")
    say(f"record: {folder.run_dir(run.run_id) / 'record.json'}")


def takes_slurm(kind: str) -> bool:
    """Decide where runs go; ``auto`` stays on this machine inside of a job, which has its own resources."""
    if kind == "auto":
        return "SLURM_JOB_ID" not in os.environ and slurm.is_available()
    return kind == "slurm"


def refuse_ranks(n_ranks: int) -> None:
    """Refuse to train a run on several processes here.

    Raises
    ------
    SweepError
    """
    if n_ranks > 1:
        raise SweepError(
            f"resources.ranks={n_ranks}: tasks on SLURM train a run on several processes, and this machine does not; "
            f"use cluster=slurm, or resources.ranks=1"
        )


def refuse_active_jobs(folder: SweepFolder) -> None:
    """Refuse to run here what tasks on the cluster are about to do.

    Raises
    ------
    SweepError
    """
    if not (folder.path / "jobs").is_dir():
        return
    try:
        work = f"{len(tasks)} tasks on the cluster" if (tasks := list_tasks(folder.path)) else ""
    except SweepError:  # no SLURM here: its workers may still share the folder
        lives = [read_life(claims)[0] for claims in (folder.path / "claims").glob("*")]
        work = f"{lives.count('running')} workers elsewhere" if "running" in lives else ""
    if work:
        raise SweepError(
            f"{work} work on {folder.path}: look with `causalmix status`, end them with "
            f"`causalmix cancel {folder.path}`, or go on there with cluster=slurm"
        )


def list_entries(missing: list[PlannedRun], inputs: Inputs) -> list[dict[str, Any]]:
    """List the rows of a table of points; trains the base models that they start from."""
    bases: dict[str, Path | None] = {}
    git_sha = read_git_sha()
    entries = []
    for run in missing:
        base = find_base(run.plain, run.pool_dir, inputs, bases)
        entries.append(
            {
                "run_id": run.run_id,
                "pool_dir": str(run.pool_dir.resolve()),
                "pool_fingerprint": inputs.fingerprints[run.pool_dir],
                "base_dir": str(base.resolve()) if base else None,
                "git_sha": git_sha,
                "plain": run.plain,
            }
        )
    return entries


def _execute(folder: SweepFolder, missing: list[PlannedRun], inputs: Inputs, lock: int) -> None:
    from causalmix.sweep.local import LocalExecutor, count_workers

    entries = list_entries(missing, inputs)
    points = write_points(folder, entries)
    resources = to_config(missing[0].plain).resources
    run_ids = [run.run_id for run in missing]
    groups = form_groups(run_ids, {entry["run_id"]: entry for entry in entries}, count_workers(resources))
    if told := describe_groups(groups, missing[0].plain["train"]["batch_runs"]):
        say(told)
    outcome = LocalExecutor(folder, points, resources, lock).run(run_ids, groups)
    if outcome.failed:
        raise describe_failures(folder, outcome.failed, len(missing))
