"""The ``.wandb`` files that runs leave on disk, torn tails included, as runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalmix.table.from_wandb.log import read_log
from causalmix.table.from_wandb.rows import WandbRun


@dataclass(frozen=True)
class WandbFile:
    """One ``.wandb`` file: a run, or the part of it that one process saw.

    Attributes
    ----------
    path : Path
    run : WandbRun
        State ``crashed`` where the file has no end: its process was killed, or still works.
    started : float
        When, in seconds since 1970.
    has_end : bool
        Whether its process closed it.
    """

    path: Path
    run: WandbRun
    started: float
    has_end: bool


def find_wandb_files(folder: Path) -> list[Path]:
    """List the W&B files anywhere under a folder; links (``latest-run``) are not followed."""
    return sorted(path for path in folder.rglob("run-*.wandb") if not path.parent.is_symlink())


def read_wandb_files(paths: Iterable[Path]) -> list[WandbFile]:
    """Read W&B files, oldest first; one that was torn before it said which run it is of is left out.

    Raises
    ------
    TableError
        A file that is none of W&B's.
    """
    files = [file for file in map(_read_file, paths) if file is not None]
    return sorted(files, key=lambda file: (file.started, str(file.path)))


def merge_files(files: Iterable[WandbFile]) -> list[WandbRun]:
    """Make runs of files: one that was interrupted and resumed lies in several.

    Parameters
    ----------
    files : iterable of WandbFile
        Oldest first: of values that were written twice the last one counts, and the last file says how it ended.
    """
    runs: dict[str, WandbRun] = {}
    for file in files:
        before = runs.get(file.run.name)
        config, summary = (before.config, before.summary) if before else ({}, {})
        runs[file.run.name] = WandbRun(
            file.run.name, file.run.state, config | file.run.config, summary | file.run.summary
        )
    return list(runs.values())


def _read_file(path: Path) -> WandbFile | None:
    name, started, has_end = None, 0.0, False
    run = WandbRun("", "crashed")
    for record in read_log(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            name = record.run.run_id
            started = started or record.run.start_time.ToNanoseconds() / 1e9
            _update(run.config, record.run.config)
            _update(run.summary, record.run.summary)
        elif kind == "config":
            _update(run.config, record.config)
        elif kind == "summary":
            _update(run.summary, record.summary)
        elif kind == "exit":
            has_end = True
            run.state = "finished" if record.exit.exit_code == 0 else "failed"
    if name is None:
        return None
    run.name = name
    return WandbFile(path, run, started, has_end)


def _update(values: dict[str, Any], record: Any) -> None:
    for item in record.update:
        values[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    for item in record.remove:
        values.pop(item.key or ".".join(item.nested_key), None)
