"""A packed worker whose runs train nothing: what a run does stands in its id. A program too, to be killed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from causalmix.config import ResourcesConfig
from causalmix.run.guard import Guard
from causalmix.run.record import Record
from causalmix.sweep.folder import SweepFolder, write_points
from causalmix.sweep.jobs import Submission, read_submission
from causalmix.sweep.packed import Shift, hear_signals
from causalmix.sweep.place import Place
from tests.plain import make_plain


class StubShift(Shift):
    """``fails...`` fails, ``slow...`` takes steps of 10 ms until told to stop, ``dies...`` kills its worker."""

    def execute(self, run_id: str, guard: Guard) -> Record:
        run_dir = self.folder.run_dir(run_id)
        run_dir.mkdir(parents=True, exist_ok=True)
        with (run_dir / "attempts").open("a") as attempts:
            attempts.write(f"{self.place.job}\n")
        if run_id.startswith("dies"):
            os.kill(os.getpid(), 9)
        record = Record(run_id, "complete", row={"outcome.avg_dev": 1.0, "wall_s": 0.1})
        if run_id.startswith("fails"):
            record = Record(run_id, "failed", cause="as asked")
        for _ in range(500 if run_id.startswith("slow") else 3):
            if guard.should_stop():
                record = Record(run_id, "preempted", cause="told to stop")
                break
            time.sleep(0.01)
        record.provenance.update(guard.describe())
        guard.publish(run_dir, record)
        return record


def make_submission(sweep: Path, run_ids: list[str], name: str = "s1-a", **resources: object) -> None:
    """Write what a launch would leave for its workers."""
    folder = SweepFolder(sweep, "s1")
    points = write_points(folder, [{"run_id": run_id, "plain": make_plain()} for run_id in run_ids])
    asked = ResourcesConfig(name="r", lease_s=1.0, **resources)  # type: ignore[arg-type]
    arrays = [{"name": f"{name}-0", "n_tasks": 3, "job_id": "100"}]
    Submission(name, points.name, len(run_ids), arrays, asked.__dict__, "s1").write(sweep)


def open_shift(sweep: Path, name: str = "s1-a", task: int = 0) -> StubShift:
    from causalmix.sweep.folder import read_points

    submission = read_submission(sweep / "jobs" / f"{name}.json")
    entries = read_points(sweep / "points" / submission.points)
    return StubShift(SweepFolder(sweep, "s1"), submission, entries, Place(job=f"100_{task}", task=task))


if __name__ == "__main__":
    shift = open_shift(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    hear_signals(shift)
    sys.exit(shift.work())
