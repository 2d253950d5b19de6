"""A packed worker on real tiny runs, without SLURM: nothing is unpickled, the second run starts at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from causalmix.sweep.status import read_status
from tests.tiny import ROOT, TINY, launch, make_environment


@pytest.mark.slow
def test_a_worker_unpickles_nothing_and_is_warm_for_its_second_run(
    fake: Path, tiny_outputs: Path, tmp_path: Path
) -> None:
    sweep, report = tmp_path / "sweep", tmp_path / "report.json"
    arguments = [*TINY, f"outputs={tiny_outputs}", "cluster=slurm", "cluster.jitter_s=0", f"sweep_dir={sweep}"]
    submitted = launch("-m", *arguments, "seed=range(4)")
    assert submitted.returncode == 0, submitted.stderr
    submission, points = (next((sweep / name).glob("*.json")) for name in ("jobs", "points"))
    program = ROOT / "tests/sweep/watched_worker.py"
    environment = {**make_environment(), "SLURM_ARRAY_JOB_ID": "100", "SLURM_JOB_ID": "100", "SLURM_NTASKS": "64"}
    ended = subprocess.run(
        [sys.executable, str(program), str(sweep), submission.stem, points.name, str(report)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (fake / "jobs.json").unlink()
    assert read_status(sweep).by_status == {"complete": 4}
    said = json.loads(report.read_text())
    assert said["unpickled"] == []
    assert len(said["starts"]) == 4
    assert min(said["starts"][1:]) < 0.2, "CPU seconds from the claim to the first step"
    assert not list(sweep.rglob("*.pkl"))
    assert os.environ.get("SLURM_JOB_ID") is None
