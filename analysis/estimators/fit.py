"""From a config to a fitted estimator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.causal_forest import fit_forest
from analysis.estimators.curve import fit_curve, remove_state, straighten
from analysis.estimators.curved import CurvedEffects
from analysis.estimators.effects import Effects
from analysis.estimators.judged import JudgedEffects
from analysis.estimators.linear import count_polynomial, fit_constant, fit_linear, fit_own_state
from analysis.estimators.nuisances import FirstStage, Residuals, centre_treatment
from analysis.estimators.s_learner import fit_surface
from analysis.estimators.varying_coefficient_gp import fit_process
from analysis.roles import Roles
from causalmix.config import EstimatorConfig
from causalmix.errors import AnalysisError, nearest_name

Fit = Callable[[Roles, Residuals, EstimatorConfig, int], Effects]
Floats = NDArray[np.float64]

INTERVALS = ("own", "gp")
REFIT_SEARCH = 15  # steps of the search for hyper-parameters, alike
REFIT_TREES = 100  # trees of a forest that is only refitted to see how an answer moves


@dataclass(frozen=True)
class Family:
    """One family: its final stage, whether effects depend on the state, and how many runs it needs."""

    fit: Fit
    uses_state: bool
    rows_needed: Callable[[int, int, EstimatorConfig], int]  # (n_domains, n_features, config) -> runs
    holds_level: bool = False  # its model has a part for E[Y | X]: it needs no residuals of the outcome


FAMILIES: dict[str, Family] = {
    "causal_forest": Family(fit_forest, True, lambda K, d, cfg: max(40, 4 * (K + 1))),
    "linear_dml": Family(fit_linear, True, lambda K, d, cfg: max(20, 2 * K * count_polynomial(d, cfg.degree))),
    "constant_dml": Family(fit_constant, True, lambda K, d, cfg: max(20, 2 * (K + 1))),
    "varying_coefficient_gp": Family(fit_process, True, lambda K, d, cfg: max(20, 2 * (K + 1), 3 * d), True),
    "own_state": Family(fit_own_state, True, lambda K, d, cfg: max(20, 2 * (K + max(1, d // K)))),
    "no_orthogonalisation": Family(fit_surface, True, lambda K, d, cfg: max(40, 2 * (K + d))),
    "no_covariates": Family(fit_constant, False, lambda K, d, cfg: max(20, 2 * (K + 1))),
}


@dataclass(frozen=True)
class Fitted:
    """A fit with its first stage."""

    effects: Effects
    first_stage: FirstStage

    @property
    def residuals(self) -> Residuals:
        """Residuals of the first stage; a family that has a part for the level is fitted before they are."""
        return self.first_stage.residuals


def check_estimator(roles: Roles, cfg: EstimatorConfig) -> None:
    """Refuse an unknown family, and a table too small for the one named.

    Raises
    ------
    AnalysisError
        Names the number of runs needed.
    """
    if cfg.kind not in FAMILIES:
        raise AnalysisError(
            f"estimator.kind={cfg.kind}{nearest_name(cfg.kind, FAMILIES)}; allowed: {', '.join(FAMILIES)}."
        )
    needed = count_rows_needed(roles, cfg)
    if roles.n_runs < needed:
        raise AnalysisError(
            f"{roles.n_runs} runs are too few: estimator={cfg.kind} with {len(roles.domains)} domains and "
            f"{len(roles.x_names)} state features needs at least {needed}. Run more of the sweep"
            + _suggest_smaller(roles, cfg)
        )


def count_rows_needed(roles: Roles, cfg: EstimatorConfig) -> int:
    """Return the fewest runs that a family fits."""
    return FAMILIES[cfg.kind].rows_needed(len(roles.domains), len(roles.x_names), cfg)


def fit_effects(roles: Roles, cfg: EstimatorConfig, seed: int) -> Fitted:
    """Residualise and fit; residuals that the family does not need are made when they are asked for.

    Parameters
    ----------
    roles : Roles
    cfg : EstimatorConfig
    seed : int
        Everything random derives from it: the same table, config and seed give the same bits.
    """
    family = FAMILIES[cfg.kind]
    seen = roles if family.uses_state else roles.forget_state()
    if cfg.interval not in INTERVALS:
        raise AnalysisError(
            f"estimator.interval={cfg.interval}{nearest_name(cfg.interval, INTERVALS)}; allowed: "
            f"{', '.join(INTERVALS)}."
        )
    first_stage = FirstStage(seen, cfg.nuisance, seed)
    residuals = centre_treatment(seen, cfg.nuisance, seed) if family.holds_level else first_stage.residuals
    return Fitted(fit_final(seen, residuals, cfg, seed), first_stage)


def fit_final(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Fit the final stage on residuals that are there: the family, its judge and the curve that the config asks for.

    ``roles`` are as the family sees them: without a state where it uses none.
    """
    curve = fit_curve(roles, residuals, cfg, seed) if cfg.curvature else None
    if curve is not None:
        roles, residuals = straighten(curve, roles, residuals)
    effects = FAMILIES[cfg.kind].fit(roles, residuals, cfg, seed)
    if cfg.interval == "gp" and cfg.kind != "varying_coefficient_gp" and roles.x_names:
        effects = JudgedEffects(effects, fit_process(roles, residuals, cfg, seed))
    return effects if curve is None else CurvedEffects(effects, curve)


def predict_out_of_fold(
    roles: Roles,
    residuals: Residuals,
    cfg: EstimatorConfig,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> Floats:
    """Return ``theta(x_i)' z_i`` (n,) with theta refitted without run i's fold, on the shared residuals.

    Where a curve is fitted its value is added, refitted alike.

    ``groups`` (n,) are left out one at a time in the place of the residuals' folds.
    """
    groups = residuals.folds if groups is None else groups
    family = FAMILIES[cfg.kind]
    seen = roles if family.uses_state else roles.forget_state()
    light, predicted = lighten(cfg, 1.0), np.empty(roles.n_runs)
    for group in np.unique(groups):
        out, kept = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
        effects = fit_final(seen.take(kept), residuals.take(kept), light, seed)
        # Residuals are in the fit's coordinates, effects in the embedding: Z = embed(T) B.
        slopes = effects.thetas(seen.X[out]) @ np.linalg.pinv(roles.coordinates.basis).T
        predicted[out] = np.einsum("np,np->n", slopes, residuals.Z[out])
        if effects.curve is not None:
            # As in the fit, less what the state says of the parabolas: the residual outcome has lost that too.
            bends = remove_state(roles, effects.curve.expand(roles.mixtures))
            predicted[out] += bends[out] @ effects.curve.mean_sizes
    return predicted


def lighten(cfg: EstimatorConfig, share: float) -> EstimatorConfig:
    """Return the config of a refit on a share of the runs: fewer trees, leaves smaller in proportion."""
    return dataclasses.replace(
        cfg,
        n_trees=min(cfg.n_trees, REFIT_TREES),
        max_search=min(cfg.max_search, REFIT_SEARCH),
        interval="own",
        min_samples_leaf=max(5, round(cfg.min_samples_leaf * share)),
    )


def _suggest_smaller(roles: Roles, cfg: EstimatorConfig) -> str:
    known = (*roles.x_names, *roles.w_names)
    own = [name for name in known if name.rpartition(".")[2] in roles.domains]
    # What each family would read under its own name; own_state alone reads the state by domain then.
    of_pool = [name for name in known if name not in own] if cfg.kind == "own_state" else list(roles.x_names)
    sizes = {}
    for name, family in FAMILIES.items():
        read = own if name == "own_state" else of_pool
        if name != cfg.kind and (read or not family.uses_state):
            sizes[name] = family.rows_needed(len(roles.domains), len(read), cfg)
    enough = [f"{name} ({size})" for name, size in sizes.items() if size <= roles.n_runs]
    return f", or take one of {', '.join(enough)}." if enough else "."
