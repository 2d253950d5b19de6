"""All questions of the doctor, in the order in which a launch would stumble over them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from causalmix.config import Config
from causalmix.sweep import slurm
from causalmix.sweep.doctor import here, job, site
from causalmix.sweep.doctor.finding import FAILED, Finding
from causalmix.sweep.doctor.probe import COUNT_GPUS
from causalmix.sweep.script import shape_tasks

N_RUNS = 512  # what a sweep is judged by


def examine_site(config: Config, root: Path, wait_s: float) -> Iterator[Finding]:
    """Yield findings as they come.

    Parameters
    ----------
    config : Config
        ``cluster``, ``resources``, ``tracker``, ``outputs`` and ``sweep_dir`` are looked at.
    root : Path
        The project's folder, for its lock.
    wait_s : float
        How long the doctor's own job may wait in the queue; 0 submits none.
    """
    yield from here.check_python()
    yield from here.check_packages(root)
    folder = Path(config.sweep_dir or config.outputs)
    uses_slurm = config.cluster.kind == "slurm" or (config.cluster.kind == "auto" and slurm.is_available())
    yield from here.check_folder(folder, is_shared=uses_slurm)
    yield from here.check_tracker(config.tracker.mode)
    if not uses_slurm:
        yield site.REACHED.skip(f"cluster.kind={config.cluster.kind}: runs stay on this machine")
        yield check_own_gpus(config.resources.gpus)
        return
    found = list(site.check_commands())
    yield from found
    if any(finding.state == FAILED for finding in found):
        return
    yield from examine_slurm(config, folder, wait_s)


def examine_slurm(config: Config, folder: Path, wait_s: float) -> Iterator[Finding]:
    """Ask SLURM about everything that a sweep would ask of it."""
    shape = shape_tasks(N_RUNS, config.cluster, config.resources, slurm.read_max_array())
    yield from site.check_partition(config.cluster, config.resources, shape.time_min)
    yield from site.check_limits(config.cluster, shape)
    yield from site.check_account(config.cluster)
    trial = folder / f".doctor-{uuid.uuid4().hex}.sh"
    verdicts = list(site.check_trial(trial, shape, config.cluster, config.resources))
    yield from verdicts
    if wait_s <= 0:
        yield job.STARTED.skip("--wait 0")
    elif not any(finding.state == FAILED for finding in verdicts):
        yield from job.check_job(folder, config, wait_s)


def check_own_gpus(asked: int) -> Finding:
    """Count the GPUs that torch sees here."""
    if not asked:
        return job.GPU.skip("resources.gpus=0")
    if importlib.util.find_spec("torch") is None:
        return job.GPU.fail("torch is not installed", "`make .venv`")
    ended = subprocess.run([sys.executable, "-c", COUNT_GPUS], capture_output=True, text=True, check=False)
    n_gpus = int(ended.stdout.split()[-1]) if ended.returncode == 0 else 0
    return job.judge_gpus({"n_gpus": n_gpus, "visible": None}, asked)
