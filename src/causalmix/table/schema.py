"""The runs table's columns and the one check that reading and writing share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from causalmix.errors import TableError, name_some

# Beside the families below a table may have negative controls, ``control.<name>``: what was measured of a run
# before its training and so cannot be an effect of its mixture (for example ``control.avg_dev``, the score of the
# model that the run started from). They are optional, and runs without a value are left out of that check alone.

# Families whose columns are numbers and, in a complete run, never missing.
MEASURED = ("mixture.", "realised.", "state.", "outcome.", "unseen.", "accuracy.")
SUMMARIES = ("avg_dev", "avg_unseen")  # outcome.<one of these> is a mean over abilities, not an ability

# Shares are often rounded where they are written (public tables sum to .996-1.003): such rows are
# divided by their sum on reading and noted; a larger gap is a wrong row.
SUM_TOLERANCE = 5e-3
SUM_NOTED = 1e-6

_TEXT_NAMES = ("run_id", "sweep_id", "cohort", "status", "cause", "git_sha", "started_at")
_TEXT_ENDINGS = (".name", "fingerprint", ".revision", ".kind", ".path", "_id", "_sha", "_at")


_DOTTED = re.compile(r"[a-z]\w*\.[^/]+")
_REAL = ("design.", "control.", "shift.", "train.loss_", "wall_s", "device_s")
_NUMBERS = ("seed", "replicate", "wall_s", "device_s")


def is_column(name: str) -> bool:
    """Say whether a name can be of the runs table: W&B keeps other things beside a run's row.

    Its own begin with a capital or an underscore, metrics of a training hold a slash. Families are not listed
    here: one that is added to the record must not get lost on its way through W&B.
    """
    return _DOTTED.fullmatch(name) is not None or name in (*_TEXT_NAMES, *_NUMBERS)


def is_text(column: str) -> bool:
    """Say whether a column holds text even where every cell looks like a number."""
    return column in _TEXT_NAMES or column.endswith(_TEXT_ENDINGS)


def is_real(column: str) -> bool:
    """Say whether a column's numbers are real: 40.0 stays so where W&B, or JavaScript, writes it as 40."""
    return is_measured(column) or column.startswith(_REAL)


def is_measured(column: str) -> bool:
    """Say whether a column must be a finite number in every row."""
    return column.startswith(MEASURED)


def list_domains(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the domains of ``mixture.<domain>``, sorted."""
    return tuple(sorted(name.removeprefix("mixture.") for name in columns if name.startswith("mixture.")))


def list_features(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the features of ``state.<feature>`` and ``state.<feature>.<domain>``, sorted."""
    return tuple(sorted({name.split(".")[1] for name in columns if name.startswith("state.")}))


def list_abilities(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the abilities of ``outcome.<ability>`` and ``outcome.<ability>.<task>``, sorted."""
    found = {name.split(".")[1] for name in columns if name.startswith("outcome.")}
    return tuple(sorted(found - set(SUMMARIES)))


def check_schema(frame: pd.DataFrame, source: str = "runs table", *, needs_state: bool = True) -> None:
    """Refuse a table that an analysis could misread; every fault and every bad row is named at once.

    Parameters
    ----------
    frame : DataFrame
        One row a run, columns as the runs table names them.
    source : str
        What to call the table in the message.
    needs_state : bool
        Whether at least one ``state.*`` column is required.

    Raises
    ------
    TableError
        Missing or doubled columns; no rows; missing or duplicate ``run_id``; text, NaN or infinity in a
        mixture, state or outcome; a share outside 0 to 1; shares more than 5e-3 away from a sum of one.
    """
    columns = [str(name) for name in frame.columns]
    faults = _find_column_faults(columns, needs_state)
    if not len(frame):
        faults.append("it has no rows")
    if "run_id" in columns and columns.count("run_id") == 1:
        faults += _find_id_faults(frame["run_id"])
    unique = [name for name in columns if columns.count(name) == 1]
    names = frame["run_id"].astype(str).tolist() if "run_id" in unique else list(range(len(frame)))
    labels = [f"row {i + 1}" if name in ("", "nan", "None", "<NA>") else str(name) for i, name in enumerate(names)]
    for column in filter(is_measured, unique):
        faults += _find_value_faults(frame[column], column, labels)
    if not faults:
        faults += _find_sum_faults(frame, columns, labels)
    if faults:
        raise TableError(
            f"{source}: " + "; ".join(faults) + ". Mend or remove the named rows and columns "
            "(`causalmix table SWEEP` writes a table that passes)."
        )


def sum_mixture(frame: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the sum of the target shares of each row, (n,)."""
    columns = sorted(name for name in frame.columns if name.startswith("mixture."))
    total: np.ndarray[tuple[int], np.dtype[np.float64]] = frame[columns].to_numpy(dtype=np.float64).sum(axis=1)
    return total


def _find_column_faults(columns: list[str], needs_state: bool) -> list[str]:
    faults = []
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        faults.append(f"columns that stand there twice: {name_some(doubled)}")
    missing = [name for name in ("run_id", "outcome.avg_dev") if name not in columns]
    if not any(name.startswith("mixture.") and name != "mixture." for name in columns):
        missing.append("mixture.<domain>")
    if needs_state and not any(name.startswith("state.") for name in columns):
        missing.append("state.<feature>")
    if missing:
        faults.append(f"missing columns: {name_some(missing)} (it has {name_some(columns, 20)})")
    return faults


def _find_id_faults(ids: pd.Series) -> list[str]:
    faults = []
    text = ids.astype(str)
    absent = (ids.isna() | (text == "")).to_numpy()
    if absent.any():
        faults.append(f"rows without a run_id: {name_some(int(i) + 1 for i in np.flatnonzero(absent))}")
    doubled = sorted(set(text[~absent & text.duplicated().to_numpy()]))
    if doubled:
        faults.append(f"duplicate run_id: {name_some(doubled)}")
    return faults


def _find_value_faults(values: pd.Series, column: str, labels: list[str]) -> list[str]:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    faults = []
    is_share = column.startswith(("mixture.", "realised."))
    tests: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
        ("no finite number (missing, text, NaN or infinity)", lambda x: ~np.isfinite(x)),
        ("a share outside 0 to 1", lambda x: is_share & np.isfinite(x) & ((x < 0) | (x > 1 + SUM_TOLERANCE))),
    ]
    for what, test in tests:
        bad = np.flatnonzero(test(numbers))
        if len(bad):
            faults.append(f"{column} is {what} in " + name_some(f"{labels[i]} ({values.iloc[i]})" for i in bad))
    return faults


def _find_sum_faults(frame: pd.DataFrame, columns: list[str], labels: list[str]) -> list[str]:
    totals = sum_mixture(frame)
    bad = np.flatnonzero(np.abs(totals - 1.0) > SUM_TOLERANCE)
    if not len(bad):
        return []
    named = name_some(f"{labels[i]} ({totals[i]:.6g})" for i in bad)
    return [f"mixture.* sums to one, to within {SUM_TOLERANCE:g}, but not in {named}"]
