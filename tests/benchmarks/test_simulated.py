"""The benchmarks on simulated sweeps run and write what they print; their figures are nobody's test."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def run(name: str, tmp_path: Path, *options: str) -> tuple[str, dict]:
    path = tmp_path / "result.json"
    command = [sys.executable, f"benchmarks/{name}.py", "--repetitions", "2", "--workers", "1", "--json", str(path)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout, json.loads(path.read_text())


def test_coverage(tmp_path):
    printed, written = run("coverage", tmp_path, "--cells", "tree confounding")
    assert {row["estimator"] for row in written["rows"]} > {"plain forest", "forest, judged", "varying_coefficient_gp"}
    for row in written["rows"]:
        assert 0 <= row["theta"]["value"] <= 1
        assert row["width_ratio"] > 0.5
        assert row["estimator"] in printed
    assert written["date"]


def test_policy_regret(tmp_path):
    options = ["--cells", "heterogeneity=step n_runs=128", "--doubtful", "3", "--folder", str(tmp_path / "trials")]
    printed, written = run("policy_regret", tmp_path, *options)
    (row,) = written["rows"]
    assert row["keeps"] == (row["ratio"] <= 0.5)
    assert row["oracle"]["value"] < row["policies"]["Equal"]["regret"]["value"]
    assert len(list((tmp_path / "trials").iterdir())) == row["repetitions"]
    again, same = run("policy_regret", tmp_path, *options)  # nothing is fitted twice
    assert (again, same["rows"]) == (printed, written["rows"])
    assert same["seconds"] < written["seconds"] / 2
    assert row["policies"]["Equal"]["gain"]["value"] == 0
    assert all(score["regret"]["value"] >= -1e-9 for score in row["policies"].values())
    assert f"{row['ratio']:.2f}" in printed
    assert "of 1 cells" in printed
    assert row["repetitions"] == (2 if row["is_sure"] else 3)


def test_fewer_runs(tmp_path):
    printed, written = run("fewer_runs", tmp_path, "--cells", "none")
    (row,) = written["rows"]
    assert list(row["designs"]) == ["default", "wide"]
    for answer in row["designs"].values():
        assert list(answer["ours"]) == ["48", "64", "96", "128", "192", "256"]
        reached = [int(n) for n, mean in answer["ours"].items() if mean["value"] <= row["peer"]["value"]]
        assert answer["needed"] == (reached[0] if reached else None)
    assert "for 1 of 1 kinds" in printed or "for 0 of 1 kinds" in printed


def test_estimator_speed(tmp_path):
    _, written = run("estimator_speed", tmp_path, "--cells", "K=3")
    rows = {row["estimator"]: row for row in written["rows"]}
    fastest = max(rows["econml, one thread"]["times_faster"], rows["econml, all cores"]["times_faster"])
    assert math.isclose(fastest, 1.0)
    assert all(row["r_loss"]["value"] > 0.9 for row in rows.values())
