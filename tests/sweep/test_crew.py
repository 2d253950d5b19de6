"""Ranks of one task: the script that starts them, and real tiny runs that two of them train together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from causalmix.config import ClusterConfig, ResourcesConfig
from causalmix.errors import ConfigError, SweepError
from causalmix.run.record import read_record
from causalmix.sweep.crew import join_crew
from causalmix.sweep.script import STOPPED, Shape, render_script, shape_tasks
from causalmix.sweep.settings import check_settings
from causalmix.sweep.status import read_status
from causalmix.sweep.submit import refuse_ranks
from tests.tiny import ROOT, TINY, compose_tiny, launch, make_environment

CLUSTER = ClusterConfig(name="c", kind="slurm")
NODES = ResourcesConfig(name="r", gpus=8, nodes=2, ranks=16, cpus=8, memory_gb=400, runs_per_task=1, timeout_min=600)


def test_a_task_of_ranks_is_one_worker() -> None:
    assert shape_tasks(3, CLUSTER, NODES, 1001) == Shape(1, 3, 607, (3,))


def test_the_script_says_where_ranks_meet() -> None:
    lines = render_script("s1", Path("/s"), "s1", shape_tasks(3, CLUSTER, NODES, 1001), CLUSTER, NODES).splitlines()
    assert [line for line in lines if "node" in line and line.startswith("#SBATCH")] == [
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=8",
    ]
    assert "#SBATCH --ntasks=16" in lines
    at = next(at for at, line in enumerate(lines) if line.startswith("srun"))
    assert "--kill-on-bad-exit=1" in lines[at]  # a rank that died leaves the others waiting
    shell = """scontrol() {
      if [ "$1 $2" = "show hostnames" ]; then echo first; echo second
      else echo "NodeName=$3 Arch=x86_64"; echo "   NodeAddr=$3.local NodeHostName=$3 Version=22.05.8"; fi
    }
    SLURM_JOB_ID=41234; SLURM_JOB_NODELIST=x; SLURM_RESTART_COUNT=2
    """
    said = subprocess.run(
        ["bash", "-eu"],
        input=shell + "\n".join(lines[at - 6 : at]) + "\necho $MASTER_ADDR $MASTER_PORT",
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "first.local 21248\n"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["resources.ranks=3", "resources.gpus=2"], r"resources.ranks=3: nodes \* gpus, 1 \* 2 = 2"),
        (["resources.ranks=3", "resources.nodes=2"], "a multiple of resources.nodes=2"),
        (["resources.ranks=41"], "resources.ranks=41 with train.n_samples=40: at most a rank a document"),
        (["resources.nodes=2"], "resources.nodes=2: 1, or resources.ranks that need more"),
        (["resources.ranks=2", "resources.workers_per_gpu=2"], "workers_per_gpu=2 with resources.ranks=2: 1"),
    ],
)
def test_ranks_that_do_not_fit_their_nodes_are_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_settings(compose_tiny(tmp_path, *overrides))


def test_another_number_of_processes_is_refused() -> None:
    assert join_crew({"ranks": 1}, 0, 4) is None
    with pytest.raises(SweepError, match=r"resources\.ranks=4, but SLURM started 2 processes"):
        join_crew({"ranks": 4}, 0, 2)


def test_ranks_on_this_machine_are_refused() -> None:
    refuse_ranks(1)
    with pytest.raises(SweepError, match=r"resources\.ranks=8.*use cluster=slurm, or resources\.ranks=1"):
        refuse_ranks(8)


# --- real runs ------------------------------------------------------------------------------------------


def start_ranks(sweep: Path, submission: str, n_ranks: int = 2) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    points = next((sweep / "points").glob("*.json")).name
    job = {"SLURM_ARRAY_JOB_ID": "100", "SLURM_JOB_ID": "100", "SLURM_NTASKS": str(n_ranks)}
    job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "causalmix.sweep.packed", str(sweep), submission, points],
            cwd=ROOT,
            env={**make_environment(), **job, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(n_ranks)
    ]


def end_ranks(processes: list[subprocess.Popen[str]], statuses: list[int]) -> str:
    try:
        said = "\n".join(process.communicate(timeout=200)[0] for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == statuses, said
    return said


def read_outcomes(sweep: Path) -> dict[str, tuple[float, float]]:
    found = {}
    for path in sorted((sweep / "runs").iterdir()):
        record = read_record(path)
        assert record is not None
        assert record.status == "complete", record.cause
        found[path.name] = (record.row["train.loss_last"], record.row["outcome.avg_dev"])
    return found


@pytest.mark.slow
def test_two_ranks_do_what_one_process_does_and_go_on_after_a_stop(
    fake: Path, tiny_outputs: Path, tmp_path: Path
) -> None:
    sweep, alone = tmp_path / "sweep", tmp_path / "alone"
    common = [*TINY, f"outputs={tiny_outputs}", "train.n_samples=300", "train.log_every=1", "seed=range(2)"]
    ended = launch("-m", *common, "cluster=local", f"sweep_dir={alone}")
    assert ended.returncode == 0, ended.stderr
    submitted = launch(
        "-m", *common, "cluster=slurm", "cluster.jitter_s=0", "resources.ranks=2", f"sweep_dir={sweep}"
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stderr
    submission = next((sweep / "jobs").glob("*.json")).stem

    processes = start_ranks(sweep, submission)
    deadline = time.monotonic() + 100
    while not any(path.stat().st_size for path in sweep.glob("runs/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), end_ranks(processes, [0, 0])
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGUSR1)  # SLURM tells all of them; one is enough
    end_ranks(processes, [STOPPED, STOPPED])
    assert read_status(sweep).by_status.get("complete", 0) < 2
    assert list(sweep.glob("runs/*/checkpoint/step-*/shard-00002-*.safetensors"))

    end_ranks(start_ranks(sweep, submission), [0, 0])
    (fake / "jobs.json").unlink()
    assert read_status(sweep).by_status == {"complete": 2}
    wanted = read_outcomes(alone)
    found = read_outcomes(sweep)
    assert found.keys() == wanted.keys()  # how many ranks train a run is no part of what it is
    for run_id, numbers in found.items():
        assert numbers == pytest.approx(wanted[run_id], abs=1e-3)
    assert os.environ.get("RANK") is None
