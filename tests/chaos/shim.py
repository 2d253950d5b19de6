"""A shim between the code and the disk: at the n-th call that changes a file it kills the process, or fails.

It lies under ``os`` and ``io``, so that every write of a worker or a launcher goes through it: open, write, fsync,
link, rename, replace, unlink, mkdir, truncate. To be put on in a process of its own.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILL, HALF, FULL, BROKEN = "kill", "half", "ENOSPC", "EIO"
"""Die before the call; die in the middle of a write; no space from here on; one input/output error."""

CALLS = ("open", "fsync", "link", "unlink", "rename", "replace", "mkdir", "rmdir", "truncate", "ftruncate", "utime")
NO_HARM = ("unlink", "rmdir")  # a full disk lets these through


class Shim:
    """Count calls, and strike at one.

    Parameters
    ----------
    at : int
        Number of the call, from 1.
    how : str
        One of the four above.
    report : Path
        A file beside the sweep, to which the number of calls is written as they come.
    """

    def __init__(self, at: int, how: str, report: Path) -> None:
        self.at, self.how = at, how
        self.n = 0
        self.lock = threading.Lock()
        self.report = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.write = os.write

    def step(self, call: str) -> None:
        """Count a call, and strike where it is the one."""
        with self.lock:
            self.n += 1
            self.write(self.report, f"{call}\n".encode())
            if self.n < self.at:
                return
            if self.how == FULL and call not in NO_HARM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.n > self.at:
                return
            if self.how in (KILL, HALF):
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == BROKEN:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    def is_next(self) -> bool:
        """Tell whether the next call is the one."""
        return self.n + 1 == self.at

    def put_on(self) -> None:
        """Replace the calls of this process."""

        def guard(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def guarded(*arguments: Any, **options: Any) -> Any:
                if name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR):
                    return call(*arguments, **options)
                self.step(name)
                return call(*arguments, **options)

            return guarded

        for name in CALLS:
            setattr(os, name, guard(name, getattr(os, name)))
        io.open = make_open(self)  # type: ignore[assignment]


def make_open(shim: Shim) -> Callable[..., Any]:
    """Make an ``io.open`` whose files tell the shim of each write."""
    true_open = io.open

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            if shim.how == HALF and shim.is_next():
                super().write(memoryview(data)[: len(data) // 2])
            shim.step("write")
            return super().write(data)

        def truncate(self, size: int | None = None) -> int:
            shim.step("truncate")
            return super().truncate(size)

    def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        if not set(mode) & set("wxa+"):
            return true_open(file, mode, buffering, *rest, **options)
        shim.step("open")
        raw = Raw(file, mode.replace("b", "").replace("t", ""))
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        encoding, errors, newline = [*rest, None, None, None][:3]
        encoding = options.get("encoding", encoding) or "utf-8"
        return io.TextIOWrapper(buffered, encoding, options.get("errors", errors), options.get("newline", newline))

    return opened


def run_shimmed(work: Callable[[], Any], at: int, how: str, report: Path) -> tuple[int, list[str]]:
    """Do ``work`` in a forked process under the shim.

    Returns
    -------
    status : int
        As ``os.waitstatus_to_exitcode`` gives it; 70 where an exception came through.
    calls : list of str
        What was called.
    """
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            Shim(at, how, report).put_on()
            status = int(work() or 0)
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException as error:
            print(error, file=sys.stderr)
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), report.read_text().split()
