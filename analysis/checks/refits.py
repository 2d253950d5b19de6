"""Refits that the checks share: quick ones, on the residuals that are there already."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.checks.check import Evidence
from analysis.estimators.effects import Effects
from analysis.estimators.fit import FAMILIES, count_rows_needed, fit_final, lighten
from analysis.estimators.linear import LinearEffects
from analysis.estimators.nuisances import Residuals
from analysis.roles import Roles
from causalmix.config import EstimatorConfig

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Contrast:
    """The gain that the checks follow: from ``reference`` to ``mixture`` at the state ``x``, as a fit says it."""

    mixture: Floats
    reference: Floats
    x: Floats
    effects: Effects

    def read(self, effects: Effects) -> tuple[float, float]:
        """Return the gain and its variance, points and squared points."""
        return effects.gain(self.x, self.mixture, self.reference)


@dataclass(frozen=True)
class Refitter:
    """A fit's inputs, with the abilities averaged into one outcome so that a refit is cheap.

    Attributes
    ----------
    roles : Roles
        As the family sees them (without a state where it uses none), one outcome.
    residuals : Residuals
        The fit's own, averaged alike.
    cfg : EstimatorConfig
        Fewer trees than the fit itself.
    seed : int
    """

    roles: Roles
    residuals: Residuals
    cfg: EstimatorConfig
    seed: int

    def fit(self, rows: Rows | None = None) -> Effects:
        """Refit the final stage, on some of the runs or on all."""
        rows = np.arange(self.roles.n_runs) if rows is None else rows
        cfg = lighten(self.cfg, len(rows) / self.roles.n_runs)
        return fit_final(self.roles.take(rows), self.residuals.take(rows), cfg, self.seed)

    def permute(self, order: Rows) -> Refitter:
        """Give run i the mixture of run ``order[i]``: no effect is left but that of chance."""
        roles, residuals = self.roles, self.residuals
        mixed = dataclasses.replace(roles, mixtures=roles.mixtures[order], Z=roles.Z[order])
        shuffled = dataclasses.replace(residuals, Z=residuals.Z[order], Z_hat=residuals.Z_hat[order])
        return dataclasses.replace(self, roles=mixed, residuals=shuffled)

    def can_fit(self, n_runs: int) -> bool:
        """Whether the family fits on so few runs."""
        return n_runs >= count_rows_needed(self.roles, self.cfg)

    def is_closed_form(self, effects: Effects) -> bool:
        """Whether a refit is one least-squares solution: thousands cost no more than one forest."""
        return isinstance(effects, LinearEffects)


def make_refitter(evidence: Evidence) -> Refitter:
    """Return the refitter of a fitted analysis."""
    assert evidence.fitted is not None, "checks that refit come after the fit"
    cfg = evidence.cfg.estimator
    seen = evidence.roles if FAMILIES[cfg.kind].uses_state else evidence.roles.forget_state()
    weights = evidence.roles.outcome_weights
    residuals = evidence.fitted.residuals
    averaged = dataclasses.replace(
        residuals,
        outcomes=(residuals.outcomes @ weights)[:, None],
        outcomes_hat=(residuals.outcomes_hat @ weights)[:, None],
    )
    return Refitter(average_outcomes(seen), averaged, cfg, evidence.cfg.seed + cfg.seed)


def average_outcomes(roles: Roles) -> Roles:
    """Return the roles with one outcome: the weighted mean that is raised."""
    outcomes = roles.Y[:, None]
    return dataclasses.replace(roles, outcome_names=("mean",), outcomes=outcomes, outcome_weights=np.ones(1))


def find_contrast(evidence: Evidence) -> Contrast | None:
    """Return the answer's contrast; where the answer is the reference itself, that of the run farthest from it.

    None where nothing was fitted, or no mixture found.
    """
    target, candidate = evidence.target, evidence.candidate
    if evidence.fitted is None or target is None or candidate is None:
        return None
    if np.abs(candidate - target.reference).max() < 1e-9:
        distances = np.abs(evidence.roles.mixtures - target.reference).sum(axis=1)
        candidate = evidence.roles.mixtures[int(np.argmax(distances))]
    return Contrast(candidate, target.reference, target.x, evidence.fitted.effects)
