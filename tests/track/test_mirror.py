"""The W&B mirror: the names of the runs table in W&B's config and summary, and never in the way of a run."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from causalmix.config import TrackerConfig
from causalmix.table.from_wandb.files import find_wandb_files, merge_files, read_wandb_files
from causalmix.table.from_wandb.log import read_log
from causalmix.table.from_wandb.rows import WandbRun, flatten
from causalmix.track import mirror as mirror_module
from causalmix.track import session as session_module
from causalmix.track.mirror import Mirror, MirroredRun
from tests.run.test_proxy import Bench
from tests.wandb_client import list_children
from tests.wandb_server import KEY, WandbServer

ROW = {"run_id": "r1", "seed": 3, "mixture.code": 0.1 + 0.2, "outcome.avg_dev": 100 / 3, "wall_s": 4.0}
CONFIG = TrackerConfig("online", "online", wait_s=4.0, attempts=2, jitter_s=0.0)
PATIENT = TrackerConfig("online", "online", wait_s=60.0, jitter_s=0.0)
BOUND_S = 4 * CONFIG.wait_s + 15  # a server that hangs does so for a minute


def read_one(folder: Path) -> WandbRun:
    (file,) = read_wandb_files(find_wandb_files(folder))
    return file.run


def read_history(folder: Path) -> list[dict[str, Any]]:
    (path,) = find_wandb_files(folder)
    steps = [record.history.item for record in read_log(path) if record.WhichOneof("record_type") == "history"]
    return [{item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in step} for step in steps]


def mirror_row(config: TrackerConfig, folder: Path, run_id: str = "r1") -> Mirror:
    mirror = Mirror(config, MirroredRun(run_id, "sweep", "signal", folder))
    row = ROW | {"run_id": run_id}
    mirror.update_config({name: row[name] for name in ("run_id", "seed", "mixture.code")})
    for step in range(3):
        mirror.log({"step": step, "loss": 1 / (step + 1)})
    mirror.finish(row, "complete")
    return mirror


def test_an_offline_run_holds_the_row_of_the_table(tiny_outputs: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_outputs)
    record = bench.run(tmp_path, "tracker=offline", "cohort=anchor", "train.log_every=1")
    assert record.status == "complete", record.cause
    assert not (tmp_path / record.run_id / "log" / "tracker.txt").exists()
    held = read_one(tmp_path / record.run_id)
    assert held.name == record.run_id
    assert held.state == "finished"
    row = {name: value for name, value in record.row.items() if value is not None}
    assert held.to_row(known=False) == row  # names, and floats to the last digit
    settings = {name for name in row if name.startswith(("mixture.", "state.", "pool.", "design.", "model."))}
    settings |= {"run_id", "sweep_id", "cohort", "seed", "replicate"}
    assert len(settings) > 20
    assert set(held.config) - {"_wandb"} == settings
    assert {name for name, _ in flatten(held.summary)} == set(row) - settings
    history = read_history(tmp_path / record.run_id)
    assert len(history) == row["train.n_steps"]
    assert history[-1]["training/step"] == row["train.n_steps"]
    assert min(step["training/loss"] for step in history) > 0


def test_group_and_job_type_are_sweep_and_cohort(tmp_path: Path) -> None:
    mirror_row(TrackerConfig("offline", "offline", project="p"), tmp_path)
    (path,) = find_wandb_files(tmp_path)
    run = next(record.run for record in read_log(path) if record.WhichOneof("record_type") == "run")
    assert (run.run_id, run.run_group, run.job_type, run.project) == ("r1", "sweep", "signal", "p")


def test_a_run_that_failed_says_so(tiny_outputs: Path, tmp_path: Path) -> None:
    record = Bench(tiny_outputs).run(tmp_path, "tracker=offline", "train.lr_peak=1e30", "train.grad_clip=1e30")
    assert record.status == "failed"
    held = read_one(tmp_path / record.run_id)
    assert held.state == "failed"
    assert dict(flatten(held.summary)) == {"status": "failed", "cause": record.cause}


def test_the_tracker_changes_nothing_that_counts(tiny_outputs: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_outputs)
    one, two = bench.run(tmp_path / "a", "seed=2"), bench.run(tmp_path / "b", "seed=2", "tracker=offline")
    assert one.run_id == two.run_id
    assert one.row["outcome.avg_dev"] == two.row["outcome.avg_dev"]


class Raising:
    """A W&B run on which the named action raises."""

    def __init__(self, broken: str, file: Path) -> None:
        self.broken = broken
        self.config = self.summary = self.settings = self
        self.sync_file = str(file)

    def define_metric(self, *_: object, **__: object) -> None:
        pass

    def update(self, *_: object, **__: object) -> None:
        self._act("update")

    def log(self, *_: object) -> None:
        self._act("log")

    def finish(self, **_: object) -> None:
        self._act("finish")

    def _act(self, name: str) -> None:
        if name == self.broken:
            raise ConnectionError(f"no {name} today")


@pytest.mark.parametrize("broken", ["init", "update", "log", "finish"])
def test_a_tracker_that_raises_never_fails_a_run(
    tiny_outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def open_run(*_: object) -> Raising:
        if broken == "init":
            raise ConnectionError("no init today")
        return Raising(broken, tmp_path / "nothing.wandb")

    monkeypatch.setattr(session_module, "_open_run", open_run)
    record = Bench(tiny_outputs).run(tmp_path, "tracker=offline", "train.log_every=1")
    assert record.status == "complete"
    said = (tmp_path / record.run_id / "log" / "tracker.txt").read_text()
    assert said == f"ConnectionError: no {broken} today\n"


def test_a_client_that_never_comes_back_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(mirror_module, "open_session", lambda *_: stuck.wait(60))
    monkeypatch.setattr(mirror_module, "GRACE_S", 0.5)
    began = time.monotonic()
    mirror = Mirror(
        TrackerConfig("online", "online", wait_s=0.2, jitter_s=0.0), MirroredRun("r", "g", "signal", tmp_path)
    )
    mirror.log({"step": 0})
    assert time.monotonic() - began < 10  # the run has left its word and is gone
    mirror.finish({}, "complete")
    assert time.monotonic() - began < 20
    assert mirror.failure == "TimeoutError: W&B did not come back within 0.9 s"
    stuck.set()


def test_disabled_imports_and_writes_nothing(tmp_path: Path) -> None:
    mirror = Mirror(TrackerConfig("disabled", "disabled"), MirroredRun("r", "g", "signal", tmp_path / "log"))
    mirror.update_config({"a": 1})
    mirror.log({"b": 2})
    mirror.finish({}, "complete")
    mirror.abandon()
    assert mirror.failure is None
    assert not (tmp_path / "log").exists()


def test_online_the_server_has_the_row(server: WandbServer, tmp_path: Path) -> None:
    mirror = mirror_row(PATIENT, tmp_path)
    assert mirror.failure is None
    held = server.runs["r1"]
    assert (held.group, held.job_type, held.state, held.project) == ("sweep", "signal", "finished", "causalmix")
    config = {name: value["value"] for name, value in json.loads(held.config).items() if name != "_wandb"}
    assert config == {name: ROW[name] for name in ("run_id", "seed", "mixture.code")}
    summary = {name: value for name, value in json.loads(held.summary).items() if not name.startswith("_")}
    assert summary == {"outcome.avg_dev": 100 / 3, "wall_s": 4, "status": "complete"}
    assert [json.loads(line)["training/loss"] for line in held.history] == [1.0, 0.5, 1 / 3]
    (file,) = find_wandb_files(tmp_path)
    assert file.with_name(f"{file.name}.synced").exists()  # sync has nothing to do
    # The same run again, resumed: still one run.
    assert mirror_row(PATIENT, tmp_path).failure is None
    assert list(server.runs) == ["r1"]
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in everything


def test_every_float_survives_the_way(server: WandbServer, tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2**64, 400, dtype=np.uint64).view(np.float64)
    numbers = [*bits[np.isfinite(bits)].tolist(), 5e-324, 1.7976931348623157e308, -0.0, 1e21, 1e-7, 2.0**53, 40.0]
    row = {f"state.x{i}": number for i, number in enumerate(numbers)}
    row |= {f"outcome.x{i}": number for i, number in enumerate(numbers)}
    mirror = Mirror(PATIENT, MirroredRun("r1", "sweep", "signal", tmp_path))
    mirror.finish(row, "complete")
    assert mirror.failure is None
    config, summary = json.loads(server.runs["r1"].config), json.loads(server.runs["r1"].summary)
    served = WandbRun("r1", "finished", {name: value["value"] for name, value in config.items()}, summary).to_row()
    on_disk = read_one(tmp_path).to_row()
    assert len(numbers) > 390
    for held in (served, on_disk):
        assert {name: held[name] for name in row} == row


@pytest.mark.slow
def test_a_server_that_was_busy_is_reached_by_a_further_attempt(server: WandbServer, tmp_path: Path) -> None:
    server.fault = lambda what, n: "500" if what == "RunResumeStatus" and n < 3 else None  # as often as a client asks
    mirror = mirror_row(PATIENT, tmp_path)
    assert mirror.failure is None
    assert server.asked["RunResumeStatus"] == 4
    assert server.runs["r1"].state == "finished"


@pytest.mark.parametrize("fault", ["hang", "429", pytest.param("drop", marks=pytest.mark.slow)])
def test_without_a_server_the_run_goes_to_disk(server: WandbServer, tmp_path: Path, fault: str) -> None:
    server.fault = lambda _what, _n: fault
    began = time.monotonic()
    mirror = mirror_row(CONFIG, tmp_path / "a")
    assert time.monotonic() - began < BOUND_S
    assert "causalmix sync" in str(mirror.failure)
    runs = merge_files(read_wandb_files(find_wandb_files(tmp_path / "a")))
    assert [run.to_row()["outcome.avg_dev"] for run in runs] == [100 / 3]
    # The next run of the process does not wait for it again.
    n_asked = server.asked["RunResumeStatus"]
    mirror = mirror_row(CONFIG, tmp_path / "b", "r2")
    assert server.asked["RunResumeStatus"] == n_asked
    assert "did not answer an earlier run" in str(mirror.failure)
    held = read_one(tmp_path / "b")
    assert (held.state, held.to_row()["outcome.avg_dev"]) == ("finished", 100 / 3)
    assert not server.runs


@pytest.mark.parametrize("fault", ["hang", pytest.param("500", marks=pytest.mark.slow)])
def test_a_server_that_goes_away_in_the_middle_costs_a_bounded_wait(
    server: WandbServer, tmp_path: Path, fault: str
) -> None:
    server.fault = lambda what, _n: fault if what == "file_stream" else None
    began = time.monotonic()
    mirror = mirror_row(CONFIG, tmp_path)
    assert time.monotonic() - began < BOUND_S
    assert "in time" in str(mirror.failure)
    (file,) = find_wandb_files(tmp_path)
    assert not file.with_name(f"{file.name}.synced").exists()
    assert read_one(tmp_path).to_row()["outcome.avg_dev"] == 100 / 3  # all of it is on disk
    assert "earlier run" in str(mirror_row(CONFIG, tmp_path / "next", "r2").failure)
    assert "r2" not in server.runs  # the next run did not ask again


def test_the_clients_process_ends_with_it(server: WandbServer, tmp_path: Path) -> None:
    import wandb

    before = list_children()
    mirror_row(CONFIG, tmp_path)
    assert list_children() - before
    wandb.teardown()
    assert list_children() <= before
