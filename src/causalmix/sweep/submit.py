"""From a command to runs: plan, reconcile with the records, execute what is missing, say what came of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from causalmix.errors import SweepError
from causalmix.run.record import is_complete, read_record
from causalmix.sweep.folder import SweepFolder, hold_lock, open_sweep, write_points
from causalmix.sweep.points import Inputs, PlannedRun, find_base, identify, plan_runs, read_git_sha, to_config
from causalmix.sweep.status import count_causes


def run_sweep(points: list[dict[str, Any]], swept: list[str], inputs: Inputs | None = None) -> SweepFolder:
    """Run every point that has no complete record yet.

    Parameters
    ----------
    points : list of dict
        Plain resolved configs.
    swept : list of str
        The keys that differ between points by intent.
    inputs : Inputs, optional
        Pools that the caller has prepared already: preparing again reads every source file.

    Returns
    -------
    SweepFolder

    Raises
    ------
    SweepError
        Where runs failed; their causes are grouped, and the same command tries them again.
    """
    inputs = inputs or Inputs(Path(points[0]["outputs"]))
    runs = plan_runs(points, inputs)
    folder = open_sweep(inputs.outputs, points[0]["sweep_dir"], runs, swept)
    with hold_lock(folder) as lock:
        missing = [run for run in runs if not is_complete(folder.run_dir(run.run_id))]
        say(f"sweep {folder.path}: {len(runs)} runs, {len(runs) - len(missing)} complete, {len(missing)} to do")
        if missing:
            _execute(folder, missing, inputs, lock)
    return folder


def run_single(plain: dict[str, Any]) -> None:
    """Run one point, here, and print its outcome."""
    inputs = Inputs(Path(plain["outputs"]))
    folder = run_sweep([plain], swept=[], inputs=inputs)
    run = identify(plain, inputs)
    record = read_record(folder.run_dir(run.run_id))
    assert record is not None
    say(f"run {run.run_id}: outcome.avg_dev {record.row['outcome.avg_dev']:.3f}, {record.row['wall_s']:.1f} s")
    say(f"record: {folder.run_dir(run.run_id) / 'record.json'}")


def say(text: str) -> None:
    """Print a line for the user, apart from whatever a program may read on stdout."""
    print(text, file=sys.stderr, flush=True)


def _execute(folder: SweepFolder, missing: list[PlannedRun], inputs: Inputs, lock: int) -> None:
    from causalmix.sweep.local import LocalExecutor

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
    points = write_points(folder, entries)
    resources = to_config(missing[0].plain).resources
    outcome = LocalExecutor(folder, points, resources, lock).run([run.run_id for run in missing])
    if outcome.failed:
        causes = count_causes(outcome.failed.values())
        lines = "\n".join(f"  {n} x {cause}" for cause, n in list(causes.items())[:10])
        example = next(iter(outcome.failed))
        raise SweepError(
            f"{len(outcome.failed)} of {len(missing)} runs failed:\n{lines}\n"
            f"Look at {folder.run_dir(example) / 'log'}; the same command tries the failed ones again."
        )
