"""A sweep folder's records, and those that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from causalmix.errors import RecordError, TableError, name_some
from causalmix.files import break_seal

RECORD_FORMAT = 1


def read_records(sweep: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read ``<sweep>/runs/<run_id>/record.json`` of every run.

    Parameters
    ----------
    sweep : Path
        A sweep folder.

    Returns
    -------
    frame : DataFrame
        One row a complete run.
    problems : list of str
        One sentence for each run that is left out: no record yet, a half-written one, another version,
        a failure with its cause.

    Raises
    ------
    TableError
        No ``runs`` folder, or not one complete run.
    """
    runs = sweep / "runs"
    if not runs.is_dir():
        raise TableError(
            f"{sweep}: no sweep folder, for it has no folder 'runs'. Give a sweep, a CSV or a Parquet file."
        )
    rows, problems = [], []
    for folder in sorted(path for path in runs.iterdir() if path.is_dir()):
        try:
            rows.append(read_row(folder))
        except RecordError as error:
            problems.append(str(error))
    if not rows:
        reasons = f": {name_some(problems, 5)}" if problems else ""
        raise TableError(f"{sweep}: not one complete run among {len(problems)} folders{reasons}.")
    return pd.DataFrame(rows), problems


def read_row(folder: Path) -> dict[str, Any]:
    """Return one run's columns.

    Raises
    ------
    RecordError
        Where it has none: no record, a damaged one, a run that is not complete; with the reason.
    """
    path = folder / "record.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{folder.name}: no record.json, so the run has not finished") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{folder.name}: record.json is half-written or damaged ({error})") from error
    except OSError as error:
        raise RecordError(f"{folder.name}: record.json cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise RecordError(f"{folder.name}: record.json holds a {type(record).__name__}, not an object")
    record = break_seal(path, record)
    if record.get("format") != RECORD_FORMAT:
        raise RecordError(f"{folder.name}: record.json is of format {record.get('format')!r}, not {RECORD_FORMAT}")
    if record.get("run_id") != folder.name:
        raise RecordError(f"{folder.name}: record.json belongs to run {record.get('run_id')!r}")
    if record.get("status") != "complete":
        raise RecordError(f"{folder.name}: {record.get('status')} ({record.get('cause') or 'no cause given'})")
    row = record.get("row")
    if not isinstance(row, Mapping):
        raise RecordError(f"{folder.name}: record.json says complete but holds no row")
    nested = [name for name, value in row.items() if isinstance(value, (list, dict))]
    if nested:
        raise RecordError(f"{folder.name}: columns that are not single values: {name_some(nested)}")
    if row.get("run_id", folder.name) != folder.name:
        raise RecordError(f"{folder.name}: its row names another run, {row['run_id']!r}")
    return {**row, "run_id": folder.name, "status": "complete"}
