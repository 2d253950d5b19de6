"""Tasks that end before their worker can say anything: told from what they did not leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from causalmix.errors import SweepError
from causalmix.run.record import Record, write_record
from causalmix.sweep import remote
from causalmix.sweep.claims import Claims
from causalmix.sweep.jobs import cancel_sweep, list_submissions
from causalmix.sweep.slurm import expand_tasks
from causalmix.sweep.status import read_status
from tests.sweep.submitting import submit

ROW = {"outcome.avg_dev": 1.0, "wall_s": 1.0}


def end_tasks(fake: Path) -> str:
    """Let the first array end as tasks do whose node cannot open their log; return its name."""
    jobs = json.loads((fake / "jobs.json").read_text())
    jobs["100"]["state"] = "FAILED"
    (fake / "jobs.json").write_text(json.dumps(jobs))
    return str(jobs["100"]["name"])


def test_tasks_whose_nodes_do_not_see_the_folder_are_named(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = tmp_path / "sweep"
    folder = submit(sweep, 12, resources={"runs_per_task": 4})
    assert read_status(sweep).lost_tasks == [], "tasks that wait have no log yet"
    end_tasks(fake)
    (lost,) = read_status(sweep).lost_tasks
    assert (lost.n_tasks, lost.example, lost.log) == (3, "100_0", [])
    assert "3 tasks (100_0): no log came back: the node does not see this folder" in read_status(sweep).render()
    monkeypatch.setattr(remote, "POLL_S", 0.0)
    with pytest.raises(SweepError, match="12 x no log came back: the node does not see this folder"):
        remote.wait_for(folder, [f"run{at}" for at in range(12)])
    (fake / "accounting").write_text("100_[0-1%8]|CANCELLED by 0|0|\n100_2|FAILED|0|")
    status = read_status(sweep)
    assert [lost.n_tasks for lost in status.lost_tasks] == [1], "who was cancelled is not lost"
    assert status.ended == {"CANCELLED": 2, "FAILED": 1}
    (fake / "accounting").write_text("100|CANCELLED by 0|0|")
    assert read_status(sweep).lost_tasks == [], "as sacct tells of an array of which nothing ever began"
    for run in range(12):
        write_record(sweep / "runs" / f"run{run}", Record(f"run{run}", "complete", row=ROW))
    assert read_status(sweep).lost_tasks == [], "nothing is left to do"


@pytest.mark.parametrize(
    ("said", "tasks"),
    [
        ("100_3", ["100_3"]),
        ("100", ["100"]),
        ("100_[4]", ["100_4"]),
        ("100_[0-2,7%4]", ["100_0", "100_1", "100_2", "100_7"]),
    ],
)
def test_tasks_of_a_row_of_the_accounting(said: str, tasks: list[str]) -> None:
    assert expand_tasks(said) == tasks


def test_tasks_that_end_before_their_worker_begins_are_named_by_their_last_line(fake: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    submit(sweep, 12, resources={"runs_per_task": 4})
    name = end_tasks(fake)
    for at in range(3):
        (sweep / "log" / f"{name}-100_{at}.txt").write_text("Lmod: loading\nno module named cuda/99\n")
    (lost,) = read_status(sweep).lost_tasks
    assert (lost.n_tasks, lost.cause) == (3, "ended before a run was begun: no module named cuda/99")
    assert lost.log == ["Lmod: loading", "no module named cuda/99"]
    owner = {"submission": list_submissions(sweep)[0].name}
    claim = Claims(sweep / "claims", owner).take("run3")
    assert claim is not None
    claim.end("preempted")
    assert read_status(sweep).lost_tasks == [], "workers begin: what is in the logs is their own affair"
    submit(sweep, 12, resources={"runs_per_task": 4})
    cancel_sweep(sweep)
    assert read_status(sweep).lost_tasks == [], "cancelled before they began"
