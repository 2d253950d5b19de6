"""One launch of a sweep at a time. Runs do not rely on it: they are claimed one by one, whoever launched them.

On this machine a lock of the system's (``flock``) on the sweep's folder, which workers inherit. Where launches may come
from several machines, or the file system has no locks, a claim with a heartbeat, as runs have one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from causalmix.errors import SweepError
from causalmix.files import NO_LOCKS
from causalmix.sweep.claims import Claim, Claims
from causalmix.sweep.folder import SweepFolder
from causalmix.sweep.heart import Heart

LAUNCH = "launch"  # the claim of who launches; no run has this id
LAUNCH_LEASE_S = 30.0


@contextlib.contextmanager
def hold_lock(folder: SweepFolder, wait_s: float = 10.0) -> Iterator[int]:
    """Hold the sweep for one launcher; workers inherit the lock, so orphans of a killed one still count.

    Yields
    ------
    int
        File descriptor to pass on to workers.

    Raises
    ------
    SweepError
        Where another launch holds the sweep, naming its process.
    """
    path = folder.path / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + wait_s
    try:
        while (is_locked := try_lock(descriptor)) is False:
            if time.monotonic() > deadline:
                holder = path.read_text(encoding="utf-8").strip() or "unknown"
                raise SweepError(
                    f"another launch (process {holder}) works on the sweep {folder.path}. "
                    f"Wait for it, stop it, or use another sweep_dir."
                )
            time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        with contextlib.nullcontext() if is_locked else hold_launch(folder):
            yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Try to lock a file; False where another process holds it, None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


@contextlib.contextmanager
def hold_launch(folder: SweepFolder) -> Iterator[None]:
    """Hold the claim of who launches, beating for it.

    Raises
    ------
    SweepError
    """
    claim = take_launch(folder)
    try:
        with Heart(claim, LAUNCH_LEASE_S):
            yield
    finally:
        claim.end("submitted")


def take_launch(folder: SweepFolder) -> Claim:
    """Claim the right to launch; a launch that died holds it no longer than its lease.

    Raises
    ------
    SweepError
        Where another launch of this sweep is at work, naming where.
    """
    claims = Claims(folder.path / "claims", lease_s=LAUNCH_LEASE_S)
    while (claim := claims.take(LAUNCH)) is None:
        if claims.is_seen_alive(LAUNCH):
            holder = claims.history(LAUNCH)[-1]
            raise SweepError(
                f"another launch (on {holder['host']}, since {holder['started_at']}) works on the sweep {folder.path}; "
                f"wait for it, or use another sweep_dir"
            )
        time.sleep(0.5)
    return claim
