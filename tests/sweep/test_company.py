"""A packed worker that trains real tiny runs together: claims, hearts and ends are each run's own."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from causalmix.config import ResourcesConfig
from causalmix.run.guard import Guard
from causalmix.run.record import Record, read_record
from causalmix.sweep.claims import Claim, Claims
from causalmix.sweep.company import try_group
from causalmix.sweep.folder import SweepFolder, open_sweep, read_points, write_points
from causalmix.sweep.heart import Heart
from causalmix.sweep.jobs import Submission, read_submission
from causalmix.sweep.packed import Shift, hear_signals
from causalmix.sweep.place import Place
from causalmix.sweep.points import Inputs, plan_runs
from causalmix.sweep.processes import describe_process
from causalmix.sweep.script import STOPPED
from causalmix.sweep.submit import list_entries
from causalmix.table.runs import load_runs
from tests.tiny import compose_tiny, launch_tiny

NAME = "s1-a"


def make_sweep(outputs: Path, sweep: Path, n_runs: int, *overrides: str) -> list[str]:
    """Write what a launch leaves for one worker; return the runs in order."""
    inputs = Inputs(outputs)
    plain = compose_tiny(outputs, "train.batch_runs=4", *overrides)
    runs = plan_runs([{**plain, "seed": seed} for seed in range(n_runs)], inputs)
    folder = open_sweep(outputs, str(sweep), runs, [])
    table = write_points(folder, list_entries(runs, inputs))
    arrays = [{"name": f"{NAME}-0", "n_tasks": 1, "job_id": "100"}]
    resources = asdict(ResourcesConfig(name="r", lease_s=1.0))
    Submission(NAME, table.name, n_runs, arrays, resources, folder.sweep_id).write(sweep)
    return [run.run_id for run in runs]


def open_shift(sweep: Path, kind: type[Shift] = Shift) -> Shift:
    submission = read_submission(sweep / "jobs" / f"{NAME}.json")
    entries = read_points(sweep / "points" / submission.points)
    return kind(SweepFolder(sweep, submission.sweep_id), submission, entries, Place("100_0"))


def read_all(sweep: Path, run_ids: list[str]) -> list[Record]:
    records = [read_record(sweep / "runs" / run_id) for run_id in run_ids]
    assert None not in records
    return [record for record in records if record is not None]


class Interrupted(Shift):
    """Told to stop after two steps of its first run."""

    def make_guard(self, run_id: str, claim: Claim, heart: Heart, n_runs: int = 1) -> Guard:
        guard, asked = super().make_guard(run_id, claim, heart, n_runs), []

        def should_stop() -> bool:
            asked.append(1)
            self.told = self.told or len(asked) == 2
            return guard.should_stop()

        return replace(guard, should_stop=should_stop)


def test_a_group_stopped_and_gone_on_with_leaves_every_runs_record(tiny_outputs: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    run_ids = make_sweep(tiny_outputs, sweep, 5, "train.n_samples=60")
    assert open_shift(sweep, Interrupted).work() == STOPPED
    stopped = read_all(sweep, run_ids[:4])
    assert [record.status for record in stopped] == ["preempted"] * 4
    assert {record.cause for record in stopped} <= {
        f"told to stop after step {at} of {n}" for at in (2, 3) for n in range(9)
    }
    assert read_record(sweep / "runs" / run_ids[4]) is None

    assert open_shift(sweep).work() == 0
    records = read_all(sweep, run_ids)
    assert [record.status for record in records] == ["complete"] * 5
    assert [record.provenance.get("batch_runs") for record in records] == [4, 4, 4, 4, None]
    assert all(record.provenance["earlier_s"] > 0 for record in records[:4])
    assert [[attempt["ended"] for attempt in record.provenance["attempts"]] for record in records[:4]] == [
        ["preempted", None]
    ] * 4
    assert all((sweep / "claims" / run_id / "2.end").read_text() == "complete" for run_id in run_ids[:4])


def test_runs_of_other_workers_and_runs_that_killed_one_are_left_out(tiny_outputs: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    run_ids = make_sweep(tiny_outputs, sweep, 4)
    shift = open_shift(sweep)
    other = Claims(sweep / "claims", {"job": "other"}, lease_s=60.0)
    assert other.take(run_ids[1])
    dead = Claims(sweep / "claims", {"job": "100_0", "submission": NAME}, process=die(), lease_s=60.0)
    assert dead.take(run_ids[2])
    assert shift.order_runs() == run_ids
    assert try_group(shift, run_ids) == [run_ids[1]]
    first, third, fourth = read_all(sweep, [run_ids[0], run_ids[2], run_ids[3]])
    assert [each.status for each in (first, third, fourth)] == ["complete"] * 3
    assert [each.provenance.get("batch_runs") for each in (first, third, fourth)] == [2, None, 2]


def die() -> dict[str, Any]:
    """Describe a process that is gone."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, json.dumps(describe_process()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    said: dict[str, Any] = json.loads(os.read(reader, 4096))
    return said


@pytest.mark.slow
def test_a_killed_worker_costs_its_group_no_run(tiny_outputs: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    run_ids = make_sweep(tiny_outputs, sweep, 3, "train.n_samples=400", "train.n_epochs=10", "train.checkpoint_every=5")
    pid = os.fork()
    if pid == 0:
        try:
            shift = open_shift(sweep)
            hear_signals(shift)
            shift.work()
        finally:
            os._exit(0)
    while not all(any((sweep / "runs" / run_id / "checkpoint").glob("step-*")) for run_id in run_ids):
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert open_shift(sweep).work() == 0
    records = read_all(sweep, run_ids)
    assert [record.status for record in records] == ["complete"] * 3
    assert [record.provenance.get("batch_runs") for record in records] == [None] * 3, "each alone after a death"
    for run_id in run_ids:
        steps = [line.split(",")[0] for line in (sweep / "runs" / run_id / "metrics.jsonl").read_text().splitlines()]
        assert len(steps) == len(set(steps))


@pytest.mark.slow
def test_a_launch_with_groups_gives_the_table_of_one_without(tiny_outputs: Path, tmp_path: Path) -> None:
    """One run in four has a learning rate that ends in a loss that is no number: it fails, alone."""
    asked = ["seed=range(3)", "train.lr_peak=2e-3,1e30", "resources.n_workers=1"]
    tables = {}
    for n_runs in (1, 4):
        sweep = tmp_path / str(n_runs)
        ended = launch_tiny(tiny_outputs, *asked, f"train.batch_runs={n_runs}", f"sweep_dir={sweep}")
        assert ended.returncode == 2, ended.stderr
        assert "3 of 6 runs failed" in ended.stderr
        assert "Its documents: " in ended.stderr
        assert ("6 runs train in 2 groups of up to 4, 0 alone" in ended.stderr) == (n_runs == 4)
        tables[n_runs] = load_runs(str(sweep)).frame.set_index("run_id").sort_index()
    assert tables[1].index.equals(tables[4].index)
    names = [name for name in tables[1].columns if name.startswith(("outcome.", "train.", "mixture.", "state."))]
    assert np.allclose(tables[1][names].to_numpy(float), tables[4][names].to_numpy(float), rtol=1e-5, atol=0)
    assert len(tables[1]) == 3
