"""Real slurmctld and slurmd on one node: sweeps, preemption, kills, cancelling; results as without any of it.

The cluster is the one of ``SLURM_CONF`` where slurm/up made it, else one that is started here where SLURM is installed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from causalmix.sweep import slurm
from causalmix.sweep.jobs import list_submissions, list_tasks
from causalmix.sweep.status import read_status
from tests.sweep.real_slurm import (
    clear_queue,
    find_worker,
    is_complete,
    keep_results,
    read_all,
    read_only,
    start_cluster,
    sweep_on,
    trains,
    wait_until,
)
from tests.tiny import launch

pytestmark = pytest.mark.slow
CANARY = "canary-81c3"
LONG = ["train.n_samples=300", "train.n_epochs=100", "mixture=natural", "seed=3"]  # 2,600 steps, some ten seconds


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """Folder of a running one-node cluster."""
    given = os.environ.get("SLURM_CONF")
    if given and slurm.is_available():
        yield Path(given).parent
        return
    with start_cluster() as folder:
        yield folder


@pytest.fixture(autouse=True)
def empty_queue(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no job behind, and put a secret into every command's environment."""
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    yield
    clear_queue()


@pytest.fixture(scope="module")
def undisturbed(cluster: Path, tiny_outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of the long run, alone on this machine."""
    folder = tmp_path_factory.mktemp("quiet") / "sweep"
    sweep_on("local", tiny_outputs, folder, *LONG)
    record = is_complete(folder)
    assert record
    return keep_results(record)


def test_a_sweep_on_slurm_is_the_sweep_on_this_machine(cluster: Path, tiny_outputs: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    sweep_on("local", tiny_outputs, here, "seed=range(6)")
    planned = sweep_on("slurm", tiny_outputs, there, "seed=range(6)", "resources.runs_per_task=2", "plan=true")
    assert "tasks      3 of at most" in planned.stdout
    assert not there.exists()
    then = "then.analysis={estimator: constant_dml}"
    submitted = sweep_on("auto", tiny_outputs, there, "seed=range(6)", "resources.runs_per_task=2", then)
    assert "6 to submit" in submitted.stderr
    again = sweep_on("slurm", tiny_outputs, there, "seed=range(6)", "cluster.wait=true")
    assert "0 to submit" in again.stderr
    results = [read_all(folder) for folder in (here, there)]
    assert len(results[0]) == 6
    assert results[0] == results[1]
    wait_until(lambda: not list_tasks(there))
    status = read_status(there)
    assert status.by_status == {"complete": 6}
    assert status.attempts == 6
    assert status.tasks == {}
    result = wait_until(lambda: (path := there / "analysis/then.json").exists() and json.loads(path.read_text()))
    assert "runs are too few" in result["said"], "it ran behind the arrays, and the analysis said what it lacks"
    assert result["said"] == read_status(there).analysis
    for path in there.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_the_doctor_of_a_real_site(cluster: Path, tmp_path: Path) -> None:
    here = ["doctor", f"outputs={tmp_path}", "cluster=slurm", "--json"]
    said = launch(*here, module="causalmix.cli")
    found = {finding["name"]: finding["state"] for finding in json.loads(said.stdout)["findings"]}
    assert said.returncode == 0, said.stdout
    assert found["a job shares the folder"] == found["a job has this software"] == "good"
    assert found["sbatch --test-only"] == found["the node's clock"] == "good"
    assert CANARY not in said.stdout
    assert not list(tmp_path.iterdir())
    said = launch(*here, "cluster.partition=urgent", "resources.gpus=1", module="causalmix.cli")
    found = {finding["name"]: finding for finding in json.loads(said.stdout)["findings"]}
    assert found["gpus of the partition"]["state"] == "good"
    sees = found["a job sees its GPUs"]  # this site's are pretended: the doctor does not fall for them
    assert (said.returncode, sees["state"]) == (1, "failed"), said.stdout
    said = launch(*here, "cluster.options={reservation: nowhere}", module="causalmix.cli")
    found = {finding["name"]: finding for finding in json.loads(said.stdout)["findings"]}
    assert said.returncode == 1
    assert "reservation" in found["sbatch --test-only"]["said"]


def test_a_preempted_run_goes_on_bitwise(
    cluster: Path, tiny_outputs: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    folder = tmp_path / "sweep"
    sweep_on("slurm", tiny_outputs, folder, *LONG)
    wait_until(lambda: trains(folder))
    urgent = tmp_path / "urgent.sh"
    urgent.write_text("#!/bin/bash\nsleep 1\n")
    slurm.ask("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", str(urgent))
    record = wait_until(lambda: is_complete(folder))
    assert keep_results(record) == undisturbed
    attempts = record.provenance["attempts"]
    assert [attempt["ended"] for attempt in attempts] == ["preempted", None]
    assert [attempt["restart"] for attempt in attempts] == [0, 1]
    assert record.provenance["earlier_s"] > 0
    metrics = [json.loads(line)["step"] for line in next(folder.glob("runs/*/metrics.jsonl")).read_text().splitlines()]
    assert metrics == sorted(set(metrics))
    assert metrics[-1] == 2600
    wait_until(lambda: not list(folder.glob("runs/*/checkpoint")))  # it was there to be resumed from alone


def test_a_killed_worker_comes_back_and_its_run_is_reclaimed_once(
    cluster: Path, tiny_outputs: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    folder = tmp_path / "sweep"
    sweep_on("slurm", tiny_outputs, folder, *LONG, "train.checkpoint_every=200")
    wait_until(lambda: list(folder.glob("runs/*/checkpoint/step-*")))
    os.kill(find_worker(folder), signal.SIGKILL)
    record = wait_until(lambda: is_complete(folder))
    assert keep_results(record) == undisturbed
    assert [attempt["ended"] for attempt in record.provenance["attempts"]] == [None, None]
    assert record.provenance["claim"] == 2


def test_a_controller_that_dies_and_comes_back_costs_nothing(
    cluster: Path, tiny_outputs: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    folder = tmp_path / "sweep"
    sweep_on("slurm", tiny_outputs, folder, *LONG)
    wait_until(lambda: trains(folder))
    os.kill(int((cluster / "pid/slurmctld").read_text()), signal.SIGKILL)
    assert read_status(folder).by_status == {"running": 1}, "records and heartbeats need no controller"
    subprocess.run(["slurmctld", "-f", cluster / "slurm.conf"], check=True)
    record = wait_until(lambda: is_complete(folder))
    assert keep_results(record) == undisturbed
    assert len(record.provenance["attempts"]) == 1
    wait_until(lambda: not list_tasks(folder))


def test_a_node_daemon_that_dies_and_comes_back_costs_nothing(
    cluster: Path, tiny_outputs: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    folder = tmp_path / "sweep"
    sweep_on("slurm", tiny_outputs, folder, *LONG)
    wait_until(lambda: trains(folder))
    os.kill(int((cluster / "pid/slurmd").read_text()), signal.SIGKILL)
    time.sleep(1)
    subprocess.run(["slurmd", "-f", cluster / "slurm.conf"], check=True)
    record = wait_until(lambda: is_complete(folder))
    assert keep_results(record) == undisturbed
    wait_until(lambda: not list_tasks(folder))
    assert read_status(folder).by_status == {"complete": 1}


def test_what_is_cancelled_stays_cancelled_and_can_go_on(
    cluster: Path, tiny_outputs: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    folder = tmp_path / "sweep"
    sweep_on("slurm", tiny_outputs, folder, *LONG)
    wait_until(lambda: trains(folder))
    said = launch("cancel", str(folder), module="causalmix.cli")
    assert "tasks cancelled: 1 running" in said.stdout, said.stderr
    wait_until(lambda: not list_tasks(folder))
    time.sleep(8)  # longer than a requeued task would wait
    assert not list_tasks(folder)
    record = read_only(folder)
    assert record is None or record.status == "preempted"
    sweep_on("slurm", tiny_outputs, folder, *LONG)
    assert len(list_submissions(folder)) == 2
    record = wait_until(lambda: is_complete(folder))
    assert keep_results(record) == undisturbed
    logs = launch("logs", str(next(folder.glob("runs/*"))), module="causalmix.cli").stdout
    assert "attempt 2" in logs
    assert ": complete" in logs
