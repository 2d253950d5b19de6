"""Run a program that a model has written, in a process that can do little.

Prevented everywhere: more CPU seconds, memory, bytes a file, open files or wall-clock time than the limits, a single
further process or thread (``RLIMIT_NPROC=0``; root becomes nobody first, whom it binds), gaining privileges, reading
this process's environment through its own, and passing by leaving early. The whole process group is killed at the end.

Prevented where Linux lends namespaces (``unshare``, see :func:`find_isolation`): any network, and seeing or signalling
processes outside; all inside die with the first. Without them sockets are refused by Python alone, which
a program with ctypes can get around, and processes of the same user can be seen: :attr:`Isolation.has_namespaces`.

Not prevented: reading files that the user (as root: nobody) may read, writing where that user may write (``/tmp``),
many small files, and a program that searches its own interpreter for the token of a pass. Where that matters, run
the evaluation in a container.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from causalmix.errors import EvaluateError

CHILD = Path(__file__).with_name("sandbox_child.py")
NAMESPACES = ("--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
NOBODY = 65534
PATH = "/usr/local/bin:/usr/bin:/bin"
VERDICT_BYTES = 4096


@dataclass(frozen=True)
class Limits:
    """What a program may use. CPU seconds do not depend on what else the machine does; wall seconds end sleepers."""

    cpu_s: int = 5
    wall_s: float = 30.0
    memory_mib: int = 1024
    file_mib: int = 16
    n_files: int = 64


@dataclass(frozen=True)
class Isolation:
    """How programs are started: ``prefix`` goes before the interpreter."""

    prefix: tuple[str, ...]

    @property
    def has_namespaces(self) -> bool:
        """Whether the kernel, and not Python alone, keeps the network away."""
        return bool(self.prefix)


@dataclass(frozen=True)
class Verdict:
    """Whether a program ran to its end, and the error where it did not."""

    passed: bool
    detail: str


def run_program(program: str, limits: Limits | None = None, isolation: Isolation | None = None) -> Verdict:
    """Run one Python program in the sandbox.

    Parameters
    ----------
    program : str
        Its tests included: it passes by running to its last line.
    limits : Limits, optional
    isolation : Isolation, optional
        Default: :func:`find_isolation`.

    Returns
    -------
    Verdict
    """
    limits = limits or Limits()
    isolation = isolation or find_isolation()
    token = secrets.token_hex(16)
    order = {**asdict(limits), "token": token, "nobody": NOBODY, "block_sockets": not isolation.has_namespaces}
    with (
        tempfile.TemporaryDirectory(prefix="causalmix-code-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as source,
        tempfile.TemporaryFile() as verdict,
    ):
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        source.write(f"{json.dumps(order)}\n{program}".encode(errors="replace"))
        source.seek(0)
        ending = _run(isolation, folder, source, verdict, limits.wall_s)
        verdict.seek(0)
        return _read_verdict(verdict.read(VERDICT_BYTES), token, ending)


@lru_cache(maxsize=1)
def find_isolation() -> Isolation:
    """Find what this machine allows, and check that a program passes in it and another one fails.

    Raises
    ------
    EvaluateError
        Where no program can be run at all.
    """
    user = () if os.geteuid() == 0 else ("--map-current-user",)
    choices = [Isolation(("unshare", *user, *NAMESPACES, "--")), Isolation(())]
    for isolation in choices:
        good = run_program("import re, math\nassert math.sqrt(4) == 2", isolation=isolation)
        if good.passed and not run_program("assert False", isolation=isolation).passed:
            return isolation
    raise EvaluateError(
        f"The sandbox for code runs no program here ({good.detail}): run where {sys.executable} may start a process "
        "of an ordinary user, or set evaluate.allow_code_execution=false and take the tasks that run code out."
    )


def _run(isolation: Isolation, folder: str, source: IO[bytes], verdict: IO[bytes], wall_s: float) -> str:
    """Start, wait and kill the group; how it ended, in words."""
    environment = {"PATH": PATH, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    try:
        process = subprocess.Popen(
            [*isolation.prefix, sys.executable, "-I", str(CHILD)],
            cwd=folder,
            env=environment | {"OPENBLAS_NUM_THREADS": "1"},
            stdin=source,
            stdout=verdict,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except FileNotFoundError as error:  # no unshare on this machine
        return str(error)
    try:
        code = process.wait(timeout=wall_s)
    except subprocess.TimeoutExpired:
        return f"no end after {wall_s:g} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"ended by {_name_signal(code)}" if code else "ended before its last line"


def _name_signal(code: int) -> str:
    number = -code if code < 0 else code - 128  # unshare hands a signal on as a shell does
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"exit status {code}"


def _read_verdict(written: bytes, token: str, ending: str) -> Verdict:
    try:
        answer = json.loads(written)
    except ValueError:
        return Verdict(False, ending)
    if not isinstance(answer, dict):
        return Verdict(False, ending)
    passed = answer.get("passed") is True and answer.get("token") == token
    return Verdict(passed, "" if passed else str(answer.get("detail", ending)))
