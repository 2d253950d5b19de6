"""Roles of the columns of a runs table: outcome Y, treatment T, covariates X, controls W."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.columns import read_mixtures, read_numbers, read_outcomes, split_state
from analysis.coordinates import Coordinates, make_coordinates
from causalmix.config import EstimatorConfig, OutcomeConfig
from causalmix.errors import AnalysisError, name_some

Floats = NDArray[np.float64]


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
    coordinates : Coordinates
    Z : ndarray (n, p)
        Coordinates of T; p = K for logs.
    X, x_names : ndarray (n, d), tuple of str
        State that effects may depend on.
    W, w_names : ndarray (n, w), tuple of str
        Further state, in the nuisances alone.
    design_mean : ndarray (n, p) or None
        The sampler's own mean of Z, where the table has it.
    randomised : bool
        The sampler's mean of Z is known and the same for every run: T was drawn independently of X.
    constant_names : tuple of str
        State columns left out because every run has the same value.
    others : DataFrame
        Complete runs of the other cohorts (perturbation, grid, replicate ...): never fitted, read by the
        baselines that need runs of their own.
    designs : tuple of str
        Which kind of design drew each run's mixture (``design.kind``); empty where the table does not say.
    """

    run_ids: tuple[str, ...]
    domains: tuple[str, ...]
    outcome_names: tuple[str, ...]
    outcomes: Floats
    outcome_weights: Floats
    mixtures: Floats
    coordinates: Coordinates
    Z: Floats
    X: Floats
    x_names: tuple[str, ...]
    W: Floats
    w_names: tuple[str, ...]
    design_mean: Floats | None
    randomised: bool
    constant_names: tuple[str, ...] = ()
    others: pd.DataFrame = field(default_factory=pd.DataFrame)
    designs: tuple[str, ...] = ()

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
            designs=tuple(self.designs[i] for i in rows) if self.designs else (),
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


def select_others(frame: pd.DataFrame, cohort: str) -> pd.DataFrame:
    """Return the complete runs of every cohort but one, sorted by run id; none where the table has no cohorts."""
    if "cohort" not in frame:
        return frame.iloc[:0]
    kept = frame[frame["cohort"] != cohort]
    if "status" in kept:
        kept = kept[kept["status"] == "complete"]
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
    frame = select_cohort(runs.frame, cohort)
    if frame.empty:
        raise AnalysisError("the runs table has no complete run: nothing can be fitted.")
    _refuse_online(frame)
    domains = tuple(runs.domains)
    run_ids = tuple(frame["run_id"].astype(str))
    coordinates = make_coordinates(estimator.coordinates, max(len(domains), 2), estimator.log_offset)
    mixtures = read_mixtures(frame, domains, run_ids, estimator.log_offset)
    names, outcomes, weights = read_outcomes(frame, runs.abilities, run_ids, estimator, outcome)
    x_names, w_names, constant = split_state(frame, runs.features, domains, estimator)
    mean_names = [f"design.mean_log.{domain}" for domain in domains]
    # Joined sweeps may know it for some runs alone: then it is not known.
    known = all(name in frame and bool(frame[name].notna().all()) for name in mean_names)
    design_mean = read_numbers(frame, mean_names, run_ids, "design means") if known else None
    same = design_mean is not None and bool(np.all(np.ptp(design_mean, axis=0) < 1e-9))
    return Roles(
        run_ids=run_ids,
        domains=domains,
        outcome_names=names,
        outcomes=outcomes,
        outcome_weights=weights,
        mixtures=mixtures,
        coordinates=coordinates,
        Z=coordinates.transform(mixtures),
        X=read_numbers(frame, [f"state.{name}" for name in x_names], run_ids, "state"),
        x_names=x_names,
        W=read_numbers(frame, [f"state.{name}" for name in w_names], run_ids, "state"),
        w_names=w_names,
        design_mean=_transform_mean(design_mean, coordinates),
        randomised=same,
        constant_names=constant,
        others=select_others(runs.frame, cohort),
        designs=tuple(frame["design.kind"].astype(str)) if "design.kind" in frame else (),
    )


def _refuse_online(frame: pd.DataFrame) -> None:
    """Refuse runs whose mixture followed their own losses: T is then an effect of the training, not its cause."""
    if "design.kind" not in frame:
        return
    online = frame.loc[frame["design.kind"].astype(str) == "odm", "run_id"].astype(str)
    if len(online):
        raise AnalysisError(
            f"mixture=odm moves a run's mixture by the run's own losses, so no causal fit may see {name_some(online)}: "
            f"take them out of the cohort that is fitted; python -m analysis.compare reads them."
        )


def _transform_mean(mean_log: Floats | None, coordinates: Coordinates) -> Floats | None:
    """Return the design's mean of Z: known where Z is linear in the logs that the sampler took the mean of."""
    if mean_log is None or not coordinates.is_log or coordinates.offset > 0:
        return None
    return np.asarray(mean_log @ coordinates.basis)
