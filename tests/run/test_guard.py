"""A run that is told to stop, is too slow or belongs to another worker; metrics of a resumed run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from causalmix.errors import LostClaimError, RunTimedOutError
from causalmix.run.guard import Guard
from causalmix.run.metrics import Metrics
from causalmix.run.proxy import run_proxy
from causalmix.run.record import Record, read_record
from causalmix.sweep.worker import make_point
from tests.run.test_proxy import Bench

STEPS = ["train.n_samples=80", "train.log_every=1"]


@pytest.fixture(scope="module")
def bench(tiny_outputs: Path) -> Bench:
    return Bench(tiny_outputs)


def run(bench: Bench, folder: Path, guard: Guard) -> tuple[Record, Path]:
    entry = bench.make_entry(*STEPS)
    run_dir = folder / entry["run_id"]
    return run_proxy(make_point(entry, "sweep"), run_dir, bench.workshop, guard), run_dir


def after(n_calls: int, what: Callable[[], bool]) -> Callable[[], bool]:
    """Do ``what`` at the n-th call, and say "go on" before."""
    calls = 0

    def asked() -> bool:
        nonlocal calls
        calls += 1
        return calls >= n_calls and what()

    return asked


def test_told_to_stop_twice_a_run_ends_with_the_same_bits(bench: Bench, tmp_path: Path) -> None:
    whole, _ = run(bench, tmp_path / "whole", Guard())
    n_steps = whole.row["train.n_steps"]
    assert n_steps > 4
    for _ in range(2):
        stopped, run_dir = run(bench, tmp_path / "parts", Guard(after(2, lambda: True), can_resume=True))
        assert stopped.status == "preempted"
        assert read_record(run_dir) == stopped
    assert stopped.cause == f"told to stop after step 4 of {n_steps}"
    ended, run_dir = run(bench, tmp_path / "parts", Guard(can_resume=True))
    times = ("started_at", "wall_s", "device_s")
    assert {k: v for k, v in ended.row.items() if k not in times} == {
        k: v for k, v in whole.row.items() if k not in times
    }
    steps = [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, n_steps + 1))
    assert not (run_dir / "checkpoint").exists()


def test_a_run_that_is_too_slow_is_timed_out(bench: Bench, tmp_path: Path) -> None:
    def refuse() -> bool:
        raise RunTimedOutError("longer than resources.timeout_min=1")

    record, run_dir = run(bench, tmp_path, Guard(after(2, refuse)))
    assert (record.status, record.cause) == ("timed_out", "longer than resources.timeout_min=1")
    assert read_record(run_dir) == record


def test_a_run_of_another_worker_leaves_no_record(bench: Bench, tmp_path: Path) -> None:
    def lose() -> bool:
        raise LostClaimError("taken over")

    with pytest.raises(LostClaimError):
        run(bench, tmp_path, Guard(after(2, lose)))
    assert not list(tmp_path.glob("*/record.json"))


def test_a_guard_tells_who_ran(bench: Bench, tmp_path: Path) -> None:
    record, _ = run(bench, tmp_path, Guard(describe=lambda: {"job": "7_1"}))
    assert record.provenance["job"] == "7_1"


def test_metrics_keep_what_was_before_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"step": 20}\n{"step": 30}\n{"st')  # killed in the middle of a line
    with Metrics(path) as metrics:
        assert path.read_text().endswith('{"st'), "nothing is touched before the first new line"
        metrics.add({"step": 20})
        metrics.add({"step": 30})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20, 30]
