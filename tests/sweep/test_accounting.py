"""A real accounting database: GPU-hours, ends of tasks and accounts as sacct and sacctmgr tell them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from causalmix.sweep import slurm
from causalmix.sweep.jobs import list_submissions, list_tasks
from causalmix.sweep.status import read_status
from tests.sweep.real_slurm import DAEMONS, clear_queue, find_worker, start_cluster, sweep_on, trains, wait_until
from tests.tiny import TINY, launch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    with start_cluster((*DAEMONS, "slurmdbd", "mariadbd"), accounting=1) as folder:
        yield folder
        clear_queue()


def test_accounts_tell_hours_ends_and_limits(cluster: Path, tiny_outputs: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    sweep_on("slurm", tiny_outputs, sweep, "seed=range(3)", "resources.gpus=1", "resources.runs_per_task=2")
    wait_until(lambda: not list_tasks(sweep))
    status = wait_until(lambda: told if (told := read_status(sweep)).ended == {"COMPLETED": 2} else None)
    assert status.by_status == {"complete": 3}
    spent_s = sum(
        gpu_s for _, _, gpu_s in slurm.read_accounting([list_submissions(sweep)[0].arrays[0]["job_id"]]) or []
    )
    assert 0 < spent_s == pytest.approx(status.gpu_h * 3600)
    assert f"{status.gpu_h:,.1f} GPU-hours held by tasks" in status.render()
    assert "ended tasks: 2 completed" in status.render()

    # A worker that is killed leaves no word: how its task ended, the accounting knows.
    killed = tmp_path / "killed"
    long = ["train.n_samples=300", "train.n_epochs=100", "mixture=natural", "seed=3", "cluster.restarts=0"]
    sweep_on("slurm", tiny_outputs, killed, *long)
    wait_until(lambda: trains(killed))
    os.kill(find_worker(killed), signal.SIGKILL)
    (failure,) = wait_until(lambda: read_status(killed).failures)
    assert failure.cause == "its task ended as FAILED"

    # A task that was cancelled before it began left no log, and is not missed.
    held = tmp_path / "held"
    sweep_on("slurm", tiny_outputs, held, "seed=range(3)", "cluster.options={hold: true}")
    slurm.ask("scancel", list_submissions(held)[0].arrays[0]["job_id"])
    assert wait_until(lambda: read_status(held).ended) == {"CANCELLED": 1}
    assert read_status(held).lost_tasks == []


def test_an_account_that_the_user_does_not_have_is_refused_with_those_he_has(
    cluster: Path, tiny_outputs: Path, tmp_path: Path
) -> None:
    wrong = [*TINY, f"outputs={tiny_outputs}", f"sweep_dir={tmp_path / 'sweep'}", "cluster=slurm", "seed=7"]
    ended = launch("-m", *wrong, "cluster.account=nobodys")
    assert ended.returncode == 2, ended.stderr
    assert "Invalid account" in ended.stderr
    assert "`causalmix doctor` tells which" in ended.stderr
    options = [f"outputs={tmp_path}", "cluster=slurm", "cluster.account=nobodys", "cluster.qos=best", "--json"]
    said = launch("doctor", *options, "--wait", "0", module="causalmix.cli")
    found = {finding["name"]: finding for finding in json.loads(said.stdout)["findings"]}
    assert found["account and qos"]["state"] == "failed"
    assert "cluster.account=nobodys is not one of yours: root" in found["account and qos"]["said"]
    assert "cluster.qos=best is not one of yours: normal" in found["account and qos"]["said"]
