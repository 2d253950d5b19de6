"""Packed workers on one folder: each run once, told to stop, killed, silent; the record tells every attempt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from causalmix.run.record import Record, is_complete, read_record
from causalmix.sweep.claims import Claims, list_numbers
from causalmix.sweep.place import Place, take_gpu
from causalmix.sweep.script import STOPPED
from tests.sweep.stub_shift import StubShift, make_submission, open_shift
from tests.tiny import ROOT, make_environment


def start_worker(sweep: Path, task: int, name: str = "s1-a") -> subprocess.Popen[bytes]:
    program = [sys.executable, str(ROOT / "tests/sweep/stub_shift.py"), str(sweep), name, str(task)]
    return subprocess.Popen(program, env=make_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def count_attempts(sweep: Path, run_id: str) -> int:
    path = sweep / "runs" / run_id / "attempts"
    return len(path.read_text().split()) if path.exists() else 0


def read(sweep: Path, run_id: str) -> Record:
    record = read_record(sweep / "runs" / run_id)
    assert record is not None
    return record


def test_workers_share_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("fcntl.flock")  # no worker ever asks the file system for a lock
    monkeypatch.delattr("fcntl.lockf")
    names = [f"run{at}" for at in range(12)]
    make_submission(tmp_path, names)
    shifts = [open_shift(tmp_path, task=task) for task in range(3)]
    assert [shift.order_runs()[0] for shift in shifts] == ["run0", "run4", "run8"]
    threads = [threading.Thread(target=shift.work) for shift in shifts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(is_complete(tmp_path / "runs" / name) for name in names)
    assert [count_attempts(tmp_path, name) for name in names] == [1] * 12
    assert len({read(tmp_path, name).provenance["job"] for name in names}) == 3
    before = {name: (tmp_path / "runs" / name / "record.json").read_bytes() for name in names}
    assert open_shift(tmp_path).work() == 0
    assert before == {name: (tmp_path / "runs" / name / "record.json").read_bytes() for name in names}


def test_a_failed_run_is_tried_once_a_submission(tmp_path: Path) -> None:
    make_submission(tmp_path, ["fails1", "run2"])
    assert open_shift(tmp_path).work() == 0
    assert open_shift(tmp_path, task=1).work() == 0
    assert count_attempts(tmp_path, "fails1") == 1
    assert read(tmp_path, "fails1").cause == "as asked"
    make_submission(tmp_path, ["fails1"], name="s1-b")
    assert open_shift(tmp_path, "s1-b").work() == 0
    assert count_attempts(tmp_path, "fails1") == 2
    assert [attempt["submission"] for attempt in read(tmp_path, "fails1").provenance["attempts"]] == ["s1-a", "s1-b"]


def test_told_to_stop_it_says_so_and_asks_to_come_back(tmp_path: Path) -> None:
    make_submission(tmp_path, ["slow1", "run2"])
    worker = start_worker(tmp_path, 0)
    wait_until(lambda: count_attempts(tmp_path, "slow1"))
    worker.send_signal(signal.SIGUSR1)
    worker.communicate(timeout=30)
    assert worker.returncode == STOPPED
    assert read(tmp_path, "slow1").status == "preempted"
    assert not (tmp_path / "runs" / "run2").exists()
    again = start_worker(tmp_path, 0)
    wait_until(lambda: count_attempts(tmp_path, "slow1") == 2)
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=30)
    attempts = read(tmp_path, "slow1").provenance["attempts"]
    assert [(attempt["claim"], attempt["ended"]) for attempt in attempts] == [(1, "preempted"), (2, None)]


def test_a_killed_workers_run_is_reclaimed_once(tmp_path: Path) -> None:
    make_submission(tmp_path, ["slow1"])
    worker = start_worker(tmp_path, 0)
    wait_until(lambda: count_attempts(tmp_path, "slow1"))
    others = [start_worker(tmp_path, task) for task in (1, 2)]
    time.sleep(1.0)
    worker.kill()
    worker.communicate()
    for other in others:
        other.communicate(timeout=60)
    if not is_complete(tmp_path / "runs" / "slow1"):  # both had seen it alive and left: its task comes back
        back = start_worker(tmp_path, 0)
        assert back.wait(timeout=60) == 0
        assert back.stdout is not None
        back.stdout.close()
    assert is_complete(tmp_path / "runs" / "slow1")
    assert count_attempts(tmp_path, "slow1") == 2
    assert list_numbers(tmp_path / "claims" / "slow1") == [1, 2]


def test_a_run_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    make_submission(tmp_path, ["dies1", "run2"], max_deaths=2)
    for _ in range(2):
        worker = start_worker(tmp_path, 0)
        worker.communicate(timeout=60)
        assert worker.returncode == -9
    assert open_shift(tmp_path, task=1).work() == 0
    record = read(tmp_path, "dies1")
    assert record.status == "failed"
    assert str(record.cause).startswith("its worker died 2 times without a word (tasks 100_0, 100_0)")
    assert count_attempts(tmp_path, "dies1") == 2
    assert is_complete(tmp_path / "runs" / "run2")


def test_a_worker_that_lost_its_run_drops_its_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_submission(tmp_path, ["slow1"])
    shift = open_shift(tmp_path)
    shift.lease_s = 0.05  # its heart looks often
    thread = threading.Thread(target=lambda: shift.try_run("slow1"))
    thread.start()
    wait_until(lambda: count_attempts(tmp_path, "slow1"))
    thief = Claims(tmp_path / "claims", process={"host": "elsewhere", "space": "x", "pid": 1, "started": 1})
    thief.is_over = lambda run_id, number: True  # type: ignore[method-assign]
    taken = thief.take("slow1")
    assert taken is not None
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert "was lost; its work is dropped" in capsys.readouterr().out
    assert read_record(tmp_path / "runs" / "slow1") is None
    taken.check()


def test_a_run_longer_than_it_may_is_timed_out(tmp_path: Path) -> None:
    make_submission(tmp_path, ["slow1"])
    shift = open_shift(tmp_path)
    shift.submission.resources["timeout_min"] = 0.0001

    def execute(run_id: str, guard: object) -> Record:
        return StubShift.execute(shift, run_id, guard)  # type: ignore[arg-type]

    with pytest.raises(Exception, match=r"longer than resources.timeout_min=0.0001"):
        shift.work()
    assert Claims(tmp_path / "claims").history("slow1")[0]["ended"].startswith("RunTimedOutError")


def test_a_place_is_read_from_the_variables_of_its_job() -> None:
    place = Place.from_environment(
        {"SLURM_ARRAY_JOB_ID": "7", "SLURM_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3", "CAUSALMIX_FIRST_TASK": "1000",
         "SLURM_RESTART_COUNT": "2", "SLURM_LOCALID": "1"}
    )  # fmt: skip
    assert place == Place(job="7_3", task=1003, restart=2, local=1)


def test_workers_of_a_task_share_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for local, device in enumerate(["2", "5", "2"]):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
        take_gpu(local)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == device
