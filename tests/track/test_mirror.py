"""The W&B mirror: the names of the runs table in a file on disk, and never in the way of a run."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from causalmix.config import TrackerConfig
from causalmix.track import mirror as mirror_module
from causalmix.track.mirror import Mirror
from tests.run.test_proxy import Bench

BLOCK, HEADER = 32768, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_chunks(content: bytes) -> Iterator[bytes]:
    """Read the framed log that W&B writes: blocks of 32 KiB, each chunk with crc32, length and kind."""
    magic, version = struct.unpack("<4s3s", content[:HEADER])
    assert (magic, version) == (b":W&B", b"\xe1\xbe\x00")
    at, parts = HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # the rest of a block that is too short for a header is padding
            at += BLOCK - at % BLOCK
            continue
        crc, length, kind = struct.unpack("<IHB", content[at : at + HEADER])
        data = content[at + HEADER : at + HEADER + length]
        assert zlib.crc32(data, zlib.crc32(bytes([kind]))) == crc
        at += HEADER + length
        parts = data if kind in (WHOLE, FIRST) else parts + data
        if kind in (WHOLE, LAST):
            yield parts


def read_log(folder: Path) -> dict[str, Any]:
    """Read config, summary, history and identity of the one run whose file lies under a folder."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.rglob("run-*.wandb")
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    run: dict[str, Any] = {}
    for chunk in read_chunks(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(chunk)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = {name: getattr(record.run, name) for name in ("run_id", "run_group", "job_type", "project")}
            updates = record.run.config.update
        else:
            updates = record.config.update
        config |= {read_key(item): json.loads(item.value_json) for item in updates}
        summary |= {read_key(item): json.loads(item.value_json) for item in record.summary.update}
        if kind == "history":
            history.append({read_key(item): json.loads(item.value_json) for item in record.history.item})
        if kind == "exit":
            run["exit_code"] = record.exit.exit_code
    return {**run, "config": config, "summary": summary, "history": history}


def read_key(item: Any) -> str:
    """Names with dots come as one key, or as nested keys of one part each."""
    return str(item.key) or ".".join(item.nested_key)


def test_an_offline_run_holds_the_row_of_the_table(tiny_outputs: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_outputs)
    record = bench.run(tmp_path, "tracker=offline", "cohort=anchor", "train.log_every=1")
    assert record.status == "complete", record.cause
    assert "tracker_failure" not in record.provenance
    log = read_log(tmp_path / record.run_id)
    assert log["run_id"] == record.run_id
    assert (log["run_group"], log["job_type"], log["project"]) == ("sweep", "anchor", "causalmix")
    assert log["exit_code"] == 0
    row = record.row
    settings = {name for name in row if name.startswith(("mixture.", "realised.", "state.", "pool.", "design."))}
    assert len(settings) > 20
    for name in settings | {"run_id", "cohort", "seed", "model.name"}:
        assert log["config"][name] == row[name], name
    for name in (name for name in row if name.startswith(("outcome.", "unseen.", "accuracy.", "train."))):
        assert log["summary"][name] == row[name], name  # floats to the last digit
    losses = [step["loss"] for step in log["history"]]
    assert len(losses) == row["train.n_steps"]


def test_a_run_that_failed_says_so(tiny_outputs: Path, tmp_path: Path) -> None:
    record = Bench(tiny_outputs).run(tmp_path, "tracker=offline", "train.lr_peak=1e30", "train.grad_clip=1e30")
    assert record.status == "failed"
    log = read_log(tmp_path / record.run_id)
    assert log["exit_code"] == 1
    assert "outcome.avg_dev" not in log["summary"]


def test_the_tracker_changes_nothing_that_counts(tiny_outputs: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_outputs)
    one, two = bench.run(tmp_path / "a", "seed=2"), bench.run(tmp_path / "b", "seed=2", "tracker=offline")
    assert one.run_id == two.run_id
    assert one.row["outcome.avg_dev"] == two.row["outcome.avg_dev"]


class Raising:
    """A W&B run on which the named action raises."""

    def __init__(self, broken: str) -> None:
        self.broken = broken
        self.config = self.summary = self

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
        return Raising(broken)

    monkeypatch.setattr(mirror_module, "_open_run", open_run)
    record = Bench(tiny_outputs).run(tmp_path, "tracker=offline", "train.log_every=1")
    assert record.status == "complete"
    assert record.provenance["tracker_failure"] == f"ConnectionError: no {broken} today"


def test_disabled_imports_and_writes_nothing(tmp_path: Path) -> None:
    mirror = Mirror(
        TrackerConfig("disabled", "disabled"), run_id="r", group="g", cohort="signal", folder=tmp_path / "log"
    )
    mirror.update_config({"a": 1})
    mirror.log({"b": 2})
    mirror.finish({})
    assert mirror.failure is None
    assert not (tmp_path / "log").exists()
