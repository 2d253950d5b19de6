"""A launch without a pool: runs of given ids, submitted to whatever SLURM is on PATH; a program too, to be killed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from causalmix.config import Config
from causalmix.sweep.folder import SweepFolder
from causalmix.sweep.points import PlannedRun, to_config
from causalmix.sweep.remote import submit_missing
from causalmix.sweep.script import check_cluster
from tests.plain import make_plain


def make_config(**groups: dict[str, Any]) -> Config:
    plain = make_plain()
    plain["cluster"] |= {"kind": "slurm", "jitter_s": 0.0}
    for group, values in groups.items():
        plain[group] |= values
    return to_config(plain)


def list_runs(sweep: Path, n_runs: int) -> list[PlannedRun]:
    return [PlannedRun(f"run{at}", {**make_plain(), "seed": at}, {}, sweep) for at in range(n_runs)]


def list_entries(runs: list[PlannedRun]) -> list[dict[str, Any]]:
    return [{"run_id": run.run_id, "plain": run.plain} for run in runs]


def submit(sweep: Path, n_runs: int, must_wait: bool = False, **groups: dict[str, Any]) -> SweepFolder:
    folder = SweepFolder(sweep, "s1")
    sweep.mkdir(parents=True, exist_ok=True)
    (sweep / "sweep.json").write_text("{}")
    config = make_config(**groups)
    check_cluster(config.cluster)
    submit_missing(folder, list_runs(sweep, n_runs), config, list_entries, must_wait)
    return folder


if __name__ == "__main__":
    submit(Path(sys.argv[1]), int(sys.argv[2]))
