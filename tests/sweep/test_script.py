"""The batch script as it stands, and how runs are cut into tasks and arrays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from causalmix.config import ClusterConfig, ResourcesConfig
from causalmix.errors import ConfigError
from causalmix.sweep.script import Shape, render_script, shape_tasks, work_on

GOLDEN = """\
#!/bin/bash
#SBATCH --job-name=s1-abc-0
#SBATCH --array=0-3%2
#SBATCH --output="/shared/a sweep/100%%/log/%x-%A_%a.txt"
#SBATCH --open-mode=append
#SBATCH --time=247
#SBATCH --nodes=1
#SBATCH --ntasks=2
#SBATCH --cpus-per-task=4
#SBATCH --mem=1536M
#SBATCH --gres=gpu:1
#SBATCH --partition=gpu
#SBATCH --account=project
#SBATCH --constraint="a100|h100"
#SBATCH --signal=USR1@90
#SBATCH --requeue
#SBATCH --nice=100
#SBATCH --exclusive

module load cuda/12.8
ulimit -n 4096
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export TOKENIZERS_PARALLELISM=false
cd HERE || exit 2
srun --kill-on-bad-exit=0 PYTHON -m causalmix.sweep.packed '/shared/a sweep/100%' s1-abc 0123.json
status=$?
# Told to stop with work left, or died: back into the queue. A cancelled job is not RUNNING any more.
if [ "$status" -eq 85 ] || { [ "$status" -gt 2 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 3 ]; }; then
  if [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID" && sleep 60
  fi
fi
exit "$status"
"""


def make_cluster(**values: object) -> ClusterConfig:
    return ClusterConfig(name="c", kind="slurm", **values)  # type: ignore[arg-type]


def make_resources(**values: object) -> ResourcesConfig:
    return ResourcesConfig(name="r", **values)  # type: ignore[arg-type]


def test_the_script_is_as_it_stands_here() -> None:
    cluster = make_cluster(
        partition="gpu", account="project", constraint="a100|h100", modules=["cuda/12.8"], setup=["ulimit -n 4096"],
        options={"nice": 100, "exclusive": True, "hold": False}, max_running=2, grace_s=90,
    )  # fmt: skip
    resources = make_resources(gpus=1, cpus=4, memory_gb=1.5, workers_per_gpu=2, runs_per_task=4)
    shape = shape_tasks(32, cluster, resources, max_array=100)
    sweep = Path("/shared/a sweep/100%")
    script = render_script("s1-abc", sweep, work_on(sweep, "s1-abc", "0123.json"), shape, cluster, resources)
    assert script.replace(sys.executable, "PYTHON").replace(str(Path.cwd()), "HERE") == GOLDEN
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=True).returncode == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"setup": ["export WANDB_API_KEY=abc"]}, "cluster.setup sets export WANDB_API_KEY"),
        ({"options": {"time": 5}}, "cluster.options.time: use resources.time_min"),
        ({"options": {"--nice": 5}}, "without dashes"),
        ({"options": {"comment": 'a"\nb'}}, "no line break"),
        ({"options": [1]}, "a mapping"),
        ({"partition": "a\n#SBATCH --uid=0"}, "no line break"),
    ],
)
def test_what_cannot_stand_in_a_script_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        render_script("n", Path("/s"), ["true"], Shape(1, 1, 10, (1,)), make_cluster(**values), make_resources())


@pytest.mark.parametrize(
    ("n_runs", "settings", "expected"),
    [
        (512, {}, Shape(1, 64, 487, (64,))),
        (1, {}, Shape(1, 1, 67, (1,))),
        (10_000, {"runs_per_task": 1}, Shape(1, 10_000, 67, (1001,) * 9 + (991,))),
        (100, {"runs_per_task": 5, "gpus": 2, "workers_per_gpu": 2}, Shape(4, 5, 307, (5,))),
        (512, {"time_min": 30}, Shape(1, 64, 30, (64,))),
    ],
)
def test_runs_are_cut_into_tasks_and_arrays(n_runs: int, settings: dict[str, object], expected: Shape) -> None:
    assert shape_tasks(n_runs, make_cluster(), make_resources(**settings), max_array=1001) == expected


def test_a_limit_on_tasks_makes_them_longer() -> None:
    shape = shape_tasks(512, make_cluster(max_submit=10), make_resources(timeout_min=10), max_array=1001)
    assert shape.n_tasks == 10
    assert shape.time_min == 52 * 10 + 5 + 2


def test_tasks_that_are_queued_already_count() -> None:
    cluster, resources = make_cluster(max_submit=10), make_resources()
    assert shape_tasks(512, cluster, resources, max_array=1001, n_queued=7).n_tasks == 3
    assert shape_tasks(0, cluster, resources, max_array=1001, n_queued=10).n_tasks == 0
    with pytest.raises(ConfigError, match=r"cluster\.max_submit=10, and 10 tasks of this sweep are in the queue: wait"):
        shape_tasks(1, cluster, resources, max_array=1001, n_queued=10)
