"""The benchmarks of the pool's draws run, agree with their peers and write what they print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import ROOT, make_environment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pool_packing", ["--documents", "3000"]),
        ("pool_reading", ["--documents", "1500"]),
        ("pool_draws", ["--documents", "20000", "--samples", "5000"]),
    ],
)
def test_it_runs_and_agrees_with_its_peer(tmp_path: Path, name: str, options: list[str]) -> None:
    path = tmp_path / "result.json"
    command = [sys.executable, f"benchmarks/{name}.py", *options, "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=make_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    assert written["command"].startswith(f"python benchmarks/{name}.py")
    for row in written["rows"]:
        assert row["what"] in done.stdout
        assert row["seconds"] > 0
