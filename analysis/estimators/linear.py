"""Families whose theta(x) is linear in its coefficients: linear_dml, constant_dml, own_state, no_covariates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects, clip_to_psd
from analysis.estimators.nuisances import Residuals
from analysis.roles import Roles
from causalmix.config import EstimatorConfig
from causalmix.errors import AnalysisError, name_some

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Basis:
    """``A(x)`` (p, b): p coordinates, b coefficients, every entry a product of two of ``s = (1, standardised x)``.

    Attributes
    ----------
    centre, scale : ndarray (d,)
        ``(x - centre) / scale`` is the standardised state.
    entries : ndarray of int (m, 4)
        ``A[p, b] = s_i s_j`` for each row p, b, i, j; all other entries are zero.
    """

    centre: Floats
    scale: Floats
    entries: Indices

    def __call__(self, X: Floats) -> Floats:
        """Return A (m, p, b) at states (m, d)."""
        s = np.hstack([np.ones((len(X), 1)), (X - self.centre) / self.scale])
        p, b, i, j = self.entries.T
        A = np.zeros((len(X), p.max() + 1, b.max() + 1))
        A[:, p, b] = s[:, i] * s[:, j]
        return A


class LinearEffects(Effects):
    """``theta(x) = A(x) beta``: least squares of the outcome residual on ``z' A(x)``, HC3 covariance.

    A is a :class:`Basis`, or any other function from states (m, d) to (m, p, b).

    Least squares is linear in Y: the weighted mean of the abilities' fits is the fit of their weighted mean,
    and the covariance is taken from the residuals of that mean, so abilities may be correlated.
    """

    def __init__(self, roles: Roles, residuals: Residuals, basis: Callable[[Floats], Floats]):
        super().__init__(roles.domains, roles.x_names, roles.coordinates)
        self.basis = basis
        regressors = np.einsum("np,npb->nb", residuals.Z, basis(roles.X))
        # Pseudo-inverse with a cut-off: a direction the runs never moved in gets no effect, not a wild one.
        bread = np.linalg.pinv(regressors.T @ regressors, rcond=1e-10, hermitian=True)
        self.betas = bread @ (regressors.T @ residuals.outcomes)  # (b, A)
        self.beta = self.betas @ roles.outcome_weights
        y = residuals.outcomes @ roles.outcome_weights
        leverage = np.einsum("nb,bc,nc->n", regressors, bread, regressors)
        errors = (y - regressors @ self.beta) / np.clip(1.0 - leverage, 0.05, None)
        scores = regressors * errors[:, None]
        self.beta_covariance = bread @ (scores.T @ scores) @ bread

    def thetas(self, X: Floats) -> Floats:
        """Return theta (m, K) at ``X`` (m, d)."""
        return self.coordinates.lift(self.basis(X) @ self.beta)

    def thetas_by_outcome(self, X: Floats) -> Floats:
        """Return theta of every outcome (m, A, K) at ``X`` (m, d)."""
        return self.coordinates.lift(np.einsum("mpb,ba->map", self.basis(X), self.betas))

    def covariances(self, X: Floats) -> Floats:
        """Return the HC3 covariance (m, K, K) of theta at ``X`` (m, d)."""
        A = self.basis(X)
        own = np.einsum("mpb,bc,mqc->mpq", A, self.beta_covariance, A)
        return clip_to_psd(self.coordinates.lift_covariance(own))


def fit_linear(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Fit ``theta_k(x) = a_k + b_k' x`` (``degree`` 1), or with the squares and products of x too (2).

    Least squares on ``z (x) phi(x)`` (linear double machine learning, Chernozhukov et al. 2018). The seed is
    not used: there is nothing random.
    """
    i, j = _list_products(roles.X.shape[1], cfg.degree)
    n_coordinates, width = residuals.Z.shape[1], len(i)
    p = np.repeat(np.arange(n_coordinates), width)
    entries = np.stack([p, np.arange(len(p)), np.tile(i, n_coordinates), np.tile(j, n_coordinates)], axis=1)
    return LinearEffects(roles, residuals, Basis(*_standardise(roles.X), entries))


def make_polynomial(X: Floats, degree: int) -> Callable[[Floats], Floats]:
    """Return phi: states (m, d) -> (m, count): 1, x standardised as ``X`` is, and for ``degree`` 2 its products."""
    i, j = _list_products(X.shape[1], degree)
    centre, scale = _standardise(X)

    def expand(states: Floats) -> Floats:
        s = np.hstack([np.ones((len(states), 1)), (states - centre) / scale])
        return np.asarray(s[:, i] * s[:, j])

    return expand


def _list_products(n_features: int, degree: int) -> tuple[Indices, Indices]:
    """Return the terms of a polynomial as products of two of ``(1, x)``: 1, each x, each square and product."""
    if degree not in (1, 2):
        raise AnalysisError(f"estimator.degree={degree}; allowed: 1 (linear in the state), 2 (quadratic).")
    linear = np.arange(n_features + 1)
    first, second = np.triu_indices(n_features) if degree == 2 else (linear[:0], linear[:0])
    return np.concatenate([linear, first + 1]), np.concatenate([np.zeros_like(linear), second + 1])


def count_polynomial(n_features: int, degree: int) -> int:
    """Return the number of terms of :func:`make_polynomial`."""
    return 1 + n_features + (n_features * (n_features + 1) // 2 if degree == 2 else 0)


def fit_own_state(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Fit ``theta_k(x) = a_k + b' x_k``: a domain's worth depends on its own state, b shared by all.

    Raises
    ------
    AnalysisError
        Where a feature is not known for every domain, or coordinates that mix the domains.
    """
    columns = find_own_columns(roles)
    centre, scale = _standardise(roles.X)
    # One scale a feature, over its domains: b is shared, so its unit must be.
    for indices in columns.T:
        centre[indices], scale[indices] = roles.X[:, indices].mean(), roles.X[:, indices].std() or 1.0
    n_domains, n_features = columns.shape
    k = np.arange(n_domains)
    intercepts = np.stack([k, k, 0 * k, 0 * k], axis=1)
    p, f = np.repeat(k, n_features), np.tile(np.arange(n_features), n_domains)
    slopes = np.stack([p, n_domains + f, columns[p, f] + 1, 0 * p], axis=1)
    return LinearEffects(roles, residuals, Basis(centre, scale, np.concatenate([intercepts, slopes])))


def fit_constant(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Fit one theta for all states (constant_dml; the state-agnostic ablation where the residuals saw no state)."""
    p = np.arange(residuals.Z.shape[1])
    return LinearEffects(roles, residuals, Basis(*_standardise(roles.X), np.stack([p, p, 0 * p, 0 * p], axis=1)))


def _standardise(X: Floats) -> tuple[Floats, Floats]:
    scale = X.std(axis=0)
    return X.mean(axis=0), np.where(scale > 0, scale, 1.0)


def has_own_columns(roles: Roles) -> bool:
    """Whether X is made of the same features of every domain."""
    features = {name.split(".", 1)[0] for name in roles.x_names}
    return bool(features) and set(roles.x_names) == {f"{f}.{d}" for f in features for d in roles.domains}


def find_own_columns(roles: Roles) -> NDArray[np.int64]:
    """Return the column of X (K, F) that holds feature f of domain k."""
    if roles.coordinates.name != "log":
        raise AnalysisError(
            f"estimator.coordinates={roles.coordinates.name}: effects that depend on a domain's own state need one "
            "coordinate a domain. Take estimator.coordinates=log."
        )
    features = list(dict.fromkeys(name.split(".", 1)[0] for name in roles.x_names if "." in name))
    wanted = [[f"{feature}.{domain}" for feature in features] for domain in roles.domains]
    missing = [name for row in wanted for name in row if name not in roles.x_names]
    if missing or not features:
        raise AnalysisError(
            "estimator=own_state needs every feature for every domain (columns state.<feature>.<domain>, "
            f"estimator.state=domain) and values that vary; missing: {name_some(missing) or 'all of them'}."
        )
    return np.array([[roles.x_names.index(name) for name in row] for row in wanted])
