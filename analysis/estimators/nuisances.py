"""First stage: cross-fitted residuals of outcome and treatment, made once and shared by every family."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.roles import Roles
from causalmix.config import NuisanceConfig
from causalmix.errors import AnalysisError, nearest_name

Floats = NDArray[np.float64]

MODELS = ("lightgbm", "ridge")


@dataclass(frozen=True)
class Residuals:
    """``Y - m(X, W)`` and ``Z - e(X, W)``, each row predicted by models that never saw it.

    Attributes
    ----------
    outcomes, outcomes_hat : ndarray (n, A)
    Z, Z_hat : ndarray (n, K)
    folds : ndarray of int64 (n,)
        Which fold each run was held out in.
    """

    outcomes: Floats
    outcomes_hat: Floats
    Z: Floats
    Z_hat: Floats
    folds: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Residuals:
        """Keep some runs."""
        return Residuals(self.outcomes[rows], self.outcomes_hat[rows], self.Z[rows], self.Z_hat[rows], self.folds[rows])


def residualise(roles: Roles, cfg: NuisanceConfig, seed: int) -> Residuals:
    """Cross-fit E[Y | X, W] per ability and E[Z | X, W] per coordinate, and subtract them.

    Parameters
    ----------
    roles : Roles
    cfg : NuisanceConfig
        ``treatment=design`` takes the sampler's own mean of Z (columns ``design.mean_log.*``), ``mean`` the mean
        over the other folds, which is right where T was randomised; ``auto`` takes the first of design, mean
        that the table allows, and LightGBM where neither.
    seed : int
        Folds and models.

    Returns
    -------
    Residuals

    Raises
    ------
    AnalysisError
        Unknown models, fewer than two folds, or a design mean that the table does not have.
    """
    check_nuisances(roles, cfg)
    return _residualise(roles, cfg, seed)


def centre_treatment(roles: Roles, cfg: NuisanceConfig, seed: int) -> Residuals:
    """Return residuals for a family whose model holds the level: nothing is fitted that it would not look at.

    Outcomes are less their mean over other folds. Z is as :func:`residualise` says where the table knows its mean,
    and else less its mean over other folds, as the family then fits its own.
    """
    check_nuisances(roles, cfg)
    known = roles.design_mean is not None or roles.randomised
    light = dataclasses.replace(cfg, outcome="mean", treatment=cfg.treatment if known else "mean")
    return _residualise(roles, light, seed)


@dataclass(frozen=True)
class FirstStage:
    """Residuals that are made when they are first asked for."""

    roles: Roles
    cfg: NuisanceConfig
    seed: int

    @cached_property
    def residuals(self) -> Residuals:
        """See :func:`residualise`."""
        return residualise(self.roles, self.cfg, self.seed)


def _residualise(roles: Roles, cfg: NuisanceConfig, seed: int) -> Residuals:
    folds = assign_folds(roles.n_runs, cfg.n_folds, seed)
    covariates = np.hstack([roles.X, roles.W])
    outcomes_hat = _cross_fit_outcomes(covariates, roles.outcomes, folds, cfg.outcome, seed)
    if cfg.treatment == "design" or (cfg.treatment == "auto" and roles.design_mean is not None):
        assert roles.design_mean is not None, "checked above"
        Z_hat = roles.design_mean
    else:
        treatment = ("mean" if roles.randomised else "lightgbm") if cfg.treatment == "auto" else cfg.treatment
        Z_hat = _cross_fit(covariates, roles.Z, folds, treatment, seed + 1)
    return Residuals(roles.outcomes - outcomes_hat, outcomes_hat, roles.Z - Z_hat, Z_hat, folds)


def assign_folds(n_runs: int, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Put every run in one of ``n_folds`` folds of equal size, at random."""
    return np.random.default_rng([seed, 11]).permutation(np.arange(n_runs) % n_folds)


def make_regressor(kind: str, seed: int) -> Any:
    """Return an unfitted regressor: LightGBM on one thread (more only fight each other), or ridge."""
    if kind == "lightgbm":
        from lightgbm import LGBMRegressor

        return LGBMRegressor(
            n_estimators=100,
            learning_rate=0.05,
            num_leaves=15,
            min_child_samples=10,
            n_jobs=1,
            random_state=seed,
            deterministic=True,
            force_row_wise=True,
            verbose=-1,
        )
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-2, 4, 13)))


def _cross_fit_outcomes(covariates: Floats, outcomes: Floats, folds: NDArray[np.int64], kind: str, seed: int) -> Floats:
    """Cross-fit every outcome; ``auto`` takes, outcome by outcome, the model with the smaller held-out error."""
    if kind != "auto":
        return _cross_fit(covariates, outcomes, folds, kind, seed)
    tried = [_cross_fit(covariates, outcomes, folds, each, seed) for each in MODELS]
    errors = np.stack([((outcomes - predicted) ** 2).sum(axis=0) for predicted in tried])
    return np.asarray(np.choose(errors.argmin(axis=0)[None, :], tried))


def _cross_fit(covariates: Floats, targets: Floats, folds: NDArray[np.int64], kind: str, seed: int) -> Floats:
    predicted = np.empty_like(targets)
    for fold in np.unique(folds):
        out, kept = folds == fold, folds != fold
        for j in range(targets.shape[1]):
            if covariates.shape[1] == 0 or kind == "mean":
                predicted[out, j] = targets[kept, j].mean()
                continue
            model = make_regressor(kind, seed * 1000 + j).fit(covariates[kept], targets[kept, j])
            predicted[out, j] = model.predict(covariates[out])
    return predicted


def check_nuisances(roles: Roles, cfg: NuisanceConfig) -> None:
    """Refuse unknown models, a number of folds that cannot be, and a design's mean that the table lacks."""
    for key, value, allowed in (
        ("outcome", cfg.outcome, (*MODELS, "auto")),
        ("treatment", cfg.treatment, (*MODELS, "mean", "design", "auto")),
    ):
        if value not in allowed:
            raise AnalysisError(
                f"estimator.nuisance.{key}={value}{nearest_name(value, allowed)}; allowed: {', '.join(allowed)}."
            )
    if not 2 <= cfg.n_folds <= roles.n_runs:
        raise AnalysisError(f"estimator.nuisance.n_folds={cfg.n_folds}: from 2 to the number of runs ({roles.n_runs}).")
    if cfg.treatment == "design" and roles.design_mean is None:
        missing = [f"design.mean_log.{domain}" for domain in roles.domains]
        raise AnalysisError(
            f"estimator.nuisance.treatment=design needs the columns {', '.join(missing)}, which a sweep "
            "writes; this table lacks them: take estimator.nuisance.treatment=lightgbm."
        )
