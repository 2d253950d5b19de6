"""The real thing, tiny: launch.py -m in processes of its own, killed, repeated, extended, contradicted."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from causalmix.files import seal
from causalmix.run.record import read_record
from causalmix.sweep.status import read_status
from causalmix.table.runs import load_runs
from tests.tiny import TINY, launch, launch_tiny, start

SEEDS = 6
pytestmark = pytest.mark.slow


def snapshot(sweep: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of every record: what must not change any more."""
    return {path.parent.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sweep.glob("runs/*/record.json")}


def read_outcomes(sweep: Path) -> dict[str, dict[str, Any]]:
    """What a run's settings alone decide: everything in its row but times."""
    rows = {}
    for path in sweep.glob("runs/*/record.json"):
        record = read_record(path.parent)
        assert record is not None
        assert record.status == "complete", record.cause
        rows[record.run_id] = {
            name: value
            for name, value in record.row.items()
            if name not in ("started_at", "wall_s", "device_s", "git_sha")
        }
    return rows


def list_children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def list_workers(pid: int) -> list[int]:
    """Process ids of a launcher's workers."""
    found = []
    for child in list_children(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"causalmix.sweep.worker" in command:
            found.append(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], Any], timeout_s: float = 120, every_s: float = 0.02) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(every_s)
    raise AssertionError(f"nothing within {timeout_s} s")


def start_sweep(outputs: Path, *arguments: str) -> subprocess.Popen[str]:
    return start("-m", *TINY, f"outputs={outputs}", *arguments)


def end(process: subprocess.Popen[str]) -> str:
    """Wait for a process and return what it said on stderr."""
    return process.communicate(timeout=240)[1]


def stop(process: subprocess.Popen[str]) -> None:
    """Make sure that nothing of a launch is left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def sweep(tiny_outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed sweep; its tests leave it complete and of this size."""
    folder = tmp_path_factory.mktemp("sweep") / "quiet"
    ended = launch_tiny(tiny_outputs, f"sweep_dir={folder}", f"seed=range({SEEDS})")
    assert ended.returncode == 0, ended.stderr
    assert f"{SEEDS} runs, 0 complete, {SEEDS} to do" in ended.stderr
    return folder


def test_a_sweep_is_a_table(sweep: Path) -> None:
    table = load_runs(str(sweep))
    assert len(table.frame) == SEEDS
    assert table.problems == ()
    assert sorted(table.frame["seed"]) == list(range(SEEDS))
    assert table.frame["state.hes"].nunique() == SEEDS
    assert table.frame["pool.fingerprint"].nunique() == SEEDS
    assert table.frame["sweep_id"].nunique() == 1
    assert table.frame["outcome.avg_dev"].between(0, 100).all()


def test_every_state_was_measured_before_its_mixture(sweep: Path) -> None:
    for path in sweep.glob("runs/*/record.json"):
        events = [event["event"] for event in json.loads(path.read_text())["events"]]
        assert events.index("state_measured") < events.index("mixture_drawn")


def test_the_same_command_runs_nothing(sweep: Path, tiny_outputs: Path) -> None:
    before = snapshot(sweep)
    began = time.perf_counter()
    ended = launch_tiny(tiny_outputs, f"sweep_dir={sweep}", f"seed=range({SEEDS})")
    assert ended.returncode == 0
    assert f"{SEEDS} complete, 0 to do" in ended.stderr
    assert snapshot(sweep) == before
    assert time.perf_counter() - began < 30  # about two seconds where nothing else runs


def test_elsewhere_and_otherwise_logged_it_is_the_same_sweep(sweep: Path, tiny_outputs: Path) -> None:
    ended = launch_tiny(
        tiny_outputs, f"sweep_dir={sweep}", f"seed=range({SEEDS})", "tracker=offline", "train.log_every=1",
        "resources.n_workers=1",
    )  # fmt: skip
    assert f"{SEEDS} complete, 0 to do" in ended.stderr


def test_more_seeds_run_only_what_is_missing(sweep: Path, tiny_outputs: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep, tmp_path / "grown")
    sweep = tmp_path / "grown"
    before = snapshot(sweep)
    ended = launch_tiny(tiny_outputs, f"sweep_dir={sweep}", f"seed=range({SEEDS + 2})")
    assert ended.returncode == 0
    assert f"{SEEDS + 2} runs, {SEEDS} complete, 2 to do" in ended.stderr
    after = snapshot(sweep)
    assert len(after) == SEEDS + 2
    assert {name: after[name] for name in before} == before
    assert read_status(sweep).by_status == {"complete": SEEDS + 2}


def test_another_design_in_its_folder_is_refused(sweep: Path, tiny_outputs: Path) -> None:
    before = snapshot(sweep)
    ended = launch_tiny(tiny_outputs, f"sweep_dir={sweep}", "seed=range(2)", "train.n_samples=20")
    assert ended.returncode == 2
    assert "train.n_samples: 40 there, 20 asked" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert snapshot(sweep) == before


def test_half_written_and_foreign_records_are_redone(sweep: Path, tiny_outputs: Path) -> None:
    before, outcomes = snapshot(sweep), read_outcomes(sweep)
    cut, empty, foreign = sorted(before)[:3]
    record = sweep / "runs" / cut / "record.json"
    record.write_bytes(before[cut][0][:200])
    (sweep / "runs" / empty / "record.json").write_bytes(b"")
    (sweep / "runs" / foreign / "record.json").write_bytes(before[cut][0])
    assert read_status(sweep).by_status["damaged"] == 3
    ended = launch_tiny(tiny_outputs, f"sweep_dir={sweep}", f"seed=range({SEEDS})")
    assert ended.returncode == 0, ended.stderr
    assert f"{SEEDS - 3} complete, 3 to do" in ended.stderr
    after = snapshot(sweep)
    assert {name: after[name] for name in sorted(before)[3:]} == {name: before[name] for name in sorted(before)[3:]}
    assert read_outcomes(sweep) == outcomes  # to the last bit


def test_a_record_of_another_version_is_neither_read_nor_overwritten(sweep: Path, tiny_outputs: Path) -> None:
    path = sorted(sweep.glob("runs/*/record.json"))[0]
    before = path.read_text()
    content = json.loads(before)
    del content["sha256"]
    later = json.dumps(seal({**content, "format": 2}))
    path.write_text(later)
    try:
        ended = launch_tiny(tiny_outputs, f"sweep_dir={sweep}", f"seed=range({SEEDS})")
        assert ended.returncode == 2
        assert "has format 2; this version reads format 1" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert path.read_text() == later
        assert read_status(sweep).by_status["damaged"] == 1
    finally:
        path.write_text(before)


def test_a_folder_that_cannot_be_written_is_named(tiny_outputs: Path) -> None:
    ended = launch_tiny(tiny_outputs, "sweep_dir=/proc/nowhere", "seed=range(2)")
    assert ended.returncode == 2
    assert "sweep_dir=/proc/nowhere cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_second_launch_is_refused_while_one_works(tiny_outputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "held"
    first = start_sweep(tiny_outputs, f"sweep_dir={folder}", f"seed=range({SEEDS})")
    try:
        wait_until(lambda: list_workers(first.pid))
        os.kill(first.pid, signal.SIGSTOP)  # it holds the sweep for as long as we like
        second = launch_tiny(tiny_outputs, f"sweep_dir={folder}", f"seed=range({SEEDS})")
        os.kill(first.pid, signal.SIGCONT)
        assert second.returncode == 2
        assert f"another launch (process {first.pid}) works on the sweep {folder}" in second.stderr
        end(first)
        assert first.returncode == 0
        assert len(read_outcomes(folder)) == SEEDS
    finally:
        stop(first)


def test_a_killed_launcher_loses_only_what_was_in_flight(sweep: Path, tiny_outputs: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, twice; what came out in the end is what an undisturbed sweep gives."""
    seed = random.randrange(2**32)
    print(f"random.Random({seed})")
    chance = random.Random(seed)
    folder = tmp_path / "killed"
    arguments = (f"sweep_dir={folder}", f"seed=range({SEEDS})")
    done: dict[str, tuple[bytes, int]] = {}
    for goal in (chance.choice((0, 1)), chance.choice((2, 3))):
        process = start_sweep(tiny_outputs, *arguments)
        try:
            workers = wait_until(lambda: list_workers(process.pid) or process.poll() is not None)
            if workers is True:  # the one before was quick: nothing was left to do
                assert f"{SEEDS} complete, 0 to do" in end(process)
                break
            wait_until(lambda: len(snapshot(folder)) >= goal or process.poll() is not None)
            time.sleep(chance.random() * 0.1)
            workers = list_workers(process.pid) or workers
            process.kill()
            process.communicate(timeout=60)
            wait_until(lambda: not any(is_alive(worker) for worker in workers), timeout_s=20)
        finally:
            stop(process)
        now = snapshot(folder)
        assert {name: now[name] for name in done} == done  # finished records are not touched
        for content, _ in now.values():
            assert json.loads(content)["status"] == "complete"  # whole, every one
        done = now
    ended = launch_tiny(tiny_outputs, *arguments)
    assert ended.returncode == 0, ended.stderr
    assert f"{len(done)} complete, {SEEDS - len(done)} to do" in ended.stderr
    now = snapshot(folder)
    assert {name: now[name] for name in done} == done
    assert read_outcomes(folder) == read_outcomes(sweep)


def test_a_killed_worker_costs_one_run_a_second_try(sweep: Path, tiny_outputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "orphaned"
    process = start_sweep(tiny_outputs, f"sweep_dir={folder}", f"seed=range({SEEDS})")
    try:
        wait_until(lambda: len(snapshot(folder)) >= 1)
        victim = list_workers(process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        said = end(process)
    finally:
        stop(process)
    assert process.returncode == 0, said
    assert read_outcomes(folder) == read_outcomes(sweep)


def test_failed_runs_are_records_grouped_by_cause(tiny_outputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "doomed"
    arguments = (f"sweep_dir={folder}", "train.lr_peak=1e30", "train.grad_clip=1e30")
    ended = launch_tiny(tiny_outputs, *arguments, "seed=range(3)")
    assert ended.returncode == 2
    assert "3 of 3 runs failed:\n  3 x Step" in ended.stderr
    assert "the same command tries the failed ones again" in ended.stderr
    assert "Traceback" not in ended.stderr
    status = read_status(folder)
    assert status.by_status == {"failed": 3}
    (cause,) = status.causes  # the runs differ in their documents, not in what went wrong
    assert "loss nan" in cause
    for path in folder.glob("runs/*"):
        record = read_record(path)
        assert record is not None
        assert "loss nan" in str(record.cause)
        assert "TrainError" in (path / "log" / "failure.txt").read_text()
    again = launch_tiny(tiny_outputs, *arguments, "seed=range(3)")
    assert "0 complete, 3 to do" in again.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 KiB, where this machine lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small tmpfs; tests/run/test_record.py fills the disk by other means")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_loses_nothing(sweep: Path, tiny_outputs: Path, small_disk: Path) -> None:
    folder = small_disk / "sweep"
    arguments = (f"sweep_dir={folder}", f"seed=range({SEEDS})")
    full = launch_tiny(tiny_outputs, *arguments)
    assert full.returncode == 2, full.stderr
    assert "o space left" in full.stderr
    assert "Traceback" not in full.stderr
    done = {name: seen for name, seen in snapshot(folder).items() if json.loads(seen[0])["status"] == "complete"}
    assert 0 < len(done) < SEEDS
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    ended = launch_tiny(tiny_outputs, *arguments)
    assert ended.returncode == 0, ended.stderr
    assert f"{len(done)} complete" in ended.stderr
    now = snapshot(folder)
    assert {name: now[name] for name in done} == done
    assert read_outcomes(folder) == read_outcomes(sweep)
    assert not list(folder.rglob("*.tmp"))


def test_groups_can_be_swept(tiny_outputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "groups"
    ended = launch_tiny(tiny_outputs, f"sweep_dir={folder}", "mixture=equal,natural", "seed=range(2)")
    assert ended.returncode == 0, ended.stderr
    frame = load_runs(str(folder)).frame
    assert sorted(zip(frame["design.kind"], frame["seed"])) == [
        ("equal", 0), ("equal", 1), ("natural", 0), ("natural", 1),
    ]  # fmt: skip
    ids = {path.name for path in folder.glob("runs/*")}
    once = launch_tiny(
        tiny_outputs, f"sweep_dir={tmp_path / 'one'}", "mixture=natural", "seed=1", sweep=False
    )  # one run, here: the same id as in the sweep
    assert once.returncode == 0, once.stderr
    assert {path.name for path in (tmp_path / "one" / "runs").iterdir()} < ids
    assert "outcome.avg_dev" in once.stderr


def test_stock_hydra_sweeps_the_same_application(sweep: Path, tiny_outputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stock"
    ended = launch_tiny(
        tiny_outputs, "hydra/sweeper=basic", "hydra/launcher=basic", f"hydra.sweep.dir={tmp_path / 'multirun'}",
        f"sweep_dir={folder}", "seed=0,1",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found, known = read_outcomes(folder), read_outcomes(sweep)
    assert len(found) == 2
    assert {name: row["outcome.avg_dev"] for name, row in found.items()} == {
        name: known[name]["outcome.avg_dev"] for name in found
    }


def test_status_and_table_as_commands(sweep: Path, tmp_path: Path) -> None:
    said = launch("status", str(sweep), "--json", module="causalmix.cli")
    assert json.loads(said.stdout)["by_status"] == {"complete": SEEDS}
    written = launch("table", str(sweep), str(tmp_path / "runs.csv"), module="causalmix.cli")
    assert written.returncode == 0, written.stderr
    assert load_runs(str(tmp_path / "runs.csv")).fingerprint == load_runs(str(sweep)).fingerprint
