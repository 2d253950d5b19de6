"""A runs table with its fit: every target, size and policy is answered from it, with no refit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from analysis.checks.check import CheckResult, Evidence
from analysis.checks.run import list_blocking, run_checks, stop_at
from analysis.columns import list_states
from analysis.estimators.effects import Effects
from analysis.estimators.fit import (
    FAMILIES,
    Fitted,
    check_estimator,
    fit_effects,
    fit_final,
    lighten,
    predict_out_of_fold,
)
from analysis.estimators.select import Selection, select_estimator
from analysis.roles import Roles, assign_roles
from analysis.target_state import list_known_states
from causalmix.config import AnalysisConfig, TargetConfig
from causalmix.table.runs import RunsTable

Floats = NDArray[np.float64]


@dataclass
class FittedTable:
    """What the runs said, once and for all targets.

    Attributes
    ----------
    cfg : AnalysisConfig
        With the estimator that was fitted, where ``auto`` chose it.
    runs : RunsTable
    roles : Roles
    fitted : Fitted
    predicted : ndarray (n,)
        Out-of-fold effect part of every run.
    early : list of CheckResult
        Checks of the table alone.
    selection : Selection or None
        What ``auto`` tried.
    refitted : dict of str to CheckResult
        Checks that refit, by code: made with the first answer and kept.
    """

    cfg: AnalysisConfig
    runs: RunsTable
    roles: Roles
    fitted: Fitted
    predicted: Floats
    early: list[CheckResult]
    selection: Selection | None
    refitted: dict[str, CheckResult] = field(default_factory=dict)
    _halves: list[tuple[Roles, Effects]] | None = None

    @property
    def seed(self) -> int:
        """The seed of the fit."""
        return self.cfg.seed + self.cfg.estimator.seed

    def refit_halves(self, *, progress: bool) -> list[tuple[Roles, Effects]]:
        """Refit the final stage on random halves of the runs, once (a bootstrap's duplicates leak across folds).

        The cross-fitted residuals of the whole table are kept: the effects are orthogonal to the nuisances, so
        what refitting those too would add is of second order, and it takes most of the time.
        """
        if self._halves is None:
            self._halves = self._fit_halves(progress)
        return self._halves

    def _fit_halves(self, progress: bool) -> list[tuple[Roles, Effects]]:
        cfg, roles = self.cfg, self.roles
        if cfg.n_refits < 2:
            return []
        light = lighten(cfg.estimator, 0.5)
        seen = roles if FAMILIES[cfg.estimator.kind].uses_state else roles.forget_state()
        rng = np.random.default_rng([self.seed, 31])
        rows = [np.sort(rng.choice(roles.n_runs, roles.n_runs // 2, replace=False)) for _ in range(cfg.n_refits)]

        def fit(i: int) -> tuple[Roles, Effects]:
            residuals = self.fitted.residuals.take(rows[i])
            return roles.take(rows[i]), fit_final(seen.take(rows[i]), residuals, light, self.seed + 1 + i)

        hidden = None if progress else True
        with ThreadPoolExecutor(max(1, cfg.n_threads)) as workers:  # each refit is whole in itself: order cannot matter
            fits = workers.map(fit, range(cfg.n_refits))
            return list(tqdm(fits, total=cfg.n_refits, desc="half-sample refits", disable=hidden, leave=False))


def fit_table(cfg: AnalysisConfig, runs: RunsTable, targets: Sequence[TargetConfig] = ()) -> FittedTable:
    """Assign the roles of the columns, check the table, choose the estimator where it is ``auto``, and fit.

    Parameters
    ----------
    cfg : AnalysisConfig
    runs : RunsTable
    targets : sequence of TargetConfig
        What will be asked, where it is more than ``cfg.target``: ``auto`` takes a state that all of them have.

    Raises
    ------
    AnalysisError
        A table that cannot be fitted, or a check before the fit that fails.
    """
    selection = None
    if cfg.estimator.kind == "auto":
        known = list_known_states(targets or [cfg.target], list_states(runs.frame))
        selection = select_estimator(runs, cfg.cohort, cfg.estimator, cfg.outcome, cfg.seed, known)
        cfg = dataclasses.replace(cfg, estimator=selection.chosen)
    roles = assign_roles(runs, cfg.cohort, cfg.estimator, cfg.outcome)
    check_estimator(roles, cfg.estimator)
    early = run_checks(Evidence(roles, runs.frame, cfg), before_fit=True)
    stop_at(list_blocking(early, cfg.allow_failed_checks))
    seed = cfg.seed + cfg.estimator.seed
    fitted = fit_effects(roles, cfg.estimator, seed)
    predicted = predict_out_of_fold(roles, fitted.residuals, cfg.estimator, seed)
    return FittedTable(cfg, runs, roles, fitted, predicted, early, selection)
