"""Roles of the columns of a runs table: outcome Y, treatment T, covariates X, controls W."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.coordinates import check_coordinates, to_log
from causalmix.config import EstimatorConfig, OutcomeConfig
from causalmix.errors import AnalysisError, name_some, nearest_name

Floats = NDArray[np.float64]

SHARE_TOLERANCE = 1e-6  # how far a run's shares may sum from one
_VARIES = 1e-10  # relative spread below which a column is a constant


class Runs(Protocol):
    """What is read of a runs table (see ``causalmix.table``)."""

    @property
    def frame(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def domains(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def features(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def abilities(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Roles:
    """The arrays a fit reads; row i is run i, in the order of the run ids.

    Attributes
    ----------
    run_ids, domains : tuple of str
        n runs and K domains.
    outcome_names : tuple of str
        The A abilities that are fitted one by one (or ``avg_dev`` alone).
    outcomes : ndarray (n, A)
        Y per ability, points, higher is better.
    outcome_weights : ndarray (A,)
        They sum to one; what is raised is ``outcomes @ outcome_weights``.
    mixtures : ndarray (n, K)
        T, target shares.
    Z : ndarray (n, K)
        Log coordinates of T.
    X, x_names : ndarray (n, d), tuple of str
        State that effects may depend on.
    W, w_names : ndarray (n, w), tuple of str
        Further state, in the nuisances alone.
    design_mean : ndarray (n, K) or None
        The sampler's own mean of Z, where the table has it.
    randomised : bool
        The sampler's mean of Z is known and the same for every run: T was drawn independently of X.
    constant_names : tuple of str
        State columns left out because every run has the same value.
    log_offset : float
        eps in ``Z = log(T + eps)``.
    """

    run_ids: tuple[str, ...]
    domains: tuple[str, ...]
    outcome_names: tuple[str, ...]
    outcomes: Floats
    outcome_weights: Floats
    mixtures: Floats
    Z: Floats
    X: Floats
    x_names: tuple[str, ...]
    W: Floats
    w_names: tuple[str, ...]
    design_mean: Floats | None
    randomised: bool
    constant_names: tuple[str, ...] = ()
    log_offset: float = 0.0

    @property
    def n_runs(self) -> int:
        """Number of runs n."""
        return len(self.run_ids)

    @property
    def Y(self) -> Floats:
        """The outcome that is raised (n,)."""
        return np.asarray(self.outcomes @ self.outcome_weights)

    def take(self, rows: NDArray[np.int64]) -> Roles:
        """Keep some runs, in the order given."""
        return dataclasses.replace(
            self,
            run_ids=tuple(self.run_ids[i] for i in rows),
            outcomes=self.outcomes[rows],
            mixtures=self.mixtures[rows],
            Z=self.Z[rows],
            X=self.X[rows],
            W=self.W[rows],
            design_mean=None if self.design_mean is None else self.design_mean[rows],
        )

    def forget_state(self) -> Roles:
        """Drop X and W: what a state-agnostic fit sees."""
        empty = np.empty((self.n_runs, 0))
        return dataclasses.replace(self, X=empty, x_names=(), W=empty, w_names=())


def select_cohort(frame: pd.DataFrame, cohort: str) -> pd.DataFrame:
    """Keep the complete runs of one cohort, sorted by run id, so that the order of rows never matters."""
    kept = frame
    if "status" in kept:
        kept = kept[kept["status"] == "complete"]
    if "cohort" in kept:
        kept = kept[kept["cohort"] == cohort]
        if kept.empty:
            found = name_some(sorted(frame["cohort"].astype(str).unique()))
            raise AnalysisError(f"cohort={cohort}: no complete run of this cohort; the table has: {found}.")
    return kept.sort_values("run_id", kind="stable").reset_index(drop=True)


def assign_roles(runs: Runs, cohort: str, estimator: EstimatorConfig, outcome: OutcomeConfig) -> Roles:
    """Read the roles of every column off a runs table.

    Parameters
    ----------
    runs : RunsTable
    cohort : str
        Which runs the fit may see; a table without the column is taken whole.
    estimator : EstimatorConfig
        ``state`` chooses X; ``per_outcome``, ``coordinates`` and ``log_offset`` are read too.
    outcome : OutcomeConfig
        Weights of the abilities; none takes the unweighted mean.

    Returns
    -------
    Roles

    Raises
    ------
    AnalysisError
        Outcomes that are missing or not finite, shares off the simplex, a domain never used or never varied,
        one mixture in all runs, no state. Every offending run or column is named.
    """
    check_coordinates(estimator.coordinates)
    frame = select_cohort(runs.frame, cohort)
    if frame.empty:
        raise AnalysisError("the runs table has no complete run: nothing can be fitted.")
    domains = tuple(runs.domains)
    run_ids = tuple(frame["run_id"].astype(str))
    mixtures = _read_mixtures(frame, domains, run_ids, estimator.log_offset)
    names, outcomes, weights = _read_outcomes(frame, runs.abilities, run_ids, estimator, outcome)
    x_names, w_names, constant = _split_state(frame, runs.features, domains, estimator)
    mean_names = [f"design.mean_log.{domain}" for domain in domains]
    known = all(name in frame for name in mean_names)
    design_mean = _read_numbers(frame, mean_names, run_ids, "design means") if known else None
    same = design_mean is not None and bool(np.all(np.ptp(design_mean, axis=0) < 1e-9))
    return Roles(
        run_ids=run_ids,
        domains=domains,
        outcome_names=names,
        outcomes=outcomes,
        outcome_weights=weights,
        mixtures=mixtures,
        Z=to_log(mixtures, estimator.log_offset),
        X=_read_numbers(frame, [f"state.{name}" for name in x_names], run_ids, "state"),
        x_names=x_names,
        W=_read_numbers(frame, [f"state.{name}" for name in w_names], run_ids, "state"),
        w_names=w_names,
        design_mean=design_mean,
        randomised=same,
        constant_names=constant,
        log_offset=estimator.log_offset,
    )


def _read_numbers(frame: pd.DataFrame, columns: Sequence[str], run_ids: Sequence[str], what: str) -> Floats:
    """Read columns as finite numbers (n, len(columns)), naming every run and column that is not."""
    values = np.empty((len(frame), len(columns)))
    for j, column in enumerate(columns):
        values[:, j] = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        columns_bad = [columns[j] for j in np.flatnonzero(bad.any(axis=0))]
        runs_bad = [run_ids[i] for i in np.flatnonzero(bad.any(axis=1))]
        raise AnalysisError(
            f"{what}: {name_some(columns_bad)} must be a finite number in every run, and is NaN, infinite or "
            f"no number in {len(runs_bad)} of {len(frame)} runs: {name_some(runs_bad)}. A missing value is "
            "never filled in: complete these runs, or take them out of the table."
        )
    return values


def _read_mixtures(
    frame: pd.DataFrame, domains: tuple[str, ...], run_ids: tuple[str, ...], offset: float
) -> Floats:
    if len(domains) < 2:
        raise AnalysisError(f"a mixture needs at least two domains; the table has {len(domains)}.")
    T = _read_numbers(frame, [f"mixture.{domain}" for domain in domains], run_ids, "mixtures")
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
            f"shares of zero in {len(zeros)} runs ({name_some(run_ids[i] for i in zeros)}): log(0) is not "
            "defined. Sample with a positive floor (mixture.floor), or set estimator.log_offset=.001, "
            "knowing that the offset then decides what dropping a domain is worth."
        )
    return T


def _read_outcomes(
    frame: pd.DataFrame,
    abilities: Sequence[str],
    run_ids: tuple[str, ...],
    estimator: EstimatorConfig,
    outcome: OutcomeConfig,
) -> tuple[tuple[str, ...], Floats, Floats]:
    if outcome.weights:
        return _weigh_outcomes(frame, abilities, run_ids, dict(outcome.weights))
    column = f"outcome.{outcome.name}"
    if column not in frame:
        found = [name for name in frame if str(name).startswith("outcome.")]
        raise AnalysisError(
            f"outcome.name={outcome.name}: the table has no column {column}"
            f"{nearest_name(column, found)}; outcomes found: {name_some(found) or 'none'}."
        )
    total = _read_numbers(frame, [column], run_ids, "outcomes")
    if outcome.name != "avg_dev" or not estimator.per_outcome or not abilities:
        return (outcome.name,), total, np.ones(1)
    values = _read_numbers(frame, [f"outcome.{name}" for name in abilities], run_ids, "outcomes")
    differs = np.flatnonzero(np.abs(values.mean(axis=1) - total[:, 0]) > 1e-6 * (1 + np.abs(total[:, 0])))
    if len(differs):
        raise AnalysisError(
            f"outcome.avg_dev is not the mean of {name_some(abilities)} in {len(differs)} runs "
            f"({name_some(run_ids[i] for i in differs)}). Say which abilities count with "
            "outcome.weights={ability: weight, ...}, or fit avg_dev as it is: estimator.per_outcome=false."
        )
    return tuple(abilities), values, np.full(len(abilities), 1.0 / len(abilities))


def _weigh_outcomes(
    frame: pd.DataFrame, abilities: Sequence[str], run_ids: tuple[str, ...], weights: dict[str, float]
) -> tuple[tuple[str, ...], Floats, Floats]:
    unknown = [name for name in weights if f"outcome.{name}" not in frame]
    if unknown:
        named = name_some(f"'{name}'{nearest_name(name, abilities)}" for name in unknown)
        raise AnalysisError(f"outcome.weights: no outcome {named}; the table has {name_some(abilities)}.")
    numbers = np.array(list(weights.values()), dtype=np.float64)
    if not np.all(np.isfinite(numbers)) or np.any(numbers < 0) or numbers.sum() <= 0:
        raise AnalysisError(f"outcome.weights={weights}: weights are finite, >= 0 and not all zero.")
    names = tuple(weights)
    values = _read_numbers(frame, [f"outcome.{name}" for name in names], run_ids, "outcomes")
    return names, values, numbers / numbers.sum()


def _split_state(
    frame: pd.DataFrame, features: Sequence[str], domains: tuple[str, ...], estimator: EstimatorConfig
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Choose X by ``estimator.state``; the rest of the state are controls W. Constant columns are left out."""
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
