"""What a launch would do and cost, from what earlier runs of the same sweep took; nothing is submitted or written."""

from __future__ import annotations

import math
import os
import shutil
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from causalmix.config import Config
from causalmix.run.record import read_record
from causalmix.sweep import slurm
from causalmix.sweep.folder import SweepFolder
from causalmix.sweep.jobs import reconcile
from causalmix.sweep.points import PlannedRun
from causalmix.sweep.script import Shape, render_script, shape_tasks, work_on

MEASURED = 64  # runs whose folders are measured at most: a sum over thousands is no better


@dataclass(frozen=True)
class Plan:
    """Counts and costs of a launch.

    Attributes
    ----------
    n_runs, n_complete, n_queued, n_missing : int
        Asked for; done; in the hands of active tasks; to do.
    run_s, run_bytes : float or None
        Median seconds and bytes of the sweep's complete runs; None where none is complete.
    limit_s : float
        Seconds a run may take.
    n_at_once : int
        Runs at once, as far as the settings say.
    n_gpus : int
        GPUs a run.
    shape : Shape or None
        Tasks and arrays; None for runs on this machine.
    script : str
        The first batch script.
    free_bytes : int
        Free space where the sweep lies.
    """

    n_runs: int
    n_complete: int
    n_queued: int
    n_missing: int
    run_s: float | None
    run_bytes: float | None
    limit_s: float
    n_at_once: int
    n_gpus: float
    shape: Shape | None
    script: str
    free_bytes: int

    def render(self) -> str:
        """Write the plan for a reader."""
        queued = f"{self.n_queued} in the queue, " if self.n_queued else ""
        lines = [f"runs       {self.n_runs} asked for, {self.n_complete} complete, {queued}{self.n_missing} to do"]
        if self.shape is not None:
            sizes = Counter(self.shape.arrays)
            arrays = " and ".join(f"{n} of {size} tasks" for size, n in sizes.items()) or "none"
            lines.append(
                f"tasks      {self.shape.n_tasks} of at most {self.shape.time_min} min, {self.shape.n_workers} "
                f"worker(s) each; arrays: {arrays}"
            )
        lines.append(f"time       {self._describe_time()}")
        lines.append(f"disk       {self._describe_disk()}")
        if self.script:
            lines += ["", self.script.rstrip()]
        lines += ["", "nothing was submitted (plan=true)"]
        return "\n".join(lines)

    def _describe_time(self) -> str:
        unit, each = ("GPU-hours", self.n_gpus) if self.n_gpus else ("worker-hours", 1.0)
        if self.run_s is None:
            most = self.n_missing * self.limit_s / 3600 * each
            return (
                f"not measured: no run of this sweep is complete. At most {most:,.1f} {unit} (resources.timeout_min); "
                f"run one seed first to know"
            )
        total_s = self.n_missing * self.run_s
        wall_s = math.ceil(self.n_missing / max(1, self.n_at_once)) * self.run_s
        return (
            f"{total_s / 3600 * each:,.2f} {unit} at {self.run_s:,.1f} s a run (median of those complete); "
            f"{wall_s / 3600:,.2f} h with {self.n_at_once} at once"
        )

    def _describe_disk(self) -> str:
        free = f"{self.free_bytes / 1e9:,.1f} GB free"
        if self.run_bytes is None:
            return f"not measured; {free}"
        return f"{self.n_missing * self.run_bytes / 1e9:,.3f} GB at {self.run_bytes / 1e6:,.2f} MB a run; {free}"


def make_plan(folder: SweepFolder, runs: list[PlannedRun], config: Config, is_remote: bool) -> Plan:
    """Reconcile as a launch would, and measure what is complete.

    Raises
    ------
    SweepError
        Where SLURM refuses a setting.
    """
    found = reconcile(folder, runs, is_remote)
    n_missing = len(found.missing)
    shape, script = None, ""
    n_at_once = config.resources.n_workers or os.cpu_count() or 1
    if is_remote:
        shape = shape_tasks(n_missing, config.cluster, config.resources, slurm.read_max_array(), len(found.tasks))
        n_at_once = min(shape.n_tasks, config.cluster.max_running or shape.n_tasks) * shape.n_workers
        if n_missing:
            name = f"{folder.sweep_id}-plan"
            sweep = folder.path.resolve()
            command = work_on(sweep, name, "points.json")
            script = render_script(name, sweep, command, shape, config.cluster, config.resources)
    run_s, run_bytes = measure_runs(folder, found.complete[:MEASURED])
    return Plan(
        n_runs=len(runs),
        n_complete=len(found.complete),
        n_queued=len(runs) - len(found.complete) - n_missing,
        n_missing=n_missing,
        run_s=run_s,
        run_bytes=run_bytes,
        limit_s=config.resources.timeout_min * 60.0,
        n_at_once=n_at_once,
        n_gpus=config.resources.gpus * config.resources.nodes / (shape.n_workers if shape else 1),
        shape=shape,
        script=script,
        free_bytes=shutil.disk_usage(find_existing(folder.path)).free,
    )


def measure_runs(folder: SweepFolder, runs: list[PlannedRun]) -> tuple[float | None, float | None]:
    """Measure the median seconds and bytes of complete runs."""
    seconds, sizes = [], []
    for run in runs:
        run_dir = folder.run_dir(run.run_id)
        record = read_record(run_dir)
        assert record is not None
        seconds.append(float(record.row.get("device_s", record.row["wall_s"])))
        sizes.append(sum(path.stat().st_size for path in run_dir.rglob("*") if path.is_file()))
    return (statistics.median(seconds), statistics.median(sizes)) if seconds else (None, None)


def find_existing(path: Path) -> Path:
    """Find the nearest folder above that exists."""
    while not path.exists():
        path = path.parent
    return path
