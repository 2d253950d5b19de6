"""The ablation without orthogonalisation: LightGBM of Y on [X, Z], an S-learner."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects, clip_to_psd
from analysis.estimators.nuisances import Residuals, make_regressor
from analysis.roles import Roles
from causalmix.config import EstimatorConfig

Floats = NDArray[np.float64]

N_HALVES = 12  # half-sample refits behind the covariance
N_PROBES = 64  # training mixtures over which the surface is projected on Z


class SurfaceEffects(Effects):
    """``f(x, z)``, with theta(x) its least-squares slope on z over the runs' own mixtures.

    A half-sample without replacement has the full sample's variance around it, so the refits' covariance
    is that of theta.
    """

    def __init__(self, roles: Roles, models: list[Any], halves: list[list[Any]]):
        super().__init__(roles.domains, roles.x_names, roles.coordinates)
        self._weights = roles.outcome_weights
        self._models, self._halves = models, halves
        self._probes = roles.Z[:: max(1, roles.n_runs // N_PROBES)]
        centred = self._probes - self._probes.mean(axis=0)
        self._projector = np.linalg.pinv(centred, rcond=1e-8)

    def thetas(self, X: Floats) -> Floats:
        """Return theta (m, K) at ``X`` (m, d)."""
        return np.asarray(np.einsum("a,mak->mk", self._weights, self.thetas_by_outcome(X)))

    def thetas_by_outcome(self, X: Floats) -> Floats:
        """Return theta of every outcome (m, A, K) at ``X`` (m, d)."""
        return self._project(self._models, X)

    def covariances(self, X: Floats) -> Floats:
        """Return the covariance (m, K, K) over half-sample refits."""
        each = np.stack([np.einsum("a,mak->mk", self._weights, self._project(m, X)) for m in self._halves])
        deviations = each - self.thetas(X)
        return clip_to_psd(np.einsum("bmi,bmj->mij", deviations, deviations) / len(self._halves))

    def predict(self, x: Floats, mixtures: Floats) -> Floats:
        """Return f(x, log T) (m,) for ``mixtures`` (m, K), points."""
        return self._evaluate(self._models, x, self.coordinates.transform(mixtures))

    def gain(self, x: Floats, mixture: Floats, reference: Floats) -> tuple[float, float]:
        """Return ``f(x, T) - f(x, q)`` and its variance over half-sample refits."""
        pair = self.coordinates.transform(np.stack([mixture, reference]))
        up, down = self._evaluate(self._models, x, pair)
        each = np.array([self._evaluate(models, x, pair) for models in self._halves])
        deviations = (each[:, 0] - each[:, 1]) - (up - down)
        return float(up - down), float(np.mean(deviations**2))

    def _evaluate(self, models: list[Any], x: Floats, Z: Floats) -> Floats:
        inputs = np.hstack([np.broadcast_to(x, (len(Z), len(x))), Z])
        return np.asarray(np.stack([m.predict(inputs) for m in models], axis=1) @ self._weights)

    def _project(self, models: list[Any], X: Floats) -> Floats:
        m, p = len(X), len(self._probes)
        inputs = np.hstack([np.repeat(X, p, axis=0), np.tile(self._probes, (m, 1))])
        surfaces = np.stack([model.predict(inputs) for model in models]).reshape(len(models), m, p)
        return self.coordinates.lift(np.swapaxes(surfaces @ self._projector.T, 0, 1))


def fit_surface(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Fit one LightGBM an ability on [X, Z], and again on half-samples for the covariance."""
    rng = np.random.default_rng([seed, 17])
    halves = [np.sort(rng.choice(roles.n_runs, roles.n_runs // 2, replace=False)) for _ in range(N_HALVES)]
    rows = np.arange(roles.n_runs)
    return SurfaceEffects(roles, _fit(roles, rows, seed), [_fit(roles, half, seed) for half in halves])


def _fit(roles: Roles, rows: NDArray[np.int64], seed: int) -> list[Any]:
    inputs = np.hstack([roles.X, roles.Z])[rows]
    return [make_regressor("lightgbm", seed).fit(inputs, y) for y in roles.outcomes[rows].T]
