"""The runs table: loaded from any source or several of them joined, checked, and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmix.errors import TableError, name_some
from causalmix.files import DiskFullError, write_atomically
from causalmix.table.normal import fingerprint_frame, normalise_frame, type_columns
from causalmix.table.schema import (
    SUM_NOTED,
    check_schema,
    is_measured,
    list_abilities,
    list_domains,
    list_features,
    sum_mixture,
)
from causalmix.table.sources import read_source, split_sources


@dataclass(frozen=True)
class RunsTable:
    """A checked runs table.

    Attributes
    ----------
    frame : DataFrame
        One row a complete run, sorted by ``run_id``; every mixture sums to one.
    domains, features, abilities : tuple of str
        What the columns speak of, sorted.
    fingerprint : str
        Hash of the content, free of the order of rows and columns.
    problems : tuple of str
        Runs that were left out, each with the reason.
    notes : tuple of str
        What was changed on reading.
    """

    frame: pd.DataFrame
    domains: tuple[str, ...]
    features: tuple[str, ...]
    abilities: tuple[str, ...]
    fingerprint: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> NDArray[np.float64]:
        """Target mixtures (n, K), domains in the order of ``domains``."""
        return self.frame[[f"mixture.{name}" for name in self.domains]].to_numpy(dtype=np.float64)


def load_runs(source: str | Path, *, needs_state: bool = True) -> RunsTable:
    """Load and check a runs table.

    Parameters
    ----------
    source : str or Path
        A sweep folder, a ``.csv`` (also one saved from W&B's page), a ``.parquet`` or ``.wandb`` file,
        ``offline:FOLDER`` (the W&B files in it), ``wandb:entity/project?group=SWEEP_ID``; several joined by commas.
    needs_state : bool
        Whether ``state.*`` columns are required.

    Returns
    -------
    RunsTable

    Raises
    ------
    TableError
        Nothing to read, or a table that :func:`~causalmix.table.schema.check_schema` refuses.
    """
    parts, problems, noted = [], [], []
    for name in split_sources(source):
        read = read_source(name)
        frame = type_columns(read.frame)
        check_schema(frame, name, needs_state=needs_state)
        parts.append((name, frame))
        problems += read.problems
        noted += read.notes
    frame = normalise_frame(_join(parts))
    check_schema(frame, str(source), needs_state=needs_state)  # now for a run that stands in two sources
    fingerprint = fingerprint_frame(frame)
    frame, notes = _renormalise(frame)
    columns = list(frame.columns)
    return RunsTable(
        frame,
        list_domains(columns),
        list_features(columns),
        list_abilities(columns),
        fingerprint,
        tuple(problems),
        (*noted, *notes),
    )


def read_unchecked(source: str | Path) -> tuple[pd.DataFrame, list[str]]:
    """Read a table whose columns may have any name, cells as they stand in the file.

    Returns
    -------
    frame : DataFrame
    problems : list of str
        Runs left out because their status is not complete.

    Raises
    ------
    TableError
        No such file, or none that can be read.
    """
    read = read_source(split_sources(source)[0], known=False)
    return read.frame, read.problems


def write_table(frame: pd.DataFrame, path: str | Path, *, needs_state: bool = True) -> Path:
    """Write a runs table as CSV or Parquet, checked first, whole or not at all.

    Floats are written with as many digits as reading them back to the last bit takes.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    TableError
        A table that does not pass the check, another ending, or a disk that refuses (full, no permission).
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise TableError(f"{path}: a runs table is written as .csv or .parquet, not '{path.suffix}'.")
    check_schema(frame, str(path), needs_state=needs_state)
    normal = normalise_frame(frame)

    def write(temporary: Path) -> None:
        if path.suffix == ".csv":
            normal.to_csv(temporary, index=False)
        else:
            normal.to_parquet(temporary, index=False)

    try:
        write_atomically(path, write)
    except DiskFullError as error:
        raise TableError(str(error)) from error
    except OSError as error:
        raise TableError(f"{path}: cannot be written ({error}). Free some space or give another path.") from error
    return path


def _join(parts: list[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Stack tables that measure the same things; other columns may be missing in some."""
    first_name, first = parts[0]
    measured = {name for name in first.columns if is_measured(name)}
    faults = []
    for name, frame in parts[1:]:
        difference = measured ^ {column for column in frame.columns if is_measured(column)}
        if difference:
            faults.append(f"{first_name} and {name} differ in {name_some(sorted(difference))}")
    if faults:
        raise TableError(f"tables that do not measure the same things cannot be joined: {'; '.join(faults)}.")
    return pd.concat([frame.astype(object) for _, frame in parts], ignore_index=True)


def _renormalise(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    totals = sum_mixture(frame)
    rounded = np.abs(totals - 1.0) > SUM_NOTED
    if not rounded.any():
        return frame, []
    columns = [name for name in frame.columns if name.startswith("mixture.")]
    frame = frame.astype(dict.fromkeys(columns, np.float64))
    frame.loc[rounded, columns] = frame.loc[rounded, columns].div(totals[rounded], axis=0)
    largest = float(np.abs(totals - 1.0).max())
    return frame, [f"{int(rounded.sum())} mixtures divided by their sum, at most {largest:.2g} away from one"]
