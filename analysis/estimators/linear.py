"""Families whose theta(x) is linear in its coefficients: linear_dml, own_state, no_covariates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects, clip_to_psd
from analysis.estimators.nuisances import Residuals
from analysis.roles import Roles
from causalmix.config import EstimatorConfig
from causalmix.errors import AnalysisError, name_some

Floats = NDArray[np.float64]
Basis = Callable[[Floats], Floats]  # states (m, d) -> (m, K, p)


class LinearEffects(Effects):
    """``theta(x) = A(x) beta``: least squares of the outcome residual on ``z' A(x)``, HC3 covariance.

    As least squares is linear in Y, fitting each ability and averaging after is the same as fitting the
    weighted mean, which is what is done.
    """

    def __init__(self, roles: Roles, residuals: Residuals, basis: Basis):
        super().__init__(roles.domains, roles.x_names, roles.log_offset)
        self._basis = basis
        regressors = np.einsum("nk,nkp->np", residuals.Z, basis(roles.X))
        y = residuals.outcomes @ roles.outcome_weights
        # Pseudo-inverse with a cut-off: a direction the runs never moved in gets no effect, not a wild one.
        bread = np.linalg.pinv(regressors.T @ regressors, rcond=1e-10, hermitian=True)
        self.beta = bread @ (regressors.T @ y)
        leverage = np.einsum("np,pq,nq->n", regressors, bread, regressors)
        errors = (y - regressors @ self.beta) / np.clip(1.0 - leverage, 0.05, None)
        scores = regressors * errors[:, None]
        self.beta_covariance = bread @ (scores.T @ scores) @ bread

    def thetas(self, X: Floats) -> Floats:
        """Return theta (m, K) at ``X`` (m, d)."""
        return np.asarray(self._basis(X) @ self.beta)

    def covariances(self, X: Floats) -> Floats:
        """Return the HC3 covariance (m, K, K) of theta at ``X`` (m, d)."""
        A = self._basis(X)
        return clip_to_psd(np.einsum("mkp,pq,mjq->mkj", A, self.beta_covariance, A))


def fit_linear(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Fit ``theta_k(x) = a_k + b_k' x`` (linear DML). The seed is not used: there is nothing random."""
    centre, scale = _standardise(roles.X)
    n_domains = len(roles.domains)

    def basis(X: Floats) -> Floats:
        phi = np.hstack([np.ones((len(X), 1)), (X - centre) / scale])
        return np.asarray(np.einsum("kj,mp->mkjp", np.eye(n_domains), phi).reshape(len(X), n_domains, -1))

    return LinearEffects(roles, residuals, basis)


def fit_own_state(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Fit ``theta_k(x) = a_k + b' x_k``: a domain's worth depends on its own state, b shared by all.

    Raises
    ------
    AnalysisError
        Where a feature is not known for every domain.
    """
    columns = _find_own_columns(roles)
    centre, scale = _standardise(roles.X)
    # One scale a feature, over its domains: b is shared, so its unit must be.
    for indices in columns.T:
        centre[indices], scale[indices] = roles.X[:, indices].mean(), roles.X[:, indices].std() or 1.0
    n_domains = len(roles.domains)

    def basis(X: Floats) -> Floats:
        own = ((X - centre) / scale)[:, columns]  # (m, K, F)
        intercepts = np.broadcast_to(np.eye(n_domains), (len(X), n_domains, n_domains))
        return np.concatenate([intercepts, own], axis=2)

    return LinearEffects(roles, residuals, basis)


def fit_constant(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Fit one theta for all states, from Z alone (the state-agnostic ablation)."""
    n_domains = len(roles.domains)
    return LinearEffects(roles, residuals, lambda X: np.broadcast_to(np.eye(n_domains), (len(X), n_domains, n_domains)))


def _standardise(X: Floats) -> tuple[Floats, Floats]:
    scale = X.std(axis=0)
    return X.mean(axis=0), np.where(scale > 0, scale, 1.0)


def _find_own_columns(roles: Roles) -> NDArray[np.int64]:
    """Return the column of X (K, F) that holds feature f of domain k."""
    features = list(dict.fromkeys(name.split(".", 1)[0] for name in roles.x_names if "." in name))
    wanted = [[f"{feature}.{domain}" for feature in features] for domain in roles.domains]
    missing = [name for row in wanted for name in row if name not in roles.x_names]
    if missing or not features:
        raise AnalysisError(
            "estimator=own_state needs every feature for every domain (columns state.<feature>.<domain>, "
            f"estimator.state=domain) and values that vary; missing: {name_some(missing) or 'all of them'}."
        )
    return np.array([[roles.x_names.index(name) for name in row] for row in wanted])
