"""A tiny job through the real queue: is the folder shared, is the GPU there, is the software the same?"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from causalmix.config import Config
from causalmix.errors import CausalMixError
from causalmix.files import read_json, write_json, write_text
from causalmix.sweep import slurm
from causalmix.sweep.doctor.finding import SKIPPED, Finding, Question
from causalmix.sweep.doctor.here import SKEW_S
from causalmix.sweep.doctor.probe import ASK, REPORT
from causalmix.sweep.script import Shape, render_script

POLL_S = 0.2
ASK_EVERY = 10  # looks at the folder for one question to the controller
LATE_S = 10.0  # a network file system may show a file that much later

STARTED = Question("a job starts", "if this one does not, five hundred will not either")
SHARED = Question(
    "a job shares the folder", "workers read their points in the sweep's folder and write records into it"
)
SAME = Question("a job has this software", "a node with other versions fails, or gives other numbers")
GPU = Question("a job sees its GPUs", "training falls back to the CPU, or fails")
NODE_CLOCK = Question("the node's clock", "times in logs and records are compared by people")


def check_job(folder: Path, config: Config, timeout_s: float) -> Iterator[Finding]:
    """Submit one task as a sweep would, and read what it wrote into ``folder``."""
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    trial = folder.resolve() / f".{name}"
    (trial / "log").mkdir(parents=True)
    token = uuid.uuid4().hex
    try:
        write_json(trial / ASK, {"token": token, "tracker_mode": config.tracker.mode})
        script = trial / "job.sh"
        command = [sys.executable, "-m", "causalmix.sweep.doctor.probe", str(trial)]
        cluster = replace(config.cluster, restarts=0, grace_s=0)
        write_text(script, render_script(name, trial, command, Shape(1, 1, 5, (1,)), cluster, config.resources))
        begun = time.monotonic()
        try:
            job_id = slurm.submit(script, f"{name}-0", "0-0", {})
        except CausalMixError as error:
            yield STARTED.fail(str(error), "the setting that it names")
            return
        try:
            yield from wait_for_report(trial, f"{name}-0", timeout_s, begun)
        finally:
            slurm.ask("scancel", job_id)
        if (trial / REPORT).exists():
            yield from judge(read_json(trial / REPORT), token, config)
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def wait_for_report(trial: Path, name: str, timeout_s: float, begun: float) -> Iterator[Finding]:
    """Wait until the report is there, the job has ended without one, or the time is over."""
    gone_since: float | None = None
    reason = "no word of it"
    for look in range(sys.maxsize):
        if (trial / REPORT).exists():
            yield STARTED.good(f"its report was here after {time.monotonic() - begun:.1f} s")
            return
        if look % ASK_EVERY == 0:
            tasks = slurm.list_tasks([name])
            reason = f"{tasks[0].state.lower()}: {tasks[0].reason}" if tasks else reason
            gone_since = None if tasks else gone_since or time.monotonic()
        if gone_since is not None and time.monotonic() - gone_since > LATE_S:
            logs = [path.read_text(errors="replace") for path in (trial / "log").glob("*")]
            if any(logs):
                yield STARTED.fail(f"it ended with: {logs[0].strip()[-500:]}", "what its log says")
            else:
                yield STARTED.good("it ran")
                mend = "outputs=DIR (or sweep_dir=DIR) on a file system that every node mounts under the same path"
                yield SHARED.fail(f"the job ended, and left nothing in {trial.parent}", mend)
            return
        if time.monotonic() - begun > timeout_s:
            mend = "ask again when the queue is shorter (--wait SECONDS), or another partition"
            yield STARTED.warn(f"not within {timeout_s:.0f} s ({reason}); it was cancelled", mend)
            return
        time.sleep(POLL_S)


def judge(report: dict[str, Any], token: str, config: Config) -> Iterator[Finding]:
    """Compare a node's report with what is here."""
    host = report["host"]
    if report["token"] != token:
        yield SHARED.fail(f"{host} read something else there than was written", "a file system without stale caches")
        return
    yield SHARED.good(f"{host} read what was written here, and its answer came back")
    here = (".".join(map(str, sys.version_info[:3])), importlib.metadata.version("torch"))
    there = (report["python"], report["torch"])
    said = f"{host} has Python {there[0]} and torch {there[1] or 'nowhere'}, here {here[0]} and {here[1]}"
    if there[1] is None:
        yield SAME.fail(said, "cluster.modules or cluster.setup that make this environment work on a node")
    elif there[0] != here[0] or there[1].split("+")[0] != here[1].split("+")[0]:
        yield SAME.warn(said, "one environment on a folder that all nodes share")
    else:
        yield SAME.good(said)
    yield judge_gpus(report, config.resources.gpus)
    skew_s = report["now"] - time.time()
    said = f"{host} is {skew_s:+.1f} s off, the time of reading its report included"
    yield NODE_CLOCK.warn(said, "NTP on all nodes") if abs(skew_s) > SKEW_S else NODE_CLOCK.good(said)
    for finding in report["findings"]:
        if finding["state"] != SKIPPED:
            yield Finding(**{**finding, "name": f"{finding['name']} (on {host})"})


def judge_gpus(report: dict[str, Any], asked: int) -> Finding:
    """Compare the GPUs that torch sees in a job with those asked for."""
    if not asked:
        return GPU.skip("resources.gpus=0")
    said = f"asked for {asked}, torch sees {report['n_gpus']} (CUDA_VISIBLE_DEVICES={report['visible']})"
    if report["n_gpus"] >= asked:
        return GPU.good(said)
    return GPU.fail(said, "a torch built for CUDA, a driver that fits it, and resources.gpus as the site counts them")
