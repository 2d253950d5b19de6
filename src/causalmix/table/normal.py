"""The normal form of a table: one type a column, rows in the order of run_id, a fingerprint."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pandas as pd

from causalmix.table.schema import is_measured, is_real, is_text


def type_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Give every column one type and sort the columns by name.

    Columns of text stay text, a column whose filled cells are all numbers becomes int64 or float64, cells
    left empty are missing; a column that is empty throughout goes, unless it is a measured one. A measured
    column (mixture, state, outcome ...) with a cell that is no number is left as it is, for
    :func:`~causalmix.table.schema.check_schema` to name.

    Returns
    -------
    DataFrame
        A new frame, rows in the order given.
    """
    names = sorted(frame.columns)
    columns = {str(name): _normalise_column(frame[name], str(name)) for name in names}
    kept = [name for name, values in columns.items() if is_measured(name) or name == "run_id" or values.notna().any()]
    return pd.DataFrame({name: columns[name] for name in kept})


def normalise_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Type the columns and sort the rows by ``run_id``: the same runs give the same frame, from any file."""
    return type_columns(frame).sort_values("run_id", kind="stable").reset_index(drop=True)


def fingerprint_frame(frame: pd.DataFrame) -> str:
    """Hash what a table says, whatever the order of its rows and columns and the file it was read from.

    Parameters
    ----------
    frame : DataFrame
        In normal form.

    Returns
    -------
    str
        16 hexadecimal digits of SHA-256 over every filled cell; floats to their last bit.
    """
    rows = []
    for record in frame.to_dict(orient="records"):
        cells = (f"{name}={_spell(value)}" for name, value in sorted(record.items()) if not is_missing(value))
        rows.append("\x1f".join(cells))
    return hashlib.sha256("\x1e".join(sorted(rows)).encode()).hexdigest()[:16]


def _normalise_column(values: pd.Series, name: str) -> pd.Series:
    cells = [None if is_missing(value) else value for value in values.tolist()]
    if not is_text(name):
        numbers = [_parse_number(cell) for cell in cells]
        # NaN that was spelled out in a measured column must not turn into an innocent empty cell.
        if all((number is None) == (cell is None) for number, cell in zip(numbers, cells)):
            filled = [number for number in numbers if number is not None]
            is_whole = all(isinstance(number, int) for number in filled) and not is_real(name)
            if filled and len(filled) == len(cells) and is_whole:
                return pd.Series(filled, dtype=np.int64) if _fit_int64(filled) else pd.Series(filled, dtype=object)
            if filled or is_measured(name):
                spelled = [math.nan if number is None else float(number) for number in numbers]
                return pd.Series(spelled, dtype=np.float64)
    return pd.Series([None if cell is None else str(cell) for cell in cells], dtype=object)


def _parse_number(cell: object) -> int | float | None:
    if cell is None or isinstance(cell, (bool, np.bool_)):
        return None
    if isinstance(cell, (int, np.integer)):
        return int(cell)
    if isinstance(cell, (float, np.floating)):
        return float(cell)
    text = str(cell).strip()
    if "_" in text:  # Python reads 1_000 as a number; no table means it
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _fit_int64(numbers: list[int | float]) -> bool:
    return all(-(2**63) <= number < 2**63 for number in numbers)


def is_missing(value: object) -> bool:
    """Say whether a cell is empty, however its table spells that."""
    return value is None or value is pd.NA or value == "" or (isinstance(value, float) and math.isnan(value))


def _spell(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    return str(value)
