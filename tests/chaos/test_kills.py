"""Kills in CI's share; `make chaos` does ten thousand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import ROOT, make_environment


@pytest.mark.slow
def test_real_runs_under_kills_are_the_runs_of_a_quiet_machine(tiny_outputs: Path) -> None:
    """Four runs; `make chaos` does 64 under 200 kills."""
    command = [sys.executable, "-m", "tests.chaos.real_runs", "--runs", "4", "--kills", "12"]
    ended = subprocess.run(
        [*command, "--outputs", str(tiny_outputs)],
        cwd=ROOT,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = json.loads(ended.stdout.splitlines()[-1])
    assert counts["complete"] == 4
    assert counts["kills"] >= 4
    names = ("lost", "twice", "corrupt", "changed", "redone_too_much")
    assert [counts[name] for name in names] == [0] * 5


@pytest.mark.slow
def test_five_hundred_kills_lose_double_and_corrupt_nothing() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos.kills", "500"],
        cwd=ROOT,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = json.loads(ended.stdout)
    assert counts["kills"] == 500
    assert counts["complete"] == 64 * counts["sweeps"]
    assert (counts["lost"], counts["twice"], counts["corrupt"]) == (0, 0, 0)
