"""Reading the runs to compare: one row a run, with the arm that chose its mixture and the seed it is paired on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalmix.config import CompareConfig
from causalmix.errors import AnalysisError, name_some, nearest_name
from causalmix.mixture.file import read_answer
from causalmix.table.paired import find_groups
from causalmix.table.runs import RunsTable, load_runs, read_unchecked

SPLIT_KINDS = ("fixed", "policy")  # one name, many mixtures
SAME = 1e-6  # shares this close are one mixture: files round
STUDY = ("arm", "target", "size", "seed", "outcome", "unseen")  # columns of a study's confirmation.csv


@dataclass(frozen=True)
class Arms:
    """Runs to compare.

    Attributes
    ----------
    frame : DataFrame
        ``arm``, ``seed``, ``outcome``, ``unseen`` (may be missing) and the columns of ``by``; one row a run.
    by : tuple of str
        Columns whose values are compared apart.
    mixtures : dict of str to dict of str to float
        Mean mixture of each arm over its runs; empty where the source has none.
    notes : tuple of str
        What was left out or inferred.
    """

    frame: pd.DataFrame
    by: tuple[str, ...]
    mixtures: dict[str, dict[str, float]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Named:
    """Every run's arm, and whether the user named it by its mixture."""

    labels: pd.Series[str]
    by_user: pd.Series[bool]


def read_arms(cfg: CompareConfig) -> Arms:
    """Read runs and say which arm each belongs to.

    Raises
    ------
    AnalysisError
        No run of the cohort, no such column, two runs of an arm on one seed, an unknown reference; every
        offender and what is there.
    TableError
        A table that cannot be read.
    """
    arms = _read_study(cfg) or _read_table(cfg)
    found = list(dict.fromkeys(arms.frame["arm"]))
    if cfg.reference not in found:
        raise AnalysisError(
            f"reference={cfg.reference}: no such arm{nearest_name(cfg.reference, found)}; the runs have "
            f"{name_some(found, 20)}."
        )
    _check_values(arms.frame)
    return arms


def _read_study(cfg: CompareConfig) -> Arms | None:
    """Read a study's confirmation.csv, which names its arms; None where the source is no such file."""
    path = Path(cfg.runs)
    path = path / "confirmation.csv" if (path / "confirmation.csv").is_file() else path
    if path.suffix != ".csv" or not path.is_file():
        return None
    frame, _ = read_unchecked(path)
    if not set(STUDY) <= set(map(str, frame.columns)):
        return None
    for name in ("size", "seed", "outcome", "unseen"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    # "causalmix_a for pool_b", trained on pool_a, is an arm of its own there.
    arms = [str(arm).removesuffix(f" for {target}") for arm, target in zip(frame["arm"], frame["target"])]
    return Arms(frame[list(STUDY)].assign(arm=arms), ("target", "size"), {})


def _read_table(cfg: CompareConfig) -> Arms:
    if not cfg.runs:
        raise AnalysisError("runs=... is missing: a sweep folder, a runs table, or a study's folder.")
    table = load_runs(cfg.runs, needs_state=False)
    notes = [f"left out: {problem}" for problem in table.problems]
    runs = _select_cohort(table.frame, cfg.cohort)
    asked = [cfg.unseen] if cfg.unseen != CompareConfig.unseen else []  # the default's column may be missing
    missing = [name for name in (cfg.arm, cfg.outcome, "seed", *asked, *(cfg.by or [])) if name not in runs]
    if missing:
        named = name_some(f"{name}{nearest_name(name, [str(column) for column in runs])}" for name in missing)
        raise AnalysisError(f"the runs table {cfg.runs} has no column {named}.")
    weights = runs[[f"mixture.{name}" for name in table.domains]].to_numpy(dtype=np.float64)
    arms = _name_arms(runs, weights, table, cfg)
    by = tuple(cfg.by) if cfg.by is not None else find_groups(runs, arms.labels)
    labels = _number_arms(runs, weights, arms, by)
    frame = pd.DataFrame({"arm": labels, "seed": runs["seed"], "outcome": runs[cfg.outcome]})
    if cfg.unseen in runs:
        frame["unseen"] = runs[cfg.unseen]
    else:
        notes.append(f"no run has {cfg.unseen}: the unseen split is left out")
    for name in by:
        frame[name] = runs[name]
    frame, more = _drop_twins(frame)
    notes += more
    if "replicate" in runs:
        frame, more = _average_replicates(frame, runs["replicate"].loc[frame.index], by)
        notes += more
    frame = frame.sort_values([*by, "arm", "seed"], key=_order, kind="stable")  # a table's own order is that of hashes
    mixtures = {
        str(arm): dict(zip(table.domains, weights[(labels == arm).to_numpy()].mean(axis=0).tolist()))
        for arm in sorted(set(labels), key=_split_numbers)
    }
    return Arms(frame, by, mixtures, tuple(notes))


def _order(values: pd.Series[Any]) -> pd.Series[Any]:
    """Keys to sort a column by: "fixed 2" before "fixed 10"."""
    ranks = {name: at for at, name in enumerate(sorted(set(values.astype(str)), key=_split_numbers))}
    return values.astype(str).map(ranks)


def _split_numbers(name: object) -> list[tuple[int, float, str]]:
    parts = re.split(r"(\d+)", str(name))
    return [(0, float(part), "") if part.isdigit() else (1, 0.0, part) for part in parts]


def _select_cohort(frame: pd.DataFrame, cohort: str) -> pd.DataFrame:
    if "cohort" not in frame:
        return frame.reset_index(drop=True)
    cohorts = frame["cohort"].astype(str)
    chosen = frame[(cohorts == cohort).to_numpy()].reset_index(drop=True)
    if not len(chosen):
        counted = ", ".join(f"{name} ({n})" for name, n in cohorts.value_counts().items())
        raise AnalysisError(
            f"cohort={cohort}: no such run{nearest_name(cohort, set(cohorts))}; the table has {counted}. Train targets "
            "with cohort=confirmation, or name the cohort to compare."
        )
    return chosen


def _name_arms(
    runs: pd.DataFrame, weights: np.ndarray[tuple[int, int], np.dtype[np.float64]], table: RunsTable, cfg: CompareConfig
) -> _Named:
    """Name every run's arm: by a mixture the user named, else by its column."""
    labels = runs[cfg.arm].astype(str)
    named = _read_named(cfg.mixtures, table.domains)
    taken = pd.Series(False, index=runs.index)
    unused = []
    for name, choices in named.items():
        # The policy's own answer where it was trained, else the weights: the reference's if advice was withheld.
        matches = [np.abs(weights - choice).max(axis=1) < SAME for choice in choices]
        close = next((match for match in matches if match.any()), None)
        if close is None:
            unused.append(name)
            continue
        if (taken & close).any():
            twin = labels[(taken & close).to_numpy()].iloc[0]
            raise AnalysisError(f"mixtures.{name} and mixtures.{twin} are one mixture: name it once.")
        labels = labels.mask(close, name)
        taken |= close
    if unused:
        raise AnalysisError(
            f"mixtures: no run was trained on {name_some(unused)}. Shares are compared to {SAME:g}; where advice was "
            "withheld, runs have the reference unless they were submitted with mixture.use_candidate=true."
        )
    return _Named(labels, taken)


def _number_arms(
    runs: pd.DataFrame, weights: np.ndarray[tuple[int, int], np.dtype[np.float64]], named: _Named, by: tuple[str, ...]
) -> pd.Series[str]:
    """Number the mixtures of one name, where a comparison holds several: one a pool or a size is one arm."""
    labels = named.labels.copy()
    kinds = runs["design.kind"].astype(str) if "design.kind" in runs else pd.Series("fixed", index=runs.index)
    open_ = ~named.by_user & kinds.isin(SPLIT_KINDS)
    for label in dict.fromkeys(labels[open_]):
        members: list[int] = np.flatnonzero(open_ & (labels == label)).tolist()
        numbers = _group_mixtures(weights, members)
        within = runs.iloc[members][list(by)].assign(mixture=numbers)
        shared = within.groupby(list(by), dropna=False)["mixture"] if by else within.groupby(lambda _: 0)["mixture"]
        if int(shared.nunique().max()) > 1:
            for at, number in zip(members, numbers):
                labels.iloc[at] = f"{label} {number}"
    return labels


def _group_mixtures(weights: np.ndarray[tuple[int, int], np.dtype[np.float64]], members: list[int]) -> list[int]:
    """Number each member's mixture from 1, in the order of their shares; equal ones have one number."""
    numbers: dict[int, int] = {}
    number = 0
    first: int | None = None
    for at in sorted(members, key=lambda i: (*weights[i].tolist(), i)):
        if first is None or not np.abs(weights[first] - weights[at]).max() < SAME:
            number, first = number + 1, at
        numbers[at] = number
    return [numbers[at] for at in members]


def _read_named(
    given: object, domains: tuple[str, ...]
) -> dict[str, list[np.ndarray[tuple[int], np.dtype[np.float64]]]]:
    """Read {name: mixture.json}: its candidate and its weights, for either may have been trained."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise AnalysisError(f"mixtures={given!r}: a mapping {{name: mixture.json}} is wanted.")
    named = {}
    for name, path in given.items():
        content = read_answer(str(path))
        shares = [content[key] for key in ("candidate", "weights") if isinstance(content.get(key), Mapping)]
        wrong = sorted({domain for share in shares for domain in set(share) ^ set(domains)})
        if wrong or not shares:
            raise AnalysisError(f"mixtures.{name}={path}: its domains differ from the runs' in {name_some(wrong)}.")
        named[str(name)] = [np.array([share[domain] for domain in domains], dtype=np.float64) for share in shares]
    return named


def _drop_twins(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Count runs once that agree in arm, seed, group and every outcome to the last bit: one training, done again."""
    twins = frame.duplicated()
    n = int(twins.sum())
    notes = [f"{n} runs repeat another one to the last bit and count once with it"] if n else []
    return frame[~twins], notes


def _average_replicates(
    frame: pd.DataFrame, replicates: pd.Series[int], by: tuple[str, ...]
) -> tuple[pd.DataFrame, list[str]]:
    keys = ["arm", *by, "seed"]
    doubled = frame.assign(replicate=replicates).duplicated([*keys, "replicate"])
    if doubled.any() or not frame.duplicated(keys).any():
        return frame, []  # doubled runs are named when values are checked
    averaged = frame.groupby(keys, sort=False, as_index=False, dropna=False).mean()
    return averaged, ["replicates of a seed count as one run, their mean: they share its draws"]


def _check_values(frame: pd.DataFrame) -> None:
    faults = []
    keys = [name for name in frame if name not in ("outcome", "unseen")]
    doubled = frame[frame.duplicated(keys)]
    if len(doubled):
        named = name_some(sorted({f"{row.arm}, seed {row.seed}" for row in doubled.itertuples()}))
        faults.append(f"more than one run of {named}: say with by=[COLUMN] what differs, or with arm=COLUMN")
    for column in (name for name in ("outcome", "unseen") if name in frame):
        bad = frame[~np.isfinite(pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64))]
        if len(bad):
            faults.append(
                f"{column} is no finite number for {name_some(f'{r.arm}, seed {r.seed}' for r in bad.itertuples())}"
            )
    if faults:
        raise AnalysisError("; ".join(faults) + ".")
