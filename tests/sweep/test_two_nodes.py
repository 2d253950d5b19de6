"""Two real nodes: a run whose ranks meet across them, and a node that does not see the sweep's folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from causalmix.sweep import slurm
from causalmix.sweep.jobs import list_submissions, list_tasks
from causalmix.sweep.status import read_status
from tests.sweep.real_slurm import clear_queue, read_all, start_cluster, sweep_on, wait_until
from tests.tiny import launch

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[Path]:
    with start_cluster(nodes=2) as folder:
        yield folder
        clear_queue()


def read_losses(sweep: Path) -> dict[str, list[float]]:
    """Read every step's loss of every run."""
    return {
        path.parent.name: [json.loads(line)["loss"] for line in path.read_text().splitlines()]
        for path in sweep.glob("runs/*/metrics.jsonl")
    }


def test_four_ranks_on_two_nodes_train_as_one_process(cluster: Path, tiny_outputs: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    run = ["train.n_samples=300", "train.log_every=1", "seed=5"]
    sweep_on("slurm", tiny_outputs, there, *run, "resources.nodes=2", "resources.ranks=4")
    job = list_submissions(there)[0].arrays[0]["job_id"]
    wait_until(lambda: " NodeList=n[1-2]" in slurm.ask("scontrol", "show", "job", job).replace("\n  ", ""))
    sweep_on("local", tiny_outputs, here, *run)
    wait_until(lambda: not list_tasks(there))
    assert read_status(there).by_status == {"complete": 1}, next((there / "log").iterdir()).read_text()
    wanted, found = read_losses(here), read_losses(there)
    assert len(next(iter(wanted.values()))) == 26
    assert found.keys() == wanted.keys()
    for run_id, losses in found.items():
        assert losses == pytest.approx(wanted[run_id], abs=1e-5)
    (outcome,), (reference,) = (results.values() for results in (read_all(there), read_all(here)))
    assert outcome["outcome.avg_dev"] == pytest.approx(reference["outcome.avg_dev"], abs=1e-3)


def restart_node(cluster: Path, name: str, hidden: Path | None = None) -> None:
    """Start a node's daemon anew; a ``hidden`` folder is empty to it and to its jobs."""
    # Down: the controller forgets jobs of whose end the daemon has not told it; it would wait for that word.
    slurm.ask("scontrol", "update", f"nodename={name}", "state=down", "reason=restarted")
    pid = cluster / "pid" / f"slurmd.{name}"
    process = int(pid.read_text())
    os.kill(process, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{process}").exists())  # it holds its port to the end
    command = f"slurmd -f {cluster}/slurm.conf -N {name}"
    if hidden:
        command = f"unshare --mount sh -c 'mount -t tmpfs none {hidden} && exec {command}'"
    subprocess.run(command, shell=True, check=True)
    wait_until(pid.exists)
    # A daemon that reports takes its node back into service (slurm/up: ReturnToService=2).
    wait_until(lambda: set(slurm.ask("sinfo", "--noheader", f"--nodes={name}", "--format=%T").split()) == {"idle"})


def test_a_node_that_does_not_see_the_folder_is_named(cluster: Path, tiny_outputs: Path, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a mount namespace: no node can be made blind")
    there = "cluster.options={nodelist: n2}"
    restart_node(cluster, "n2", hidden=tmp_path)
    try:
        sweep_on("slurm", tiny_outputs, tmp_path / "sweep", "seed=range(4)", "resources.runs_per_task=2", there)
        wait_until(lambda: not list_tasks(tmp_path / "sweep"))
        (lost,) = read_status(tmp_path / "sweep").lost_tasks
        assert (lost.n_tasks, lost.log) == (2, [])
        said = launch("status", str(tmp_path / "sweep"), module="causalmix.cli").stdout
        assert "2 tasks" in said
        assert "the node does not see this folder" in said
        said = launch("doctor", f"outputs={tmp_path / 'out'}", "cluster=slurm", there, "--json", module="causalmix.cli")
        found = {finding["name"]: finding for finding in json.loads(said.stdout)["findings"]}
        assert (said.returncode, found["a job shares the folder"]["state"]) == (1, "failed"), said.stdout
        assert "every node mounts" in found["a job shares the folder"]["mend"]
    finally:
        restart_node(cluster, "n2")
    sweep_on("slurm", tiny_outputs, tmp_path / "sweep", "seed=range(4)", "resources.runs_per_task=2", there)
    wait_until(lambda: read_status(tmp_path / "sweep").by_status == {"complete": 4})
    assert read_status(tmp_path / "sweep").lost_tasks == []
