"""Processes as others can name them: a dead one on the own machine need not be waited for."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

Process = dict[str, Any]


def describe_process() -> Process:
    """Name this process so that no other one, before or after, has the same name."""
    return {"host": platform.node(), "space": read_space(), "pid": os.getpid(), "started": read_start(os.getpid())}


def is_gone(process: Process, own: Process) -> bool:
    """Tell whether a process is certainly dead; of another machine's, or another container's, nobody can say."""
    if not own.get("space") or any(process.get(key) != own[key] for key in ("host", "space")):
        return False
    pid = process.get("pid")
    return isinstance(pid, int) and read_start(pid) != process.get("started")


def read_space() -> str:
    """Identify the boot of this machine and its process namespace; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def read_start(pid: int) -> int | None:
    """Read when a process started, in ticks since the boot; None where there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
