"""SLURM's commands: the few that are needed, with errors that say what this site would take."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from causalmix.errors import SweepError, name_some, nearest_name

FOREIGN = re.compile(r"(SLURM|SBATCH|SRUN|SALLOC|PMI|PMIX)_")
"""Variables of a job or of SLURM's commands; ``SLURM_CONF`` alone says where the cluster is."""

PATIENCE_S = 20.0  # of a status with a silent controller: records and heartbeats say most of it
DEFAULT_MAX_ARRAY = 1001  # SLURM's own
ACTIVE = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "SIGNALING")


@dataclass(frozen=True)
class Task:
    """One task of a job array, as squeue lists it."""

    job_id: str
    name: str
    state: str
    reason: str
    index: str  # in its array


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop what belongs to another job: a variable left from it would quietly change the new one."""
    return {key: value for key, value in environment.items() if key == "SLURM_CONF" or not FOREIGN.match(key)}


def ask(*command: str, timeout_s: float = 60.0, with_errors: bool = False) -> str:
    """Run one of SLURM's commands and return what it printed, on stderr too where that is asked for.

    Raises
    ------
    SweepError
        Where it is not installed, does not answer or refuses.
    """
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=clean_environment(os.environ),
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise SweepError(f"{command[0]} is not here: cluster=slurm needs SLURM's commands; use cluster=local") from None
    except subprocess.TimeoutExpired:
        raise SweepError(f"{command[0]} gave no answer within {timeout_s:.0f} s: is the controller up?") from None
    if ended.returncode:
        said = " ".join(line.strip() for line in ended.stderr.splitlines() if line.strip())
        raise SweepError(f"{command[0]} refused: {said or f'exit status {ended.returncode}'}")
    return ended.stdout + (ended.stderr if with_errors else "")


def is_available() -> bool:
    """Tell whether sbatch is here and its controller answers."""
    if not shutil.which("sbatch"):
        return False
    try:
        return bool(list_partitions())
    except SweepError:
        return False


def list_partitions() -> list[str]:
    """Name the partitions of this site, the default one first."""
    names = ask("sinfo", "--noheader", "--format=%P", timeout_s=15).split()
    return [name.rstrip("*") for name in sorted(dict.fromkeys(names), key=lambda name: not name.endswith("*"))]


def list_options() -> list[str]:
    """Name sbatch's long options, as this version of it lists them."""
    return sorted(set(re.findall(r"--([a-z][a-z0-9-]+)", ask("sbatch", "--help"))))


def read_max_array() -> int:
    """Read how many tasks an array may have."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return int(found.group(1)) if found else DEFAULT_MAX_ARRAY


def submit(script: Path, name: str, array: str, extra: Mapping[str, str], after: Iterable[str] = ()) -> str:
    """Submit one array and return its job id.

    Parameters
    ----------
    script : Path
    name : str
        Unique to the array: the job is found by it where its id was lost.
    array : str
        As ``0-99%10``.
    extra : mapping
        Environment variables for the job, beside the cleaned ones of here.
    after : iterable of str
        Jobs that must have ended, however they did.
    """
    exported = ",".join(["ALL", *(f"{key}={value}" for key, value in extra.items())])
    options = [f"--job-name={name}", f"--array={array}", f"--export={exported}"]
    if earlier := ":".join(after):
        options.append(f"--dependency=afterany:{earlier}")
    try:
        said = ask("sbatch", "--parsable", *options, str(script))
    except SweepError as error:
        found = find_ids([name]).get(name)  # a controller under load may take a job and lose its answer
        if found:
            return found
        raise SweepError(f"{error}; {suggest_remedy(str(error))}") from None
    return said.strip().splitlines()[-1].split(";")[0]


def list_tasks(names: Iterable[str], timeout_s: float = 60.0) -> list[Task]:
    """List the tasks of named jobs that wait or run, in one question."""
    wanted = list(names)
    if not wanted:
        return []
    options = ["--noheader", "--array", "--format=%F|%j|%T|%r|%K", f"--name={','.join(wanted)}"]
    lines = ask("squeue", *options, timeout_s=timeout_s).splitlines()
    tasks = [Task(*line.strip().split("|", 4)) for line in lines if line.count("|") >= 4]
    return [task for task in tasks if task.state in ACTIVE]


def find_ids(names: Iterable[str]) -> dict[str, str]:
    """Find the job ids of named jobs that wait or run."""
    return {task.name: task.job_id for task in list_tasks(names)}


def suggest_remedy(said: str) -> str:
    """Say what the site would take where sbatch refused; judged afterwards, for a site may rewrite what it is asked."""
    if "feature specification" in said:
        words = re.split(r"[\s,]+", ask("sinfo", "--noheader", "--format=%f", timeout_s=15))
        features = sorted({word for word in words if word and word != "(null)"})
        return f"cluster.constraint: nodes here have {name_some(features, len(features)) or 'no features'}"
    return "`causalmix doctor` tells which partitions, limits and accounts there are"


def read_accounting(job_ids: Iterable[str]) -> list[tuple[str, str, float]] | None:
    """Ask the accounting about jobs, in one question.

    Returns
    -------
    list of (str, str, float), or None
        Task (``100_3``), state and GPU-seconds, a row an attempt; None where the site keeps no accounting.
    """
    wanted = list(job_ids)
    if not wanted or not shutil.which("sacct"):
        return None
    shape = ["--noheader", "--parsable2", "--allocations", "--duplicates", "--format=JobID,State,ElapsedRaw,AllocTRES"]
    try:
        lines = ask("sacct", *shape, f"--jobs={','.join(wanted)}", timeout_s=30).splitlines()
    except SweepError:
        return None
    rows = []
    for line in lines:
        task, state, elapsed, resources = line.split("|", 3)
        gpus = re.search(r"gres/gpu=(\d+)", resources)
        gpu_s = int(elapsed or 0) * float(gpus.group(1) if gpus else 0)
        rows += [(one, state.split(" ")[0], gpu_s) for one in expand_tasks(task)]
    return rows


def expand_tasks(said: str) -> list[str]:
    """Name the tasks of an accounting row: those that never began share one, ``100_[0-2,7%4]``."""
    job, _, inside = said.rstrip("]").partition("_[")
    if not inside:
        return [said]
    ranges = re.findall(r"(\d+)(?:-(\d+))?", inside.split("%")[0])
    return [f"{job}_{at}" for first, last in ranges for at in range(int(first), int(last or first) + 1)]


def check_site(partition: str | None, options: Iterable[str]) -> None:
    """Refuse a partition or an option that this site does not have.

    Raises
    ------
    SweepError
        Naming every valid one.
    """
    wrong = []
    partitions = list_partitions()
    for name in (partition or "").split(","):
        if name and name not in partitions:
            wrong.append(
                f"cluster.partition={name}{nearest_name(name, partitions)}; this site has: {', '.join(partitions)}"
            )
    given = list(options)
    if given:
        known = list_options()
        for name in given:
            if name not in known:
                wrong.append(
                    f"cluster.options.{name}{nearest_name(name, known)}; sbatch takes: {name_some(known, len(known))}"
                )
    if wrong:
        raise SweepError("; ".join(wrong))
