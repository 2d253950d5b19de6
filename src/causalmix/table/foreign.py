"""Doors in: runs that other projects wrote, as a runs table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from causalmix.errors import TableError
from causalmix.table.normal import type_columns
from causalmix.table.pairs import read_pair
from causalmix.table.rename import fill_in, parse_map, rename_columns
from causalmix.table.runs import read_unchecked
from causalmix.table.schema import check_schema


def load_foreign(
    source: str, outcomes: Path | None, columns: Sequence[str], *, higher_is_better: bool = False
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Load a table with foreign columns, or a pair of them.

    Parameters
    ----------
    source : str
        A CSV or Parquet file.
    outcomes : Path, optional
        The pair's other half; see :func:`~causalmix.table.pairs.read_pair`.
    columns : sequence of str
        Map of columns, see :func:`~causalmix.table.rename.parse_map`; of a pair, of the columns it became.
    higher_is_better : bool
        Whether the pair's outcomes are scores.

    Returns
    -------
    frame : DataFrame
        It passes the schema's check.
    problems, notes : tuple of str
        Runs left out; what was added.

    Raises
    ------
    TableError
        Anything that is missing or wrong, named.
    """
    if higher_is_better and outcomes is None:
        raise TableError("--higher-is-better belongs to --outcomes; in --map, OLD=-NEW turns a loss round.")
    chosen = parse_map(columns)
    if outcomes is not None:
        frame, problems = read_pair(Path(source), outcomes, higher_is_better=higher_is_better)
        frame = rename_columns(frame, chosen, source)
        notes = [] if higher_is_better else ["outcomes are minus the losses: higher is better"]
    else:
        frame, problems = read_unchecked(source)
        frame, notes = fill_in(rename_columns(frame, chosen, source))
    frame = type_columns(frame)
    check_schema(frame, source, needs_state=False)
    return frame, tuple(problems), tuple(notes)
