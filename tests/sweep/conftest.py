"""A fake SLURM on PATH."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from tests.tiny import ROOT


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's commands on PATH, and the folder of their state."""
    state, commands = tmp_path / "fake", tmp_path / "bin"
    state.mkdir()
    commands.mkdir()
    for name in ("sbatch", "squeue", "scancel", "sinfo", "scontrol", "srun", "sacct", "sacctmgr"):
        script = commands / name
        script.write_text(f"#!{sys.executable}\n{(ROOT / 'tests/sweep/fake_slurm.py').read_text()}")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("FAKE_SLURM", str(state))
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return state
