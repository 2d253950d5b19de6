"""Clusters of real slurmctld and slurmd on this machine, and what tests do on them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from causalmix.errors import SweepError
from causalmix.run.record import Record, read_record
from causalmix.sweep import slurm
from tests.tiny import ROOT, TINY, launch

DAEMONS = ("slurmctld", "slurmd", "munged")


@contextlib.contextmanager
def start_cluster(needs: tuple[str, ...] = DAEMONS, **settings: int) -> Iterator[Path]:
    """Start a cluster as ``slurm/up`` does under ``settings``, and end it; skipped where it cannot be started."""
    missing = [name for name in needs if not shutil.which(name)]
    if os.geteuid() or missing:
        pytest.skip(f"not root, or not installed: {', '.join(missing)}; see slurm/install, slurm/up")
    given = os.environ.get("SLURM_CONF")
    folder = Path(tempfile.mkdtemp(prefix="cluster-", dir="/tmp"))  # short: a socket's path has 108 bytes
    environment = {**os.environ, **{f"CLUSTER_{key.upper()}": str(value) for key, value in settings.items()}}
    try:
        started = subprocess.run(
            [ROOT / "slurm/up", folder],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert started.returncode == 0, started.stderr
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        yield folder
    finally:
        subprocess.run([ROOT / "slurm/down", folder], check=False)
        os.environ.pop("SLURM_CONF", None)
        if given:
            os.environ["SLURM_CONF"] = given
        shutil.rmtree(folder, ignore_errors=True)


def clear_queue() -> None:
    """Leave no job behind."""
    ids = {line for line in slurm.ask("squeue", "--noheader", "--format=%A").split() if line}
    if ids:
        for options in (["--signal=KILL", "--full"], []):
            with contextlib.suppress(SweepError):  # one that has ended in between
                slurm.ask("scancel", *options, *ids)
        wait_until(lambda: not slurm.ask("squeue", "--noheader").strip())


def sweep_on(kind: str, outputs: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = [f"cluster={kind}", f"sweep_dir={folder}", f"outputs={outputs}"]
    quick = ["cluster.jitter_s=0", "resources.lease_s=6"]
    ended = launch("-m", *TINY, *where, *quick, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended


def wait_until(condition: Callable[[], Any], timeout_s: float = 200) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"nothing within {timeout_s} s")


def read_only(folder: Path) -> Record | None:
    """Read the record of a sweep's only run."""
    paths = list(folder.glob("runs/*/record.json"))
    return read_record(paths[0].parent) if paths else None


def is_complete(folder: Path) -> Record | None:
    record = read_only(folder)
    return record if record and record.status == "complete" else None


def keep_results(record: Record) -> dict[str, Any]:
    """Keep what settings alone decide."""
    return {
        name: value
        for name, value in record.row.items()
        if name not in ("started_at", "wall_s", "device_s", "git_sha", "sweep_id")
    }


def read_all(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the results of a sweep's runs."""
    records = [read_record(path.parent) for path in folder.glob("runs/*/record.json")]
    return {record.run_id: keep_results(record) for record in records if record}


def trains(folder: Path) -> bool:
    return any(path.stat().st_size for path in folder.glob("runs/*/metrics.jsonl"))


def find_worker(folder: Path) -> int:
    """Find the worker's process: the python that srun started, not srun."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"causalmix.sweep.packed" in words and str(folder).encode() in words and b"srun" not in words[0]:
            return int(path.parent.name)
    raise AssertionError("no worker")
