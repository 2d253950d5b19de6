"""One call of ``wandb sync``: a process with a limit on its time, whose complaint is kept."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

FOREIGN = ("WANDB_MODE", "WANDB_SERVICE")
"""Variables of a run's environment that would keep an upload from being one."""


def call_wandb_sync(files: Iterable[Path], *, parallel: int, timeout_s: float) -> str:
    """Call ``wandb sync`` and return its complaint; whether a file arrived, its mark says, not an exit status."""
    with tempfile.TemporaryDirectory() as folder, _start(files, parallel, folder) as process:
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            said, _ = process.communicate()
            return f"no end within {timeout_s:g} s; {_find_complaint(said)}".removesuffix("; ")
    return _find_complaint(said) or "W&B gave no reason"


def is_final(complaint: str) -> bool:
    """Say whether asking again can change nothing: there is no key."""
    return "wandb login" in complaint or "Not authenticated" in complaint


@contextlib.contextmanager
def _start(files: Iterable[Path], parallel: int, folder: str) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    process = subprocess.Popen(
        [sys.executable, "-m", "wandb", "sync", "--include-online", "-n", str(parallel)]
        + [str(path.resolve()) for path in files],
        cwd=folder,  # W&B leaves logs of its own where it works
        env={**environment, "WANDB_DIR": folder, "WANDB_SILENT": "false"},
        stdin=subprocess.DEVNULL,  # nobody is asked for a key in the middle of it
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End the command with the process that it started for itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _find_complaint(said: str) -> str:
    lines = [re.sub(r"^wandb:\s*", "", line).strip() for line in said.splitlines()]
    complaints = [line.removeprefix("ERROR ") for line in lines if re.search(r"ERROR|error|[Nn]ot auth|API key", line)]
    return "; ".join(dict.fromkeys(complaints[:3]))
