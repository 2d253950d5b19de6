"""RegMix: regress outcomes on shares, draw many mixtures, average the best (Liu et al. 2024)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.policies.causalmix_s import draw_dirichlet
from analysis.policies.plain import fit_to_box
from analysis.policies.proposal import Proposal
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError

Floats = NDArray[np.float64]

ROWS_TOO_FEW = 40  # LightGBM's min_data_in_leaf=20 allows no split: a constant


def propose_regmix(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the mean of the best ``n_best`` (128) of ``n_candidates`` draws of Dirichlet(prior).

    One LightGBM an outcome (gbdt, 1000 trees, learning rate .01, seed 42, defaults else) on the K
    shares; it knows no state. The prior is the target pool's natural shares.

    Raises
    ------
    AnalysisError
        With 40 runs or fewer.
    """
    if roles.n_runs <= ROWS_TOO_FEW:
        raise AnalysisError(
            f"regmix: {roles.n_runs} runs; with {ROWS_TOO_FEW} or fewer LightGBM's min_data_in_leaf=20 "
            "allows no split and its answer is a constant. Run more of the sweep, or leave regmix out."
        )
    rng = np.random.default_rng([cfg.seed, 29])
    candidates = draw_dirichlet(rng, target.natural, cfg.n_candidates)
    scores = np.zeros(len(candidates))
    for weight, outcome in zip(roles.outcome_weights, roles.outcomes.T):
        model = fit_regressor(roles.mixtures, outcome, cfg.seed)
        # Rows are independent: as many threads as OpenMP likes give the same bits.
        scores += weight * model.booster_.predict(candidates, num_threads=0)
    best = candidates[np.argsort(-scores, kind="stable")[: cfg.n_best]].mean(axis=0)
    return fit_to_box(np.asarray(best / best.sum()), target)


def fit_regressor(mixtures: Floats, outcome: Floats, seed: int) -> Any:
    """Fit RegMix's LightGBM of one outcome (n,) on the shares (n, K)."""
    from lightgbm import LGBMRegressor

    model = LGBMRegressor(
        n_estimators=1000,
        learning_rate=0.01,
        random_state=seed,
        n_jobs=1,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
    )
    return model.fit(mixtures, outcome)
