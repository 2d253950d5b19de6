"""``estimator=auto``: the simplest family whose effects predict held-out runs as well as the best one's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.fit import FAMILIES, count_rows_needed, predict_out_of_fold
from analysis.estimators.nuisances import Residuals, residualise
from analysis.roles import Roles, Runs, assign_roles
from causalmix.config import EstimatorConfig, OutcomeConfig
from causalmix.errors import AnalysisError, name_some

Floats = NDArray[np.float64]

# From the simplest: (family, state, degree). The first within one standard error of the best is taken.
CANDIDATES: tuple[tuple[str, str, int], ...] = (
    ("constant_dml", "pool", 1),
    ("own_state", "domain", 1),
    ("linear_dml", "pool", 1),
    ("linear_dml", "pool", 2),
    ("varying_coefficient_gp", "pool", 1),
    ("varying_coefficient_gp", "domain", 1),
    ("causal_forest", "pool", 1),
)


@dataclass(frozen=True)
class Candidate:
    """One family on trial.

    Attributes
    ----------
    name : str
    loss : float
        Out-of-fold R-loss: the mean of ``(Y - m(X, W) - theta(X)' (Z - e))^2``, squared points.
    behind, behind_se : float
        Its loss less the best one's over the same runs, and the standard error of that difference.
    """

    name: str
    loss: float
    behind: float
    behind_se: float


@dataclass(frozen=True)
class Selection:
    """What was tried, and what was taken."""

    chosen: EstimatorConfig
    candidates: tuple[Candidate, ...]

    def describe(self) -> str:
        """Return one sentence for the reader."""
        tried = name_some((f"{c.name} {c.loss:.4g}" for c in self.candidates), 10)
        return (
            f"estimator=auto took {self.chosen.name}, the simplest within one standard error of the best: "
            f"out-of-fold R-loss {tried}."
        )


def select_estimator(
    runs: Runs,
    cohort: str,
    cfg: EstimatorConfig,
    outcome: OutcomeConfig,
    seed: int,
    known_states: Sequence[str] | None = None,
) -> Selection:
    """Choose a family by out-of-fold R-loss and the one-standard-error rule.

    Every candidate is judged on the same residuals: m sees all of the state whichever part of it a family
    lets effects depend on.

    Parameters
    ----------
    runs, cohort, outcome
        As for :func:`analysis.roles.assign_roles`.
    cfg : EstimatorConfig
        Everything but the family, its state and its degree is taken from here.
    seed : int
    known_states : sequence of str, optional
        States that the target has; families that need others are left out.

    Raises
    ------
    AnalysisError
        Where the table is too small, or has too little state, for any family.

    Notes
    -----
    The R-loss: Nie and Wager, "Quasi-oracle estimation of heterogeneous treatment effects", Biometrika 108
    (2021). The rule: Breiman et al., "Classification and Regression Trees" (1984), section 3.4.
    """
    if cfg.nuisance.n_folds < 2:
        raise AnalysisError(f"estimator.nuisance.n_folds={cfg.nuisance.n_folds}: from 2 to the number of runs.")
    residuals: Residuals | None = None
    losses: dict[str, Floats] = {}
    configs: dict[str, EstimatorConfig] = {}
    left_out: dict[str, str] = {}
    fed: dict[str, Roles] = {}
    for kind, state, degree in _list_fed(runs):
        own = dataclasses.replace(cfg, kind=kind, state=state, degree=degree, interval="own")
        name = _name(kind, state, degree)
        try:
            roles = assign_roles(runs, cohort, own, outcome)
            fed[name] = roles
            configs[name] = dataclasses.replace(own, name=name)
            _check_feasible(roles, own, known_states)
            residuals = residuals or residualise(roles, own.nuisance, seed)
            predicted = predict_out_of_fold(roles, residuals, own, seed)
        except AnalysisError as error:
            left_out[name] = str(error)
            continue
        losses[name] = (residuals.outcomes @ roles.outcome_weights - predicted) ** 2
    if not losses:
        _refuse_small(fed, configs)
        _refuse_incomplete(fed, known_states)
        faults = dict.fromkeys(left_out.values())
        if len(faults) == 1:
            raise AnalysisError(next(iter(faults)))
        named = name_some(f"{name} ({fault})" for name, fault in left_out.items())
        raise AnalysisError(f"estimator=auto: no family fits this table: {named}")
    candidates = compare_losses(losses)
    chosen = next(c for c in candidates if c.behind <= c.behind_se)
    # The trial runs judge effects alone; intervals are the user's choice again.
    return Selection(dataclasses.replace(configs[chosen.name], interval=cfg.interval), candidates)


def compare_losses(losses: Mapping[str, Floats]) -> tuple[Candidate, ...]:
    """Compare losses (n,) of the same runs with those of the best, in the order given."""
    best = min(losses, key=lambda name: float(losses[name].mean()))
    rows = []
    for name, loss in losses.items():
        difference = loss - losses[best]
        se = float(difference.std(ddof=1) / np.sqrt(len(difference)))
        rows.append(Candidate(name, float(loss.mean()), float(difference.mean()), se))
    return tuple(rows)


def _list_fed(runs: Runs) -> list[tuple[str, str, int]]:
    """Return the candidates whose state the table has; the first where it has none, which is refused then."""
    columns = {str(column) for column in runs.frame}
    has = {
        "pool": any(f"state.{feature}" in columns for feature in runs.features),
        "domain": any(f"state.{feature}.{domain}" in columns for feature in runs.features for domain in runs.domains),
    }
    return [candidate for candidate in CANDIDATES if has[candidate[1]]] or list(CANDIDATES[:1])


def _refuse_small(fed: Mapping[str, Roles], configs: Mapping[str, EstimatorConfig]) -> None:
    """Refuse a table with fewer runs than the smallest family needs outside every fold."""
    if not fed:
        return
    needed = {name: count_rows_needed(roles, configs[name]) for name, roles in fed.items()}
    least = min(needed, key=lambda name: needed[name])
    n, n_folds = fed[least].n_runs, configs[least].nuisance.n_folds
    if n - -(-n // n_folds) >= needed[least]:
        return
    wanted = n
    while wanted - -(-wanted // n_folds) < needed[least]:
        wanted += 1
    raise AnalysisError(
        f"{n} runs are too few: estimator=auto needs at least {wanted}, since {least}, the smallest family, is "
        f"tried on {needed[least]} runs outside each of {n_folds} folds. Run more of the sweep."
    )


def _refuse_incomplete(fed: Mapping[str, Roles], known_states: Sequence[str] | None) -> None:
    """Refuse a target without the states that any family reads; the family that lacks the fewest says which."""
    if known_states is None or not fed:
        return
    lacking = [[name for name in roles.x_names if name not in known_states] for roles in fed.values()]
    least = min(lacking, key=len)
    if least:
        raise AnalysisError(f"target.state: the fit also reads {name_some(least, 20)}; give them.")


def _check_feasible(roles: Roles, cfg: EstimatorConfig, known_states: Sequence[str] | None) -> None:
    """Refuse a family whose state the target lacks, or that a fold's rest is too small for."""
    unknown = [name for name in roles.x_names if known_states is not None and name not in known_states]
    if unknown:
        raise AnalysisError(f"the target has no {name_some(unknown)}")
    needed, n_kept = count_rows_needed(roles, cfg), roles.n_runs - -(-roles.n_runs // cfg.nuisance.n_folds)
    if n_kept < needed:
        raise AnalysisError(f"{n_kept} runs outside a fold, {needed} are needed")


def _name(kind: str, state: str, degree: int) -> str:
    name = "quadratic_dml" if (kind, degree) == ("linear_dml", 2) else kind
    assert kind in FAMILIES
    return f"{name}_by_domain" if state == "domain" and kind != "own_state" else name
