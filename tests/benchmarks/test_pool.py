"""The benchmarks on pools run and check that equal work was done; their figures are nobody's test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pool_corpus import DOMAINS, write_corpus

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}.py", *options], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_questions_are_listed() -> None:
    assert "\n  ingest " in run("pool")


def test_corpus_repeats_for_a_seed_and_has_duplicates(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", 500, seed=1)
    write_corpus(tmp_path / "b", 500, seed=1)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 4 * len(DOMAINS)
    rows: list[Any] = []
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        rows += [json.loads(line) for line in (tmp_path / "a" / name).read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == 500
    assert 5 <= 500 - len({str(row["messages"]) for row in rows}) <= 30


@pytest.mark.slow
def test_ingest_does_equal_work(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    run("pool", "ingest", "--documents", "300", "--repetitions", "1", "--workers", "1", "--json", str(path))
    assert json.loads(path.read_text())["equal_token_ids"] is True


@pytest.mark.slow
def test_scale_goes_from_files_to_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    printed = run("scale", "--documents", "1500", "--samples", "300", "--folder", str(tmp_path), "--json", str(path))
    result = json.loads(path.read_text())
    assert result["manifest_documents"] == 300
    assert sum(result["weights"].values()) == pytest.approx(1, abs=0.01)
    assert result["left_out"]["exact_duplicates"] > 20
    assert all(step["step"] in printed for step in result["steps"])
    assert 0 < result["peak_mib"] < 2048
