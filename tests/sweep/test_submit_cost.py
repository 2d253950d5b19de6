"""What a launch imports and writes: nothing that makes 512 runs slow to submit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conf.test_imports import HEAVY
from tests.tiny import ROOT, TINY, make_environment


@pytest.mark.slow
def test_a_launch_imports_nothing_heavy_and_writes_little(fake: Path, tiny_outputs: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    where = [f"outputs={tiny_outputs}", f"sweep_dir={sweep}", "cluster=slurm"]
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "launch.py", "-m", *TINY, *where, "seed=range(512)"],
        cwd=ROOT,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "512 to submit" in ended.stderr
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in ended.stderr.splitlines() if "|" in line}
    assert "numpy" in imported  # the list is a list of imports
    assert imported & {*HEAVY, "pyarrow", "safetensors", "scipy", "pandas"} == set()
    assert sum(path.stat().st_size for path in sweep.rglob("*") if path.is_file()) < 1_000_000
