"""A record is whole or absent, and says what is wrong with it."""

import errno
from pathlib import Path

import pytest

from causalmix.errors import RecordError
from causalmix.files import DiskFullError, fingerprint, write_json
from causalmix.run.record import Record, is_complete, read_record, write_record

ROW = {"outcome.avg_dev": 30.5, "outcome.math": 31.0}


def test_round_trip(tmp_path: Path) -> None:
    run_dir = tmp_path / "abc"
    record = Record(run_id="abc", status="complete", row=ROW, events=[{"event": "state_measured", "at_s": 0.1}])
    write_record(run_dir, record)
    assert read_record(run_dir) == record
    assert is_complete(run_dir)


def test_no_record_is_no_run(tmp_path: Path) -> None:
    assert read_record(tmp_path / "abc") is None
    assert not is_complete(tmp_path / "abc")


@pytest.mark.parametrize("cut", [0, 1, 40, -3])
def test_a_half_written_record_is_named_and_done_again(tmp_path: Path, cut: int) -> None:
    run_dir = tmp_path / "abc"
    write_record(run_dir, Record(run_id="abc", status="complete", row=ROW))
    path = run_dir / "record.json"
    path.write_text(path.read_text()[:cut])
    assert not is_complete(run_dir)
    with pytest.raises(RecordError, match=r"record\.json is not whole JSON.*run the same command again"):
        read_record(run_dir)


def test_missing_or_infinite_outcomes_are_never_complete(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no outcome\.avg_dev"):
        write_record(tmp_path / "a", Record(run_id="a", status="complete", row={"outcome.math": 1.0}))
    with pytest.raises(RecordError, match=r"not finite: outcome\.math"):
        write_record(tmp_path / "a", Record(run_id="a", status="complete", row={**ROW, "outcome.math": float("nan")}))
    assert not (tmp_path / "a").exists()


def test_a_record_of_another_version_or_run_is_refused(tmp_path: Path) -> None:
    run_dir = tmp_path / "abc"
    write_json(run_dir / "record.json", {"format": 99})
    with pytest.raises(RecordError, match="format 99; this version reads format 1"):
        read_record(run_dir)
    write_record(run_dir, Record(run_id="abd", status="failed", cause="x"))
    with pytest.raises(RecordError, match="record of run abd, in the folder of run abc"):
        read_record(run_dir)


def test_a_full_disk_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = tmp_path / "abc"
    write_record(run_dir, Record(run_id="abc", status="complete", row=ROW))

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DiskFullError, match=r"no space left.*record\.json.*nothing that was there is lost"):
        write_record(run_dir, Record(run_id="abc", status="failed", cause="later"))
    monkeypatch.undo()
    assert is_complete(run_dir)
    assert [path.name for path in run_dir.iterdir()] == ["record.json"]  # no temporary file stays


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"x": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_fingerprints_ignore_the_order_of_keys_only() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
