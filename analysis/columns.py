"""Reading the columns of a runs table as checked arrays; every offending run or column is named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.mappings import is_number, read_mapping
from causalmix.config import EstimatorConfig, OutcomeConfig
from causalmix.errors import AnalysisError, name_some, nearest_name

Floats = NDArray[np.float64]

SHARE_TOLERANCE = 1e-6  # how far a run's shares may sum from one
_VARIES = 1e-10  # relative spread below which a column is a constant


def read_numbers(frame: pd.DataFrame, columns: Sequence[str], run_ids: Sequence[str], what: str) -> Floats:
    """Read columns as finite numbers (n, len(columns)), naming every run and column that is not."""
    values = np.empty((len(frame), len(columns)))
    for j, column in enumerate(columns):
        values[:, j] = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        columns_bad = [columns[int(j)] for j in np.flatnonzero(bad.any(axis=0))]
        runs_bad = [run_ids[int(i)] for i in np.flatnonzero(bad.any(axis=1))]
        raise AnalysisError(
            f"{what}: {name_some(columns_bad)} must be a finite number in every run, and is NaN, infinite or "
            f"no number in {len(runs_bad)} of {len(frame)} runs: {name_some(runs_bad)}. A missing value is "
            "never filled in: complete these runs, or take them out of the table."
        )
    return values


def list_states(frame: pd.DataFrame) -> list[str]:
    """Return every state that a table knows: ``hes``, ``hes.math``."""
    return [str(column).removeprefix("state.") for column in frame if str(column).startswith("state.")]


def read_mixtures(frame: pd.DataFrame, domains: tuple[str, ...], run_ids: tuple[str, ...], offset: float) -> Floats:
    """Read T (n, K); shares off the simplex, unused or unvaried domains are refused, all offenders named."""
    if len(domains) < 2:
        raise AnalysisError(f"a mixture needs at least two domains; the table has {len(domains)}.")
    T = read_numbers(frame, [f"mixture.{domain}" for domain in domains], run_ids, "mixtures")
    negative = [run_ids[i] for i in np.flatnonzero((T < 0).any(axis=1))]
    if negative:
        raise AnalysisError(f"mixtures: negative shares in {name_some(negative)}; a share lies in [0, 1].")
    totals = T.sum(axis=1)
    off = np.flatnonzero(np.abs(totals - 1) > SHARE_TOLERANCE)
    if len(off):
        named = name_some(f"{run_ids[i]} ({totals[i]:.6g})" for i in off)
        raise AnalysisError(
            f"mixtures: the shares of {len(off)} runs do not sum to one: {named}. Each run's mixture.* "
            "columns must name every domain; divide them by their sum if a domain is not missing."
        )
    unused = [domain for k, domain in enumerate(domains) if not np.any(T[:, k] > 0)]
    if unused:
        raise AnalysisError(
            f"never used: {name_some(unused)} has a share of 0 in every run, so nothing is known about it. "
            "Take its mixture.* column out of the table, or add runs that use it."
        )
    if np.all(np.ptp(T, axis=0) < _VARIES):
        raise AnalysisError(
            f"all {len(T)} runs have one mixture: no effect of a share can be read off them. "
            "Run a sweep over mixtures: python launch.py -m mixture=dirichlet 'seed=range(160)'."
        )
    still = [domain for k, domain in enumerate(domains) if np.ptp(T[:, k]) < _VARIES]
    if still:
        raise AnalysisError(
            f"the share of {name_some(still)} is the same in every run: its effect cannot be told. "
            "Add runs in which it varies."
        )
    zeros = np.flatnonzero((T <= 0).any(axis=1))
    if len(zeros) and offset <= 0:
        raise AnalysisError(
            f"shares of zero in {len(zeros)} runs ({name_some(run_ids[int(i)] for i in zeros)}): log(0) is "
            "not defined. Sample with a positive floor (mixture.floor), or set estimator.log_offset=.001, "
            "knowing that the offset then decides what dropping a domain is worth."
        )
    return T


def read_outcomes(
    frame: pd.DataFrame,
    abilities: Sequence[str],
    run_ids: tuple[str, ...],
    estimator: EstimatorConfig,
    outcome: OutcomeConfig,
) -> tuple[tuple[str, ...], Floats, Floats]:
    """Return the names (A,) of the outcomes, their values (n, A) and weights (A,) that sum to one.

    Raises
    ------
    AnalysisError
        An outcome that is missing, not finite, or, as it is raised, the same in every run.
    """
    names, values, weights = _find_outcomes(frame, abilities, run_ids, estimator, outcome)
    raised = values @ weights
    # A constant ability among others does no harm: it takes no part in any effect.
    if len(raised) > 1 and np.ptp(raised) <= _VARIES * max(1.0, float(np.abs(raised).max())):
        counted = name_some(f"outcome.{name}" for name, weight in zip(names, weights) if weight > 0)
        what = f"the weighted mean of {counted}" if np.count_nonzero(weights) > 1 else counted
        raise AnalysisError(
            f"{what} is the same in all {len(raised)} runs ({raised[0]:g}): no effect of a mixture can be read off it. "
            "Name an outcome that varies (outcome.name, outcome.weights={ability: weight, ...}), or look at how this "
            "one was scored."
        )
    return names, values, weights


def _find_outcomes(
    frame: pd.DataFrame,
    abilities: Sequence[str],
    run_ids: tuple[str, ...],
    estimator: EstimatorConfig,
    outcome: OutcomeConfig,
) -> tuple[tuple[str, ...], Floats, Floats]:
    if outcome.weights:
        return _weigh_outcomes(frame, abilities, run_ids, outcome.weights)
    column = f"outcome.{outcome.name}"
    if column not in frame:
        found = [str(name) for name in frame if str(name).startswith("outcome.")]
        raise AnalysisError(
            f"outcome.name={outcome.name}: the table has no column {column}"
            f"{nearest_name(column, found)}; outcomes found: {name_some(found) or 'none'}."
        )
    total = read_numbers(frame, [column], run_ids, "outcomes")
    abilities = [name for name in abilities if f"outcome.{name}" in frame]
    if outcome.name != "avg_dev" or not estimator.per_outcome or not abilities:
        return (outcome.name,), total, np.ones(1)
    values = read_numbers(frame, [f"outcome.{name}" for name in abilities], run_ids, "outcomes")
    differs = np.flatnonzero(np.abs(values.mean(axis=1) - total[:, 0]) > 1e-6 * (1 + np.abs(total[:, 0])))
    if len(differs):
        raise AnalysisError(
            f"outcome.avg_dev is not the mean of {name_some(abilities)} in {len(differs)} runs "
            f"({name_some(run_ids[i] for i in differs)}). Say which abilities count with "
            "outcome.weights={ability: weight, ...}, or fit avg_dev as it is: estimator.per_outcome=false."
        )
    return tuple(abilities), values, np.full(len(abilities), 1.0 / len(abilities))


def _weigh_outcomes(
    frame: pd.DataFrame, abilities: Sequence[str], run_ids: tuple[str, ...], given: object
) -> tuple[tuple[str, ...], Floats, Floats]:
    weights = read_mapping(given, "outcome.weights")
    wrong = [f"{name}={value!r}" for name, value in weights.items() if not is_number(value)]
    if wrong:
        raise AnalysisError(f"outcome.weights: {name_some(wrong)}; weights are finite numbers.")
    unknown = [name for name in weights if f"outcome.{name}" not in frame]
    if unknown:
        named = name_some(f"'{name}'{nearest_name(name, abilities)}" for name in unknown)
        raise AnalysisError(f"outcome.weights: no outcome {named}; the table has {name_some(abilities)}.")
    numbers = np.array(list(weights.values()), dtype=np.float64)
    if np.any(numbers < 0) or numbers.sum() <= 0:
        raise AnalysisError(f"outcome.weights={weights}: weights are finite, >= 0 and not all zero.")
    names = tuple(weights)
    values = read_numbers(frame, [f"outcome.{name}" for name in names], run_ids, "outcomes")
    return names, values, numbers / numbers.sum()


def split_state(
    frame: pd.DataFrame, features: Sequence[str], domains: tuple[str, ...], estimator: EstimatorConfig
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Choose X by ``estimator.state``; the rest of the state is W. Constant columns are left out."""
    if estimator.state not in ("pool", "domain"):
        hint = nearest_name(estimator.state, ("pool", "domain"))
        raise AnalysisError(f"estimator.state={estimator.state}{hint}; allowed: pool, domain.")
    pool = [name for name in features if f"state.{name}" in frame]
    local = [f"{f}.{d}" for f in features for d in domains if f"state.{f}.{d}" in frame]
    chosen, others = (pool, local) if estimator.state == "pool" else (local, pool)
    if estimator.kind == "no_covariates":
        return (), (), ()
    if not chosen:
        wanted = "state.<feature>" if estimator.state == "pool" else "state.<feature>.<domain>"
        other = "domain" if estimator.state == "pool" else "pool"
        hint = f" estimator.state={other} would find columns," if others else ""
        raise AnalysisError(
            f"estimator.state={estimator.state}: the table has no column {wanted}.{hint} "
            "estimator=no_covariates needs none."
        )

    def varies(name: str) -> bool:
        values = pd.to_numeric(frame[f"state.{name}"], errors="coerce").to_numpy(dtype=np.float64)
        if not np.all(np.isfinite(values)):
            return True  # named as a fault when it is read
        return bool(np.ptp(values) > _VARIES * max(1.0, float(np.abs(values).max())))

    moving = [name for name in chosen if varies(name)]
    constant = tuple(name for name in chosen if name not in moving)
    # All constant: kept, so that the check on a constant state can speak, and be overruled.
    return tuple(moving or chosen), tuple(name for name in others if varies(name)), constant
