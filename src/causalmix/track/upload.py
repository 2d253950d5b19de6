"""Handing W&B files to ``wandb sync``, a few at a time, with limits on the time and the rate."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from causalmix.track.session import is_uploaded


@dataclass(frozen=True)
class Upload:
    """How to upload.

    Attributes
    ----------
    runs_per_min : float
        Most runs a minute: W&B limits how often it is called, for all of a team together.
    batch : int
        Runs handed over at a time.
    parallel : int
        Of them, uploaded at the same time.
    attempts : int
        Calls for a batch; the time between them doubles from ``wait_s``.
    timeout_s : float
        Longest time for a call.
    """

    runs_per_min: float = 120.0
    batch: int = 16
    parallel: int = 4
    attempts: int = 3
    wait_s: float = 5.0
    timeout_s: float = 120.0


def upload_files(pending: Mapping[str, list[Path]], how: Upload) -> tuple[list[str], dict[str, str]]:
    """Upload the W&B files of runs; W&B's own command does it, and its own mark beside a file says that it is done.

    Parameters
    ----------
    pending : mapping
        Run -> its files, oldest first.
    how : Upload

    Returns
    -------
    uploaded : list of str
        Runs of which every file arrived.
    failed : dict of str to str
        The others, with what W&B said. After a batch of which nothing arrived the rest is not tried.
    """
    from tqdm import tqdm

    uploaded: list[str] = []
    failed: dict[str, str] = {}
    names = list(pending)
    with tqdm(total=len(names), desc="uploading", unit="run", disable=None if names else True) as bar:
        for start in range(0, len(names), how.batch):
            batch, began = names[start : start + how.batch], time.monotonic()
            left, said = _upload_batch({name: pending[name] for name in batch}, how)
            uploaded += [name for name in batch if name not in left]
            failed |= dict.fromkeys(left, said)
            bar.update(len(batch) - len(left))
            rest = names[start + how.batch :]
            if len(left) == len(batch):
                return uploaded, failed | dict.fromkeys(rest, f"not tried, because W&B took none before it ({said})")
            if rest:
                time.sleep(max(0.0, len(batch) * 60 / how.runs_per_min - (time.monotonic() - began)))
    return uploaded, failed


def _upload_batch(batch: Mapping[str, list[Path]], how: Upload) -> tuple[list[str], str]:
    """Return the runs that did not arrive whole, and what W&B said."""
    left, said = list(batch), ""
    for attempt in range(how.attempts):
        if attempt:
            time.sleep(how.wait_s * 2 ** (attempt - 1))
        files = [path for name in left for path in batch[name] if not is_uploaded(path)]
        said = _call_wandb(files, how)
        left = [name for name in left if not all(is_uploaded(path) for path in batch[name])]
        if not left:
            break
    return left, said


def _call_wandb(files: Iterable[Path], how: Upload) -> str:
    """Call ``wandb sync`` and return its complaint; whether a file arrived, its mark says, not an exit status."""
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", "-n", str(how.parallel)]
    environment = {name: value for name, value in os.environ.items() if name not in ("WANDB_MODE", "WANDB_SERVICE")}
    with tempfile.TemporaryDirectory() as folder, _start(command, files, folder, environment) as process:
        try:
            said, _ = process.communicate(timeout=how.timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            said, _ = process.communicate()
            return f"no end within {how.timeout_s:g} s; {_find_complaint(said)}".removesuffix("; ")
    return _find_complaint(said) or "W&B gave no reason"


@contextlib.contextmanager
def _start(
    command: list[str], files: Iterable[Path], folder: str, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*command, *(str(path.resolve()) for path in files)],
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
