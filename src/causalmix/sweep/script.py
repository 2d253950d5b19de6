"""The batch script of a submission: how many tasks, how long, and the one command that each of them runs."""

from __future__ import annotations

import math
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from causalmix.config import ClusterConfig, ResourcesConfig
from causalmix.errors import ConfigError, name_some
from causalmix.sweep import slurm

STOPPED = 85
"""Exit status of a worker that was told to stop and has left work: the task wants to be queued again."""

DISTURBED = 3
"""Exit status of a worker that the file system failed: its task is queued again, up to ``cluster.restarts`` times."""

START_MIN = 5  # of a task's time: imports, and reading a pool that is not cached yet
OWN_KEYS = {
    "array": "resources.runs_per_task and cluster.max_running",
    "time": "resources.time_min",
    "gres": "resources.gpus",
    "gpus": "resources.gpus",
    "mem": "resources.memory_gb",
    "cpus-per-task": "resources.cpus",
    "partition": "cluster.partition",
    "account": "cluster.account",
    "qos": "cluster.qos",
    "constraint": "cluster.constraint",
    "signal": "cluster.grace_s",
    "job-name": "nothing: the sweep is found by it",
    "output": "nothing: logs lie in the sweep's folder",
    "export": "cluster.setup",
    "ntasks": "resources.workers_per_gpu, or resources.ranks",
    "ntasks-per-node": "resources.ranks",
    "nodes": "resources.nodes",
}
"""sbatch options that have a key of their own."""

SECRET = re.compile(r"(?i)\b\w*(api_?key|token|secret|passw(or)?d)\w*\s*=")


@dataclass(frozen=True)
class Shape:
    """How a submission is cut into tasks and arrays.

    Attributes
    ----------
    n_workers : int
        Processes a task.
    n_tasks : int
    time_min : int
        Time limit of a task.
    arrays : tuple of int
        Tasks of each array.
    """

    n_workers: int
    n_tasks: int
    time_min: int
    arrays: tuple[int, ...]


def shape_tasks(
    n_runs: int, cluster: ClusterConfig, resources: ResourcesConfig, max_array: int, n_queued: int = 0
) -> Shape:
    """Cut runs into tasks, and tasks into arrays that the site takes.

    A limit on submitted tasks makes each of them longer instead of leaving runs out.

    Parameters
    ----------
    n_runs : int
    cluster : ClusterConfig
    resources : ResourcesConfig
    max_array : int
        Tasks that an array may have.
    n_queued : int
        Tasks of this sweep that wait or run already.

    Raises
    ------
    ConfigError
        Where those leave no room.
    """
    n_workers = count_workers(resources)
    wanted = math.ceil(n_runs / (resources.runs_per_task * n_workers))
    room = cluster.max_submit - n_queued if cluster.max_submit else wanted
    if wanted and room < 1:
        raise ConfigError(
            f"cluster.max_submit={cluster.max_submit}, and {n_queued} tasks of this sweep are in the queue: "
            f"wait until some have ended, `causalmix cancel` them, or raise it"
        )
    n_tasks = min(wanted, room)
    runs_each = math.ceil(n_runs / (n_tasks * n_workers)) if n_tasks else 0
    limit_min = min(runs_each, n_runs) * resources.timeout_min + START_MIN + math.ceil(cluster.grace_s / 60)
    full, rest = divmod(n_tasks, max_array)
    arrays = (max_array,) * full + ((rest,) if rest else ())
    return Shape(n_workers, n_tasks, resources.time_min or limit_min, arrays)


def count_workers(resources: ResourcesConfig) -> int:
    """Count the runs that a task does at once: one a GPU, or several, or one on all of them."""
    return 1 if resources.ranks > 1 else max(1, resources.gpus) * resources.workers_per_gpu


def list_array(n_tasks: int, cluster: ClusterConfig) -> str:
    """Write an array as sbatch takes it."""
    throttle = f"%{cluster.max_running}" if cluster.max_running else ""
    return f"0-{n_tasks - 1}{throttle}"


def render_script(
    name: str, sweep: Path, command: list[str], shape: Shape, cluster: ClusterConfig, resources: ResourcesConfig
) -> str:
    """Write the batch script of a submission's first array; later ones change name and array on sbatch's command line.

    Nothing in it depends on a run: workers read what to do from the sweep's folder. No value of the environment
    stands in it, so it can be shown to anybody.
    """
    check_script(cluster)
    directives = {
        "job-name": f"{name}-0",
        "array": list_array(shape.arrays[0], cluster),
        "output": f"{str(sweep).replace('%', '%%')}/log/%x-%A_%a.txt",
        "open-mode": "append",  # a task that is queued again goes on in the same file
        "time": shape.time_min,
        "nodes": resources.nodes,
        "ntasks": shape.n_workers * resources.ranks,
        "ntasks-per-node": resources.ranks // resources.nodes if resources.nodes > 1 else None,
        "cpus-per-task": resources.cpus or resources.threads_per_worker,
        "mem": f"{math.ceil(resources.memory_gb * 1024)}M" if resources.memory_gb else None,
        "gres": f"gpu:{resources.gpus}" if resources.gpus else None,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "signal": f"USR1@{cluster.grace_s}" if cluster.grace_s else None,
        "requeue": True,
        **(cluster.options or {}),
    }
    lines = ["#!/bin/bash"]
    for key, value in directives.items():
        if value is True:
            lines.append(f"#SBATCH --{key}")
        elif value is not None and value is not False:
            lines.append(f"#SBATCH --{key}={quote_directive(key, str(value))}")
    threads = resources.threads_per_worker
    lines += [
        "",
        *(f"module load {shlex.quote(module)}" for module in cluster.modules),
        *cluster.setup,
        f"export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} OPENBLAS_NUM_THREADS={threads}",
        "export TOKENIZERS_PARALLELISM=false",
        f"cd {shlex.quote(str(Path.cwd()))} || exit 2",
        *meet_ranks(resources),
        f"srun --kill-on-bad-exit={int(resources.ranks > 1)} {shlex.join(command)}",
        "status=$?",
        "# Told to stop with work left, or died: back into the queue. A cancelled job is not RUNNING any more.",
        f'if [ "$status" -eq {STOPPED} ] || {{ [ "$status" -gt 2 ] && '
        f'[ "${{SLURM_RESTART_COUNT:-0}}" -lt {cluster.restarts} ]; }}; then',
        '  if [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then',
        '    scontrol requeue "$SLURM_JOB_ID" && sleep 60',
        "  fi",
        "fi",
        'exit "$status"',
    ]
    return "\n".join(lines) + "\n"


def work_on(sweep: Path, submission: str, points: str) -> list[str]:
    """Return the command of a worker; the table's name is its hash, so a job does what was submitted or nothing."""
    return [sys.executable, "-m", "causalmix.sweep.packed", str(sweep), submission, points]


def meet_ranks(resources: ResourcesConfig) -> list[str]:
    """Return the lines that tell the ranks of a task where they meet; SLURM tells each of them its number."""
    if resources.ranks == 1:
        return []
    return [
        'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "# The address by which SLURM itself reaches that node: its name need not be a host's.",
        """MASTER_ADDR=$(scontrol show node "$first" | grep -oP 'NodeAddr=\\K\\S+')""",
        "# Below the ports that a system hands out; another one after a requeue, should this one be taken.",
        "MASTER_PORT=$((20000 + (SLURM_JOB_ID + 7 * ${SLURM_RESTART_COUNT:-0}) % 10000))",
        "export MASTER_ADDR MASTER_PORT",
    ]


def check_cluster(cluster: ClusterConfig) -> None:
    """Refuse settings that this site does not have, or that no script can hold.

    Raises
    ------
    ConfigError, SweepError
    """
    check_script(cluster)
    slurm.check_site(cluster.partition, cluster.options or {})


def check_script(cluster: ClusterConfig) -> None:
    """Refuse settings that would break the script, or put a secret into it.

    Raises
    ------
    ConfigError
    """
    wrong = []
    options = cluster.options or {}
    if not isinstance(options, dict):
        raise ConfigError(f"cluster.options={options!r}: a mapping, as 'cluster.options={{nice: 100}}'")
    for key in options:
        if key in OWN_KEYS:
            wrong.append(f"cluster.options.{key}: use {OWN_KEYS[key]}")
        elif not re.fullmatch(r"[a-z][a-z0-9-]*", str(key)):
            wrong.append(f"cluster.options.{key}: long names of sbatch's options, without dashes before them")
    secrets = [line for line in [*cluster.setup, *map(str, options.values())] if SECRET.search(line)]
    if secrets:
        names = name_some(line.split("=")[0].strip() for line in secrets)
        wrong.append(f"cluster.setup sets {names}: leave secrets in your environment, jobs inherit it")
    wrong += [f"cluster.modules: {module!r}" for module in cluster.modules if "\n" in module]
    if wrong:
        raise ConfigError("; ".join(wrong))


def quote_directive(key: str, value: str) -> str:
    """Quote a directive's value for sbatch's own parser."""
    if "\n" in value or '"' in value or "\\" in value:
        raise ConfigError(f"{key}={value!r}: no line break, double quote or backslash can stand in a batch script")
    return value if re.fullmatch(r"[\w./:,@%+=\[\]-]+", value) else f'"{value}"'
