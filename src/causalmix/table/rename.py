"""Any table as a runs table: a map from its columns to the schema's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from causalmix.errors import TableError, name_some, nearest_name
from causalmix.table.schema import SUMMARIES

NEGATED = "-"


def parse_map(given: Sequence[str]) -> dict[str, str]:
    """Read ``OLD=NEW`` pairs and YAML files of them.

    Parameters
    ----------
    given : sequence of str
        ``loss=-outcome.avg_dev`` (a minus turns a loss into an outcome, better where higher), or the path of
        a ``.yaml`` file that maps old names to new ones.

    Returns
    -------
    dict of str to str

    Raises
    ------
    TableError
        What is neither, files that cannot be read, a column that is mapped twice.
    """
    pairs: list[tuple[str, str]] = []
    wrong = []
    for text in given:
        if text.endswith((".yaml", ".yml")) and "=" not in text:
            pairs += _read_yaml(Path(text)).items()
            continue
        old, _, new = text.rpartition("=")
        if old and new:
            pairs.append((old, new))
        else:
            wrong.append(text)
    if wrong:
        raise TableError(f"--map {name_some(wrong)}: OLD=NEW or a .yaml file is wanted, e.g. acc=outcome.avg_dev.")
    old_names = [old for old, _ in pairs]
    doubled = sorted({old for old in old_names if old_names.count(old) > 1})
    if doubled:
        raise TableError(f"--map: columns that are mapped twice: {name_some(doubled)}.")
    return dict(pairs)


def rename_columns(frame: pd.DataFrame, columns: Mapping[str, str], source: str = "table") -> pd.DataFrame:
    """Rename columns; a new name with a minus before it negates the numbers.

    Returns
    -------
    DataFrame
        A new frame; columns that are not mapped stay.

    Raises
    ------
    TableError
        Columns that are not there, or new names that would stand there twice; all of them.
    """
    there = [str(name) for name in frame]
    missing = [f"'{old}'{nearest_name(old, there)}" for old in columns if old not in there]
    if missing:
        raise TableError(f"{source}: no column {name_some(missing)} to map; it has {name_some(there, 20)}.")
    renamed = {old: new.removeprefix(NEGATED) for old, new in columns.items()}
    names = [renamed.get(name, name) for name in there]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise TableError(f"{source}: after --map these stand there twice: {name_some(doubled)}. Map one of each away.")
    result = frame.set_axis(pd.Index(names, dtype=object), axis=1)
    for old, new in columns.items():
        if new.startswith(NEGATED):
            result[renamed[old]] = -pd.to_numeric(result[renamed[old]], errors="coerce")
    return result


def fill_in(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Add what follows from the rest: a ``run_id`` a row, and ``outcome.avg_dev``, the mean of the abilities.

    Returns
    -------
    frame : DataFrame
    notes : list of str
        What was added.
    """
    frame, notes = frame.copy(), []
    if "run_id" not in frame:
        frame.insert(0, "run_id", [f"row{i + 1:05d}" for i in range(len(frame))])
        notes.append("no run_id: rows are named row00001, row00002 and so on")
    names = [str(name) for name in frame]
    abilities = [
        name
        for name in names
        if name.startswith("outcome.") and name.count(".") == 1 and name.removeprefix("outcome.") not in SUMMARIES
    ]
    if "outcome.avg_dev" not in names and abilities:
        values = frame[abilities].apply(pd.to_numeric, errors="coerce")
        frame["outcome.avg_dev"] = values.mean(axis=1, skipna=False)
        notes.append(f"outcome.avg_dev is the mean of {name_some(abilities)}")
    return frame, notes


def _read_yaml(path: Path) -> dict[str, str]:
    import yaml

    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TableError(f"--map {path}: cannot be read as YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(content, dict) or not all(isinstance(new, str) for new in content.values()):
        raise TableError(f"--map {path}: a mapping 'old: new' is wanted, one column a line.")
    return {str(old): new for old, new in content.items()}
