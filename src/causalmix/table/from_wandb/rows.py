"""Rows of the runs table out of what W&B holds of a run: its config, its summary and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from causalmix.table.schema import is_column


@dataclass
class WandbRun:
    """One run, as W&B holds it.

    Attributes
    ----------
    name : str
        W&B's id of the run: its ``run_id``, where the config holds none.
    state : str
        W&B's word for how the run stands: finished, failed, crashed, running ...
    config, summary : dict
        Values as they were logged.
    """

    name: str
    state: str
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    def to_row(self, *, known: bool = True) -> dict[str, Any]:
        """Return the run's row: ``run_id``, ``status``, and all columns or those alone that the runs table knows."""
        values = dict(flatten(self.config)) | dict(flatten(self.summary))
        row = {name: value for name, value in values.items() if value is not None and (is_column(name) or not known)}
        row.setdefault("run_id", self.name)
        row.setdefault("status", "complete" if self.state == "finished" else self.state)
        return row


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and single values; W&B's own keys (``_step``, ``_wandb``) are left out."""
    for key, value in values.items():
        if not prefix and key.startswith("_"):
            continue
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def gather(runs: Iterable[WandbRun], *, known: bool = True) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Make a table of runs, each ``run_id`` once.

    Parameters
    ----------
    runs : iterable of WandbRun
        Oldest first: of two complete runs with one ``run_id`` the later one stays.
    known : bool
        Keep only the columns that the runs table knows.

    Returns
    -------
    frame : DataFrame
        One row a complete run.
    problems : list of str
        Runs that are not complete.
    notes : list of str
        Runs that stood there several times with different measurements.
    """
    complete: dict[str, dict[str, Any]] = {}
    unfinished: dict[str, str] = {}
    differing: dict[str, int] = {}
    for run in runs:
        row = run.to_row(known=known)
        run_id = str(row["run_id"])
        cause = row.pop("cause", None)
        if row["status"] != "complete":
            unfinished[run_id] = f"{run_id}: {row['status']}" + (f" ({cause})" if cause else "")
            continue
        before = complete.get(run_id)
        if before is not None and any(before.get(name) != value for name, value in row.items() if _is_result(name)):
            differing[run_id] = differing.get(run_id, 1) + 1
        complete[run_id] = row
    problems = [text for run_id, text in sorted(unfinished.items()) if run_id not in complete]
    notes = [
        f"{run_id}: {n} complete runs of W&B have this run_id and differ; the newest is taken"
        for run_id, n in sorted(differing.items())
    ]
    return pd.DataFrame(complete.values()), problems, notes


def _is_result(column: str) -> bool:
    return column.startswith(("outcome.", "mixture.", "state."))
