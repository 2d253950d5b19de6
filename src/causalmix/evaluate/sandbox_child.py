"""The inside of the sandbox: limits itself, gives up root, runs one program and writes a verdict.

Started as ``python -I sandbox_child.py`` by :mod:`causalmix.evaluate.sandbox`, with a JSON line and then the program
on its standard input, and a file as its standard output. It imports nothing of this package.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import sys
from typing import Any

NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS of Linux
# Imported while still root: an interpreter in root's home cannot be read by nobody. Elsewhere imports are free.
PRELOADED = (
    "array bisect cmath collections.abc copy datetime decimal fractions functools hashlib heapq itertools json math "
    "operator random re statistics string time traceback typing unittest"
)


def main() -> None:
    """Read the order, give up what it says, run the program, answer."""
    order = json.loads(sys.stdin.readline())
    program = sys.stdin.read()
    verdict = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    for name in PRELOADED.split():
        importlib.import_module(name)
    give_up(order)
    scope: dict[str, Any] = {"__name__": "__main__"}
    try:
        exec(compile(program, "program.py", "exec"), scope)
        answer = {"token": order["token"], "passed": True}
    except BaseException as error:  # also SystemExit: a program that leaves has not passed its tests
        answer = {"passed": False, "detail": f"{type(error).__name__}: {error}"[:200]}
    os.write(verdict, json.dumps(answer).encode())
    os._exit(0)  # no exit handlers of the program


def give_up(order: dict[str, Any]) -> None:
    """Set every limit, become nobody where this is root, and close the network where no namespace does."""
    mib = 2**20
    for name, value in (
        ("RLIMIT_CPU", order["cpu_s"]),
        ("RLIMIT_AS", order["memory_mib"] * mib),
        ("RLIMIT_DATA", order["memory_mib"] * mib),
        ("RLIMIT_FSIZE", order["file_mib"] * mib),
        ("RLIMIT_NOFILE", order["n_files"]),
        ("RLIMIT_CORE", 0),
    ):
        resource.setrlimit(getattr(resource, name), (value, value))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(order["nobody"], order["nobody"], order["nobody"])
        os.setresuid(order["nobody"], order["nobody"], order["nobody"])
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no process and no thread more; root it would not bind
    ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if order["block_sockets"]:
        sys.addaudithook(refuse_sockets)


def refuse_sockets(event: str, _: Any) -> None:
    """Raise at whatever Python's socket module is asked for."""
    if event.startswith("socket."):
        raise PermissionError("no network in here")


if __name__ == "__main__":
    main()
