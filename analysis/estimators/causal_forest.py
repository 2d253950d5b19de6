"""econml's CausalForestDML on shared residuals, one forest an ability, averaged with full covariance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.estimators.nuisances import Residuals
from analysis.roles import Roles
from causalmix.config import EstimatorConfig

Floats = NDArray[np.float64]

SUBFOREST = 4  # trees a bag; the number of trees must be a multiple of it


class ForestEffects(Effects):
    """``theta(x) = sum_a w_a theta_a(x)`` over the abilities' forests.

    All forests are grown with one seed, so bag g of every ability is grown on the same half-sample. The
    sampling error of the weighted mean is therefore read off the bags of the *mean* itself (bootstrap of
    little bags, Athey, Tibshirani and Wager 2019), and no covariance between abilities is assumed away.
    """

    def __init__(self, roles: Roles, model: Any):
        super().__init__(roles.domains, roles.x_names, roles.coordinates)
        self.model = model
        self._weights = roles.outcome_weights
        self._forests = model.model_final_.estimators_
        for forest in self._forests:
            forest.n_jobs = 1  # threads add in any order: the last bit would differ from call to call

    def thetas(self, X: Floats) -> Floats:
        """Return theta (m, K) at ``X`` (m, d)."""
        return np.asarray(np.einsum("a,mak->mk", self._weights, self.thetas_by_outcome(X)))

    def thetas_by_outcome(self, X: Floats) -> Floats:
        """Return theta of every outcome (m, A, K) at ``X`` (m, d)."""
        effects = self.model.const_marginal_effect(X)
        return self.coordinates.lift(effects.reshape(len(X), len(self._weights), -1))

    def covariances(self, X: Floats) -> Floats:
        """Return the covariance (m, K, K), de-biased for the Monte-Carlo error of small bags."""
        n_coordinates = self.coordinates.basis.shape[1]
        # Influence of each tree on the weighted theta: sum_a w_a J_a^-1 (J_at theta_a - alpha_at).
        influence = sum(
            weight * _influence(forest, X)[:, :, :n_coordinates] for weight, forest in zip(self._weights, self._forests)
        )
        assert not isinstance(influence, int)
        n_trees, m, _ = influence.shape
        bags = influence.reshape(n_trees // SUBFOREST, SUBFOREST, m, n_coordinates).mean(axis=1)
        between_raw = np.einsum("gmi,gmj->mij", bags, bags) / len(bags)
        total = np.einsum("tmi,tmj->mij", influence, influence) / n_trees
        mean = bags.mean(axis=0)
        between = between_raw - np.einsum("mi,mj->mij", mean, mean)
        excess = (total - between_raw) / (SUBFOREST - 1)
        return self.coordinates.lift_covariance(_debias(between, excess, len(bags)))

    def importances(self) -> Floats:
        """Return the share (d,) of the heterogeneity that each state feature splits on."""
        each = [forest.feature_importances() for forest in self._forests]
        return np.asarray(np.einsum("a,ad->d", self._weights, np.array(each)))


def fit_forest(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Grow one honest forest an ability on the shared residuals.

    The nuisances handed to econml predict zero: cross-fitting was done once, outside, and is shared by the
    abilities, the checks and every other family.
    """
    from econml.dml import CausalForestDML
    from sklearn.dummy import DummyRegressor

    n_outcomes, n_coordinates = residuals.outcomes.shape[1], residuals.Z.shape[1]
    model = CausalForestDML(
        model_y=DummyRegressor(strategy="constant", constant=np.zeros(n_outcomes)),
        model_t=DummyRegressor(strategy="constant", constant=np.zeros(n_coordinates)),
        cv=2,
        n_estimators=SUBFOREST * math.ceil(max(cfg.n_trees, 50) / SUBFOREST),
        subforest_size=SUBFOREST,
        criterion="het",
        min_samples_leaf=cfg.min_samples_leaf,
        max_samples=cfg.max_samples,
        random_state=seed,
        n_jobs=1,
        drate=False,  # its doubly robust averages take a second pass over all trees, and nothing here reads them
    )
    # The column vector of a single outcome is kept, so that every answer has an outcome axis.
    model.fit(residuals.outcomes, residuals.Z, X=roles.X)
    return ForestEffects(roles, model)


def _influence(forest: Any, X: Floats) -> Floats:
    """Return each tree's pull on the forest's estimate: (n_trees, m, K + 1)."""
    rows = np.ascontiguousarray(X, dtype=np.float64)
    each = [tree.predict_alpha_and_jac(rows, check_input=False) for tree in forest.estimators_]
    alpha = np.stack([a for a, _ in each])
    width = alpha.shape[2]
    jacobian = np.stack([j for _, j in each]).reshape(len(each), len(X), width, width)
    inverse = np.linalg.pinv(jacobian.mean(axis=0))
    theta = np.einsum("mij,mj->mi", inverse, alpha.mean(axis=0))
    moments = np.einsum("tmij,mj->tmi", jacobian, theta) - alpha
    return np.asarray(np.einsum("mij,tmj->tmi", inverse, moments))


def _debias(between: Floats, excess: Floats, n_bags: int) -> Floats:
    """Subtract the within-bag excess along each eigenvector, keeping every variance positive.

    The difference of two noisy variances can be negative; its posterior mean under a flat prior on the
    positive numbers (a truncated normal's mean) cannot.
    """
    from scipy.stats import norm

    _, vectors = np.linalg.eigh(between - excess)
    variance = np.einsum("mik,mij,mjk->mk", vectors, between, vectors)
    correction = np.einsum("mik,mij,mjk->mk", vectors, excess, vectors)
    spread = np.maximum(np.maximum(variance, correction) * math.sqrt(2.0 / n_bags), 1e-300)
    z = (variance - correction) / spread
    values = variance - correction + spread * np.exp(norm.logpdf(z) - norm.logcdf(z))
    return np.asarray(np.einsum("mik,mk,mjk->mij", vectors, np.clip(values, 0.0, None), vectors))
