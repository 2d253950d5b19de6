"""The search that RegMix made common: draw many mixtures around the pool's own, average the best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from analysis.policies.causalmix_s import draw_dirichlet
from analysis.policies.plain import fit_to_box
from analysis.policies.proposal import Proposal
from analysis.regressors.regressor import Regressor
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError

Floats = NDArray[np.float64]


def fit_outcomes(roles: Roles, make: Callable[[], Regressor]) -> list[Regressor]:
    """Fit one regressor an outcome on the shares of all fitted runs; their states are not seen."""
    return [make().fit(roles.mixtures, outcome) for outcome in roles.outcomes.T]


def average_best(models: list[Regressor], roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the mean of the best ``n_best`` of ``n_candidates`` draws of Dirichlet(natural shares).

    Parameters
    ----------
    models : list of Regressor
        One an outcome, in the order of ``roles.outcome_weights``.
    roles : Roles
    target : Target
    cfg : PolicyConfig
    """
    if not 1 <= cfg.n_best <= cfg.n_candidates:
        raise AnalysisError(f"policy.n_best={cfg.n_best}: from 1 to policy.n_candidates ({cfg.n_candidates}).")
    rng = np.random.default_rng([cfg.seed, 29])
    candidates = draw_dirichlet(rng, target.natural, cfg.n_candidates)
    scores = np.zeros(len(candidates))
    for weight, model in zip(roles.outcome_weights, models):
        scores += weight * model.predict(candidates)
    best = candidates[np.argsort(-scores, kind="stable")[: cfg.n_best]].mean(axis=0)
    return fit_to_box(np.asarray(best / best.sum()), target)
