"""Runs whose trainings are one computation leave the records of runs alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from causalmix.errors import LostClaimError
from causalmix.run.guard import Guard
from causalmix.run.proxy import run_proxy
from causalmix.run.record import Record, read_record
from causalmix.run.together import Order, run_together
from causalmix.sweep.worker import make_point
from causalmix.table.from_wandb.log import read_log
from tests.run.test_proxy import Bench

TIMES = ("started_at", "wall_s", "device_s")
STEPS = ["train.n_samples=60", "train.log_every=2"]


@pytest.fixture(scope="module")
def bench(tiny_outputs: Path) -> Bench:
    return Bench(tiny_outputs)


def order(bench: Bench, folder: Path, *overrides: str, guard: Guard | None = None) -> Order:
    point = make_point(bench.make_entry(*STEPS, *overrides), "sweep")
    return Order(point, folder / point.run_id, guard or Guard())


def check_alike(found: Record, alone: Record) -> None:
    """Same words; numbers of training and evaluation to 1e-5."""
    assert (found.status, alone.status) == ("complete", "complete"), (found.cause, alone.cause)
    assert found.row.keys() == alone.row.keys()
    for name, value in alone.row.items():
        if name in TIMES:
            continue
        if name.startswith(("outcome.", "unseen.", "train.loss_")):
            assert found.row[name] == pytest.approx(value, rel=1e-5), name
        else:
            assert found.row[name] == value, name
    assert [event["event"] for event in found.events] == [event["event"] for event in alone.events]
    assert found.identity == alone.identity


def read_steps(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_records_are_those_of_the_runs_alone(bench: Bench, tmp_path: Path) -> None:
    settings = [["seed=0"], ["seed=1", "train.lr_peak=5e-3"], ["seed=1", "replicate=1", "train.n_samples=90"]]
    orders = [order(bench, tmp_path / "beside", *own) for own in settings]
    found = dict(run_together(orders, bench.workshop))
    assert list(found) == [each.point.run_id for each in orders]
    for each in orders:
        beside = found[each.point.run_id]
        assert isinstance(beside, Record)
        alone_dir = tmp_path / "alone" / each.point.run_id
        alone = run_proxy(each.point, alone_dir, bench.workshop)
        check_alike(beside, alone)
        assert read_record(each.run_dir) == beside
        assert beside.provenance["batch_runs"] == 3
        assert beside.row["device_s"] < beside.row["wall_s"]
        assert (each.run_dir / "manifest.parquet").read_bytes() == (alone_dir / "manifest.parquet").read_bytes()
        steps = [{name: line[name] for name in ("step", "lr", "n_tokens")} for line in read_steps(each.run_dir)]
        assert steps == [{name: line[name] for name in ("step", "lr", "n_tokens")} for line in read_steps(alone_dir)]
        scores = [json.loads(path.read_text()) for path in sorted((each.run_dir / "eval").iterdir())]
        assert [score["task"] for score in scores] == [path.stem for path in sorted((alone_dir / "eval").iterdir())]


def test_one_alone_has_the_bits_of_one_alone(bench: Bench, tmp_path: Path) -> None:
    one = order(bench, tmp_path / "one", "seed=3")
    ((_, found),) = run_together([one], bench.workshop)
    assert isinstance(found, Record)
    alone = run_proxy(one.point, tmp_path / "alone", bench.workshop)
    assert {k: v for k, v in found.row.items() if k not in TIMES} == {
        k: v for k, v in alone.row.items() if k not in TIMES
    }
    assert "batch_runs" not in found.provenance


def test_a_run_that_fails_has_its_own_cause_and_the_others_their_scores(bench: Bench, tmp_path: Path) -> None:
    orders = [
        order(bench, tmp_path, "seed=0"),
        order(bench, tmp_path, "seed=1", "train.lr_peak=1e30"),  # its loss is soon no number
        order(bench, tmp_path, "seed=2", "train.n_samples=100000"),  # more than its pool can give
    ]
    found = dict(run_together(orders, bench.workshop))
    first, second, third = (found[each.point.run_id] for each in orders)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert isinstance(third, Record)
    assert "Its documents: " in str(second.cause)
    assert "repeats" in str(third.cause)
    assert [first.status, second.status, third.status] == ["complete", "failed", "failed"]
    assert "TrainError" in (orders[1].run_dir / "log" / "failure.txt").read_text()
    check_alike(first, run_proxy(orders[0].point, tmp_path / "alone", bench.workshop))


def stop_at(n_calls: int, error: Exception | None = None) -> Callable[[], bool]:
    asked: list[int] = []

    def should_stop() -> bool:
        asked.append(1)
        if error is not None and len(asked) == n_calls:
            raise error
        return len(asked) >= n_calls

    return should_stop


def test_a_group_told_to_stop_goes_on_in_another_group_or_alone(bench: Bench, tmp_path: Path) -> None:
    def list_orders(guard: Callable[[], Guard]) -> list[Order]:
        return [order(bench, tmp_path, f"seed={seed}", guard=guard()) for seed in (5, 6, 7)]

    stopped = dict(run_together(list_orders(lambda: Guard(stop_at(3), can_resume=True)), bench.workshop))
    assert {outcome.status for outcome in stopped.values() if isinstance(outcome, Record)} == {"preempted"}
    first, second, third = list_orders(lambda: Guard(can_resume=True))
    found = dict(run_together([first, third], bench.workshop))
    found[second.point.run_id] = run_proxy(second.point, second.run_dir, bench.workshop, second.guard)
    for each in (first, second, third):
        record = found[each.point.run_id]
        assert isinstance(record, Record)
        check_alike(record, run_proxy(each.point, tmp_path / "alone" / each.point.run_id, bench.workshop))
        assert next(line["step"] for line in read_steps(each.run_dir)) == 2, "what was logged before stays"


def test_a_lost_claim_is_one_runs_own(bench: Bench, tmp_path: Path) -> None:
    lost = order(bench, tmp_path, "seed=8", guard=Guard(stop_at(2, LostClaimError("run x: claim 1 was taken over"))))
    other = order(bench, tmp_path, "seed=9")
    found = dict(run_together([lost, replace(other, guard=Guard())], bench.workshop))
    assert isinstance(found[lost.point.run_id], LostClaimError)
    assert not (lost.run_dir / "record.json").exists()
    record = found[other.point.run_id]
    assert isinstance(record, Record)
    assert record.status == "complete"


def test_each_run_is_its_own_in_wandb(bench: Bench, tmp_path: Path) -> None:
    orders = [order(bench, tmp_path, f"seed={seed}", "tracker=offline") for seed in (10, 11, 12)]
    found = dict(run_together(orders, bench.workshop))
    for each in orders:
        record = found[each.point.run_id]
        assert isinstance(record, Record)
        assert record.status == "complete", record.cause
        assert not (each.run_dir / "log" / "tracker.txt").exists()
        (file,) = (each.run_dir / "log").rglob("*.wandb")
        values = [json.loads(update.value_json) for update in read_summary(file) if update.key == "outcome.avg_dev"]
        assert values == [record.row["outcome.avg_dev"]]


def read_summary(file: Path) -> list[Any]:
    """List the updates of the summary in a W&B file."""
    return [update for entry in read_log(file) for update in entry.summary.update]
