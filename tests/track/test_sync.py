"""``causalmix sync``: each run once, whatever its files lost, and whatever the server does."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from causalmix.cli import app
from causalmix.errors import TrackerError
from causalmix.table.compare import compare_tables
from causalmix.table.from_wandb.files import find_wandb_files, read_wandb_files
from causalmix.table.runs import load_runs
from causalmix.track import upload
from causalmix.track.sync import sync_sweep
from causalmix.track.upload import Upload
from tests.sweep_folder import make_row, mirror_offline, tear, write_record
from tests.wandb_client import find_clients
from tests.wandb_server import KEY, WandbServer

QUICK = Upload(runs_per_min=1e9, attempts=2, wait_s=0.1, timeout_s=60.0)


def make_sweep(sweep: Path) -> dict[str, str]:
    """Make runs of every fate; return the name of each."""
    rows = [make_row(i) for i in range(6)]
    names = dict(zip(("whole", "resumed", "unmirrored", "torn", "alive", "failed"), (str(r["run_id"]) for r in rows)))
    dirs = [sweep / "runs" / name for name in names.values()]
    mirror_offline(dirs[0], rows[0])
    write_record(dirs[0], rows[0])
    tear(mirror_offline(dirs[1], rows[1]))
    mirror_offline(dirs[1], rows[1])
    write_record(dirs[1], rows[1])
    write_record(dirs[2], rows[2])
    tear(mirror_offline(dirs[3], rows[3]))
    write_record(dirs[3], rows[3])
    tear(mirror_offline(dirs[4], rows[4]))
    mirror_offline(dirs[5], rows[5], status="failed", cause="loss is NaN")
    write_record(dirs[5], {}, status="failed", cause="loss is NaN")
    return names


def test_every_run_arrives_once_and_whole(server: WandbServer, tmp_path: Path) -> None:
    names = make_sweep(tmp_path)
    report = sync_sweep(tmp_path, QUICK)
    assert report.failed == {}
    assert sorted(report.uploaded) == sorted(set(names.values()) - {names["alive"]})
    assert sorted(report.mended) == sorted([names["unmirrored"], names["torn"]])
    assert report.waiting == [names["alive"]]
    assert server.runs[names["whole"]].group == "demo"
    assert json.loads(server.runs[names["failed"]].summary)["cause"] == "loss is NaN"
    assert len(server.runs[names["unmirrored"]].history) == 1  # metrics.jsonl, but for its torn line
    # What W&B has now is the runs table.
    records, mirrored = load_runs(tmp_path), load_runs("wandb:team/causalmix?group=demo&cohort=signal")
    assert records.fingerprint == mirrored.fingerprint
    assert not compare_tables(records, mirrored)
    # Typed again it uploads nothing.
    asked = [server.asked[what] for what in ("UpsertBucket", "file_stream", "upload")]
    again = sync_sweep(tmp_path, QUICK)
    assert (again.uploaded, again.mended, again.already) == ([], [], 5)
    assert [server.asked[what] for what in ("UpsertBucket", "file_stream", "upload")] == asked
    # The run that was alive ends: it alone is uploaded.
    row = make_row(4)
    mirror_offline(tmp_path / "runs" / names["alive"], row)
    write_record(tmp_path / "runs" / names["alive"], row)
    printed = CliRunner().invoke(app, ["sync", str(tmp_path), "--json"])
    assert printed.exit_code == 0, printed.output
    assert json.loads(printed.stdout)["uploaded"] == [names["alive"]]
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in everything


@pytest.mark.slow
def test_a_busy_server_is_asked_again(server: WandbServer, tmp_path: Path) -> None:
    row = make_row(0)
    mirror_offline(tmp_path / "runs" / row["run_id"], row)
    write_record(tmp_path / "runs" / row["run_id"], row)
    faults = {("RunResumeStatus", 0): "429", ("UpsertBucket", 0): "drop", ("file_stream", 0): "429"}
    server.fault = lambda what, n: faults.get((what, n))
    report = sync_sweep(tmp_path, QUICK)
    assert report.uploaded == [row["run_id"]], report
    assert json.loads(server.runs[row["run_id"]].summary)["outcome.avg_dev"] == row["outcome.avg_dev"]


def test_a_server_that_hangs_ends_the_upload_and_the_next_one_goes_on(server: WandbServer, tmp_path: Path) -> None:
    for i in range(3):
        row = make_row(i)
        mirror_offline(tmp_path / "runs" / row["run_id"], row)
        write_record(tmp_path / "runs" / row["run_id"], row)
    names = [str(make_row(i)["run_id"]) for i in range(3)]
    server.fault = lambda _what, _n: "hang"
    before, began = find_clients(server), time.monotonic()
    report = sync_sweep(tmp_path, Upload(batch=2, attempts=1, timeout_s=3.0))
    assert time.monotonic() - began < 50
    assert list(report.failed) == names
    assert "no end within 3 s" in report.failed[names[0]]
    assert "not tried" in report.failed[names[2]]
    assert "3 s" in report.render(tmp_path)
    assert find_clients(server) <= before  # the command is gone, and so is what it had started
    server.fault = lambda _what, _n: None
    assert sync_sweep(tmp_path, Upload(runs_per_min=1e9, batch=2)).uploaded == names


def test_the_rate_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    slept: list[float] = []

    def arrive(files: list[Path], **_: object) -> str:
        calls.append(len(files))
        for file in files:
            file.with_name(f"{file.name}.synced").touch()
        return ""

    monkeypatch.setattr(upload, "call_wandb_sync", arrive)
    monkeypatch.setattr(upload.time, "sleep", slept.append)
    pending = {f"r{i:03d}": [tmp_path / f"run-r{i:03d}.wandb"] for i in range(512)}
    uploaded, failed = upload.upload_files(pending, Upload(runs_per_min=120.0, batch=16))
    assert (len(uploaded), failed, calls) == (512, {}, [16] * 32)
    assert len(slept) == 31
    assert sum(slept) == pytest.approx(31 * 8, abs=2)  # 16 runs each 8 s are 120 a minute


@pytest.mark.slow
def test_nothing_is_marked_that_did_not_arrive(server: WandbServer, tmp_path: Path) -> None:
    row = make_row(0)
    file = mirror_offline(tmp_path / "runs" / row["run_id"], row)
    write_record(tmp_path / "runs" / row["run_id"], row)
    server.fault = lambda what, _n: "500" if what == "file_stream" else None
    report = sync_sweep(tmp_path, Upload(attempts=1, timeout_s=6.0))
    assert list(report.failed) == [row["run_id"]]
    assert not file.with_name(f"{file.name}.synced").exists()


def test_without_a_key_it_says_what_to_do(server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = make_row(0)
    mirror_offline(tmp_path / "runs" / row["run_id"], row)
    write_record(tmp_path / "runs" / row["run_id"], row)
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    printed = CliRunner().invoke(app, ["sync", str(tmp_path)])
    assert printed.exit_code == 1
    assert "wandb login" in printed.output


def test_what_is_no_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrackerError, match="no folder 'runs'"):
        sync_sweep(tmp_path)


def test_an_older_part_of_an_uploaded_run_stays_where_it_is(tmp_path: Path) -> None:
    row = make_row(0)
    run_dir = tmp_path / "runs" / str(row["run_id"])
    tear(mirror_offline(run_dir, row))
    newest = mirror_offline(run_dir, row)
    newest.with_name(f"{newest.name}.synced").touch()
    write_record(run_dir, row)
    report = sync_sweep(tmp_path, QUICK)  # with no server at all
    assert (report.already, report.failed, report.uploaded) == (1, {}, [])
    assert [file.has_end for file in read_wandb_files(find_wandb_files(run_dir))] == [False, True]
    shutil.rmtree(run_dir / "log")
