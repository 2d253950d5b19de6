"""The local executor against workers that die, hang, fail and answer too late."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from causalmix.config import ResourcesConfig
from causalmix.errors import SweepError
from causalmix.run.record import read_record
from causalmix.sweep import local
from causalmix.sweep.folder import SweepFolder
from causalmix.sweep.launch_lock import hold_lock
from tests.tiny import ROOT


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[local.LocalExecutor]:
    monkeypatch.setattr(local, "WORKER", [sys.executable, str(ROOT / "tests" / "sweep" / "stub_worker.py")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT)]))
    folder = SweepFolder(tmp_path, "s")
    resources = ResourcesConfig(name="cpu", n_workers=2, timeout_min=1)
    with hold_lock(folder) as lock:
        yield local.LocalExecutor(folder, tmp_path / "points.json", resources, lock)


def attempts(folder: Path, run_id: str) -> list[str]:
    return (folder / "runs" / run_id / "attempts").read_text().split()


def test_every_run_once_over_warm_workers(executor: local.LocalExecutor, tmp_path: Path) -> None:
    names = [f"run{at}" for at in range(12)]
    outcome = executor.run(names)
    assert sorted(outcome.complete) == sorted(names)
    assert outcome.failed == {}
    pids = [attempts(tmp_path, name) for name in names]
    assert all(len(pid) == 1 for pid in pids)
    assert len({pid[0] for pid in pids}) <= 2
    for pid in {pid[0] for pid in pids}:
        assert not Path(f"/proc/{pid}").exists()


def test_never_more_workers_than_runs(executor: local.LocalExecutor) -> None:
    executor.run(["run0"])
    assert executor.started == 1


def test_a_run_whose_worker_died_is_done_again(executor: local.LocalExecutor, tmp_path: Path) -> None:
    outcome = executor.run(["run0", "once1", "run2", "once3", "run4"])
    assert sorted(outcome.complete) == ["once1", "once3", "run0", "run2", "run4"]
    assert len(attempts(tmp_path, "once1")) == 2
    assert len(attempts(tmp_path, "run0")) == 1


def test_runs_together_are_settled_one_by_one(executor: local.LocalExecutor, tmp_path: Path) -> None:
    groups = [["fails0", "fails1", "run2"], ["run3"], ["run4", "lost5"]]
    outcome = executor.run([run_id for group in groups for run_id in group], groups)
    assert sorted(outcome.complete) == ["run2", "run3", "run4"]
    assert sorted(outcome.failed) == ["fails0", "fails1", "lost5"]
    assert len({attempts(tmp_path, run_id)[0] for run_id in groups[0]}) == 1, "one worker did them"


def test_the_dead_of_a_group_are_tried_apart(executor: local.LocalExecutor, tmp_path: Path) -> None:
    outcome = executor.run(["run0", "dies1", "run2", "run3"], [["run0", "dies1", "run2"], ["run3"]])
    assert sorted(outcome.complete) == ["run0", "run2", "run3"]
    assert sorted(outcome.failed) == ["dies1"]
    assert [len(attempts(tmp_path, name)) for name in ("run0", "dies1", "run2")] == [1, 2, 1]


def test_an_overdue_group_is_tried_apart(executor: local.LocalExecutor, tmp_path: Path) -> None:
    executor.resources.timeout_min = 0.01  # type: ignore[assignment]
    outcome = executor.run(["slow0", "run1"], [["slow0", "run1"]])
    assert outcome.complete == ["run1"]
    assert "longer than resources.timeout_min=0.01" in outcome.failed["slow0"]
    assert len(attempts(tmp_path, "slow0")) == 2


@pytest.mark.parametrize(("name", "how"), [("dies0", "signal 9"), ("exits0", "exit status 3")])
def test_a_run_that_kills_two_workers_failed(
    executor: local.LocalExecutor, tmp_path: Path, name: str, how: str
) -> None:
    outcome = executor.run([name, "run1", "run2"])
    assert sorted(outcome.complete) == ["run1", "run2"]
    assert outcome.failed == {name: f"its worker died ({how})"}
    assert len(attempts(tmp_path, name)) == local.ATTEMPTS
    record = read_record(tmp_path / "runs" / name)
    assert record is not None
    assert record.status == "failed"
    assert f"its worker died ({how}); see " in str(record.cause)


def test_an_overdue_run_is_stopped_and_said_to_be(executor: local.LocalExecutor, tmp_path: Path) -> None:
    executor.resources.timeout_min = 0.02  # type: ignore[assignment]
    outcome = executor.run(["slow0", "run1", "run2", "run3"])
    assert sorted(outcome.complete) == ["run1", "run2", "run3"]
    record = read_record(tmp_path / "runs" / "slow0")
    assert record is not None
    assert record.status == "timed_out"
    assert "longer than resources.timeout_min=0.02" in str(record.cause)
    assert len(attempts(tmp_path, "slow0")) == 1  # no second try: it would take as long
    assert not Path(f"/proc/{attempts(tmp_path, 'slow0')[0]}").exists()


def test_a_record_counts_even_where_the_answer_never_came(executor: local.LocalExecutor, tmp_path: Path) -> None:
    outcome = executor.run(["mute0", "run1"])
    assert sorted(outcome.complete) == ["mute0", "run1"]
    assert len(attempts(tmp_path, "mute0")) == 1


def test_failures_and_losses_are_reported(executor: local.LocalExecutor, tmp_path: Path) -> None:
    outcome = executor.run(["fails0", "lost1", "run2"])
    assert outcome.complete == ["run2"]
    assert outcome.failed == {"fails0": "as asked", "lost1": "lost"}
    assert read_record(tmp_path / "runs" / "lost1") is None  # nothing could be written: it stays missing


def test_an_interrupt_leaves_no_worker(
    executor: local.LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = executor._hear

    def interrupt(worker: local._Worker, bar: object) -> None:
        heard(worker, bar)
        raise KeyboardInterrupt

    monkeypatch.setattr(executor, "_hear", interrupt)
    with pytest.raises(KeyboardInterrupt):
        executor.run(["run0", "slow1"])
    for name in ("run0", "slow1"):
        path = tmp_path / "runs" / name / "attempts"
        if path.exists():
            assert not Path(f"/proc/{path.read_text().split()[0]}").exists()


def test_a_broken_installation_stops_the_sweep_early(executor: local.LocalExecutor, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"6 workers died and no run ended.*signal 9.*worker-"):
        executor.run([f"dies{at}" for at in range(100)])
    assert len(list((tmp_path / "log").iterdir())) <= 8  # not two hundred starts
