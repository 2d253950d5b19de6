"""A worker and a launcher that stop at every call that changes a file; records with every bit flipped."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from causalmix.errors import RecordError
from causalmix.run.record import Record, read_record, write_record
from causalmix.sweep.folder import read_points
from causalmix.sweep.jobs import list_submissions, list_tasks
from causalmix.table.records import read_records
from tests.chaos.shim import BROKEN, FULL, HALF, KILL, run_shimmed
from tests.chaos.stops import stop_everywhere
from tests.sweep.conftest import fake
from tests.sweep.submitting import submit

__all__ = ["fake"]
N_RUNS = 6


@pytest.mark.slow
@pytest.mark.parametrize("how", [KILL, HALF, FULL, BROKEN])
def test_a_worker_that_stops_anywhere_loses_and_doubles_nothing(how: str) -> None:
    counts = stop_everywhere(how)
    assert counts["stops"] > 20
    assert {"at write", "at fsync", "at link", "at rename", "at replace"} <= set(counts)
    assert (counts["lost"], counts["twice"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "stride"), [(KILL, 2), (FULL, 5)])
def test_a_launcher_that_stops_anywhere_leaves_no_run_behind_and_submits_none_twice(
    fake: Path, tmp_path: Path, how: str, stride: int
) -> None:
    def launch(sweep: Path) -> None:
        submit(sweep, N_RUNS, resources={"runs_per_task": 6})

    for at in range(1, 200, stride):
        sweep = tmp_path / f"sweep{at}"
        sweep.mkdir()
        (sweep / "sweep.json").write_text("{}")
        _, calls = run_shimmed(lambda: launch(sweep), at, how, tmp_path / "calls")
        launch(sweep)
        names = {task.name for task in list_tasks(sweep)}
        queued: Counter[str] = Counter()
        for submission in list_submissions(sweep):
            if any(array["name"] in names for array in submission.arrays):
                queued.update(list(read_points(sweep / "points" / submission.points)))
                assert all(array["job_id"] for array in submission.arrays), "adopted"
        assert queued == {f"run{run}": 1 for run in range(N_RUNS)}, (at, calls[at - 1 :][:1])
        if len(calls) < at:
            assert at > 15
            return
    raise AssertionError("a launch makes more than 200 calls")


def make_record() -> Record:
    row = {"run_id": "run0", "outcome.avg_dev": 71.25, "outcome.math": 60.5, "mixture.math": 0.5, "wall_s": 3.0}
    return Record("run0", "complete", row=row, events=[{"event": "state_measured", "at_s": 0.1}])


def test_no_flipped_bit_passes_for_a_record(tmp_path: Path) -> None:
    folder = tmp_path / "sweep" / "runs" / "run0"
    write_record(folder, make_record())
    path = folder / "record.json"
    whole = path.read_bytes()
    assert read_record(folder) == make_record()
    places = random.Random(0).sample(range(8 * len(whole)), 600)
    passed = []
    for place in places:
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(bytes(data))
        try:
            record = read_record(folder)
        except RecordError:
            continue
        passed.append((place, bytes(data[place // 8 - 20 : place // 8 + 20])))
        assert record == make_record(), "another record"  # a space for a tab changes nothing
    assert len(passed) < 30
    path.write_bytes(whole.replace(b"71.25", b"72.25"))
    with pytest.raises(RecordError, match="not what was written"):
        read_record(folder)
    with pytest.raises(Exception, match="not what was written"):
        read_records(tmp_path / "sweep")


@pytest.mark.parametrize("length", range(0, 300, 7))
def test_no_cut_record_passes_for_one(tmp_path: Path, length: int) -> None:
    folder = tmp_path / "run0"
    write_record(folder, make_record())
    path = folder / "record.json"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RecordError):
        read_record(folder)


def test_a_record_of_before_seals_is_still_read(tmp_path: Path) -> None:
    folder = tmp_path / "run0"
    write_record(folder, make_record())
    path = folder / "record.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert read_record(folder) == make_record()
