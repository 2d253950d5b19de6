"""What a run's folder and record tell of its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from causalmix.errors import EvaluateError
from causalmix.train.checks import check_documents
from tests.run.test_proxy import Bench


@pytest.fixture(scope="module")
def bench(tiny_outputs: Path) -> Bench:
    return Bench(tiny_outputs)


def test_speeds_a_trace_and_counts_are_there(bench: Bench, tmp_path: Path) -> None:
    record = bench.run(tmp_path, "train.profile=true", "train.log_every=1", "train.max_length=50")
    assert record.status == "complete", record.cause
    folder = tmp_path / record.run_id
    assert (folder / "trace.json.gz").stat().st_size > 1000
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speeds = {"step_s", "wait_s", "tokens_per_s", "targets_per_s", "peak_share", "memory_mib"}
    assert all(speeds <= set(line) for line in lines)
    assert record.row["train.n_truncated"] > 0
    assert record.row["train.n_dropped"] == 0
    dropped = bench.run(tmp_path, "train.too_long=drop", "train.max_length=50")
    assert dropped.row["train.n_dropped"] == record.row["train.n_truncated"]
    assert dropped.row["train.n_truncated"] == 0
    assert dropped.run_id != record.run_id


def test_a_run_that_a_domain_has_no_part_in_fails_and_says_which(bench: Bench, tmp_path: Path) -> None:
    record = bench.run(tmp_path, "train.max_length=2")
    assert record.status == "failed"
    assert "target" in str(record.cause)
    assert "train.max_length=2" in str(record.cause)


def test_documents_are_checked_once_and_tasks_before_training(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_asked = 0

    def count(*arguments: Any) -> Any:
        nonlocal n_asked
        n_asked += 1
        return check_documents(*arguments)

    monkeypatch.setattr("causalmix.train.checks.check_documents", count)
    monkeypatch.setattr("causalmix.train.loop.check_documents", count)
    assert bench.run(tmp_path / "whole").status == "complete"
    assert n_asked == 1
    monkeypatch.setattr("causalmix.train.loop.train", lambda *_, **__: pytest.fail("trained first"))
    with pytest.raises(EvaluateError, match="no held-out documents of: no_such_task"):
        bench.run(tmp_path / "refused", "evaluate.dev.math=[no_such_task]")
