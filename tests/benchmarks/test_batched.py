"""The benchmark of runs trained together runs and writes what it prints; its figures are nobody's test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import MODEL, POOL, ROOT, make_environment

pytestmark = pytest.mark.slow


def test_groups_of_one_and_two(tmp_path: Path, tiny_outputs: Path) -> None:
    overrides = [part for each in [*MODEL, *POOL, "evaluate.limit=2"] for part in ("--override", each)]
    sizes = ["--runs", "2", "--samples", "40", "--cells", "32 wide, 1", "--outputs", str(tiny_outputs)]
    path = tmp_path / "result.json"
    command = [sys.executable, "benchmarks/batched.py", "--json", str(path), *sizes, *overrides]
    done = subprocess.run(command, cwd=ROOT, env=make_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    assert [row["together"] for row in written["rows"]] == [1, 2]
    assert written["rows"][0]["gain"] == 1
    assert all(0 <= row["difference"] < 1e-5 for row in written["rows"])
    assert all(0 < row["training_share"] < 1 for row in written["rows"])
    assert written["date"]
    assert f"{written['rows'][1]['runs_per_min']:.1f}" in done.stdout
    assert "32 wide, 1 x 64 tokens: " in done.stdout.splitlines()[-1]
