"""Where runs tables come from: one door for each kind of source, all to the same cells."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from causalmix.errors import TableError, name_some
from causalmix.table.from_wandb.api import is_wandb, read_wandb
from causalmix.table.from_wandb.files import find_wandb_files, merge_files, read_wandb_files
from causalmix.table.from_wandb.page import is_page, read_page
from causalmix.table.from_wandb.rows import WandbRun, gather
from causalmix.table.records import read_records

OFFLINE = "offline:"

ALLOWED = (
    "a sweep folder, a .csv, .parquet or .wandb file, offline:FOLDER (its W&B files) or "
    "wandb:ENTITY/PROJECT?group=SWEEP_ID; several joined by commas"
)


@dataclass(frozen=True)
class Read:
    """What a source held: complete runs, one sentence for each other run, and what was decided on the way."""

    frame: pd.DataFrame
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def split_sources(source: str | Path) -> list[str]:
    """Split sources at commas; a path that exists is one source whatever its name holds.

    Raises
    ------
    TableError
        Files that do not exist, all of them.
    """
    if Path(source).exists():
        return [str(source)]
    parts = [part.strip() for part in str(source).split(",") if part.strip()]
    missing = [part for part in parts if not is_wandb(part) and not Path(part.removeprefix(OFFLINE)).exists()]
    if missing or not parts:
        raise TableError(
            f"runs={source}: no such file or folder: {name_some(missing) or 'nothing given'}. Allowed: {ALLOWED}."
        )
    return parts


def read_source(source: str, *, known: bool = True) -> Read:
    """Read one source.

    Parameters
    ----------
    source : str
        As :func:`split_sources` returns it.
    known : bool
        Of W&B's columns, keep only those that a runs table knows; False for tables whose columns are to be mapped.

    Raises
    ------
    TableError
        A source of no known kind, one that cannot be read, or one without a complete run.
    """
    if is_wandb(source):
        return _gather(source, read_wandb(source), known)
    path = Path(source.removeprefix(OFFLINE))
    files = find_wandb_files(path) if _holds_wandb_files(source, path) else []
    if files or path.suffix == ".wandb":
        return _gather(source, merge_files(read_wandb_files(files or [path])), known)
    if source.startswith(OFFLINE):
        raise TableError(f"{source}: no run-*.wandb anywhere in it; runs leave them where tracker is not disabled.")
    return Read(*read_records(path)) if path.is_dir() else _read_file(path, known)


def _holds_wandb_files(source: str, path: Path) -> bool:
    """Say whether to look for W&B files: in a sweep folder the records go first, unless it is asked for."""
    return path.is_dir() and (source.startswith(OFFLINE) or not (path / "runs").is_dir())


def _gather(source: str, runs: list[WandbRun], known: bool) -> Read:
    frame, problems, notes = gather(runs, known=known)
    if frame.empty:
        reasons = f": {name_some(problems, 5)}" if problems else ""
        raise TableError(f"{source}: not one complete run among {len(runs)}{reasons}.")
    return Read(frame, problems, notes)


def _read_file(path: Path, known: bool) -> Read:
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {".csv": _read_csv, ".parquet": _read_parquet}
    ending = path.suffix.lower()
    if ending not in readers:
        raise TableError(f"{path}: a runs table ends in .csv or .parquet, or is {ALLOWED}.")
    try:
        frame = readers[ending](path)
    except (OSError, ValueError, csv.Error) as error:  # Arrow raises a ValueError for a damaged file
        raise TableError(f"{path}: cannot be read as {ending[1:].upper()} ({error}).{_guess(path, ending)}") from error
    columns = [str(name) for name in frame.columns]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise TableError(f"{path}: columns that stand there twice: {name_some(doubled)}. Keep one of each.")
    return _gather(str(path), read_page(frame), known) if is_page(frame) else _leave_out_unfinished(frame, path)


def _guess(path: Path, ending: str) -> str:
    """Say what a file that cannot be read looks like by its first bytes."""
    try:
        with path.open("rb") as handle:
            start = handle.read(4)
    except OSError:
        return ""
    if ending == ".csv" and start == b"PAR1":
        return " It is a Parquet file: name it .parquet."
    if ending == ".csv" and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return " It is UTF-16, as spreadsheets save 'Unicode text': save it as CSV in UTF-8."
    if ending == ".parquet" and start != b"PAR1" and start.isascii():
        return " It looks like text: name it .csv if it is one."
    return ""


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path)


def _read_csv(path: Path) -> pd.DataFrame:
    # Every cell as the text it is: no 'NA' domain lost, no float rounded, no run_id 007 turned into 7.
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.reader(handle, strict=True)
        header = next(reader, [])
        rows = [(reader.line_num, row) for row in reader if row]
    if not header:
        raise ValueError("it is empty")
    other = [mark for mark in (";", "\t", "|") if header[0].count(mark) > 1]
    if len(header) == 1 and other:
        raise ValueError(f"its columns stand between {other[0]!r}: save it with commas between, and '.' in numbers")
    torn = [f"line {line} ({len(row)})" for line, row in rows if len(row) != len(header)]
    if torn:
        raise ValueError(f"the header has {len(header)} columns, but not {name_some(torn)}")
    return pd.DataFrame([row for _, row in rows], columns=pd.Index(header, dtype=object), dtype=object)


def _leave_out_unfinished(frame: pd.DataFrame, path: Path) -> Read:
    if "status" not in frame.columns or "run_id" not in frame.columns:
        return Read(frame)
    unfinished = (frame["status"].astype(str) != "complete").to_numpy()
    left_out = frame.loc[unfinished, ["run_id", "status"]].astype(str)
    problems = [f"{run_id}: {status or 'no status'}" for run_id, status in left_out.itertuples(index=False)]
    if unfinished.any() and unfinished.all():
        raise TableError(f"{path}: not one complete run among {len(frame)}: {name_some(problems, 5)}.")
    return Read(frame[~unfinished], problems)
