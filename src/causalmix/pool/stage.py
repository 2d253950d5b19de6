"""Stages of making a store: each a folder, whole or absent, made once, by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from causalmix.files import NO_LOCKS, NO_SPACE, DiskFullError, read_json, sync, write_json

SUMMARY = "stage.json"
Summary = dict[str, Any]


def run_stage(root: Path, name: str, build: Callable[[Path], Summary]) -> Summary:
    """Make the folder ``root/name`` unless it is there, and return its summary.

    Parameters
    ----------
    root : Path
    name : str
    build : callable
        Fills a temporary folder and returns a summary (plain values), kept beside the files.

    Raises
    ------
    DiskFullError
        Where no space is left; finished stages stay.
    """
    folder = root / name
    if (folder / SUMMARY).is_file():
        return dict(read_json(folder / SUMMARY))
    temporary = name_temporary(root, name)
    temporary.mkdir(parents=True)
    try:
        summary = build(temporary)
        write_json(temporary / SUMMARY, summary)
        for path in temporary.iterdir():
            sync(path)
        temporary.rename(folder)
        sync(root)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFullError(
                f"no space left on the disk while making {folder}; the stages before it are kept. Free some space "
                f"or set pool.store_dir, then run the same command again."
            ) from error
        if (folder / SUMMARY).is_file():  # on a file system without locks another process was quicker
            return dict(read_json(folder / SUMMARY))
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return summary


def name_temporary(root: Path, name: str) -> Path:
    """Name a stage's folder in the making, after this machine too: :func:`lock_folder` says why."""
    return root / f".{name}.{uuid.uuid4().hex}.{platform.node()}.tmp"


@contextlib.contextmanager
def lock_folder(root: Path) -> Iterator[None]:
    """Keep a folder to one process; another waits. The lock ends with the process, however it ends.

    It spares work and cleans up; a stage is right without it. Where the file system has no locks, or locks that hold on
    one machine alone, two processes may do the same stage, and the first to rename its folder wins. So what was left
    lying is removed only where a process of this machine made it, which cannot be at work while we hold the lock.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            yield  # what lies here may be another's work in progress: nothing is cleaned up
            return
        for leftover in root.glob(f".*.{glob.escape(platform.node())}.tmp"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        yield
