"""What is not linear in the log of a share: one parabola a domain, its size learnt from the runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.coordinates import Coordinates
from analysis.estimators.gp.evidence import fit_values
from analysis.estimators.gp.kernel import Kernel, Points
from analysis.estimators.gp.units import standardise
from analysis.estimators.linear import count_polynomial, make_polynomial
from analysis.estimators.nuisances import Residuals
from analysis.roles import Roles
from causalmix.config import EstimatorConfig
from causalmix.errors import AnalysisError

Floats = NDArray[np.float64]

N_SEARCHED = 512  # runs that the process's hyper-parameters are searched on
START = 0.1  # size of a parabola while they are, in standard deviations of the outcome
SIZES = np.concatenate([[0.0], np.geomspace(0.01, 1.0, 30)])  # of a parabola, times that of an effect, a log share
LOG_PRIOR = np.log(np.concatenate([[0.5], np.full(30, 0.5 / 30)]))  # half of it to no curvature at all


@dataclass(frozen=True)
class Curve:
    """``c(T) = sum_k b_k s_k(T)``, the parabolas ``s_k = (l_k - centre_k)^2`` less their linear part.

    ``l = embed(T)``, the logs of the shares. The linear part is that over the runs, so that theta stays what it
    is without curvature: the least-squares slope over the mixtures that were tried.

    Attributes
    ----------
    coordinates : Coordinates
    centre : ndarray (K,)
        Mean log shares of the runs.
    line : ndarray (K + 1, K)
        Intercepts and slopes of the squares on the log shares.
    sizes : ndarray (A, K)
        b of every outcome, points per squared log share; negative where more of a domain is worth less and less.
    covariance : ndarray (K, K)
        Of the weighted mean's b.
    weights : ndarray (A,)
        Of the outcomes.
    """

    coordinates: Coordinates
    centre: Floats
    line: Floats
    sizes: Floats
    covariance: Floats
    weights: Floats

    @property
    def mean_sizes(self) -> Floats:
        """Sizes (K,) of the weighted mean outcome."""
        return np.asarray(self.weights @ self.sizes)

    def expand(self, mixtures: Floats) -> Floats:
        """Return the regressors s (m, K) of mixtures (m, K)."""
        return _bend(self.coordinates.embed(mixtures), self.centre, self.line)

    def value(self, mixtures: Floats) -> Floats:
        """Return c (m,) of mixtures (m, K), points."""
        return np.asarray(self.expand(mixtures) @ self.mean_sizes)

    def value_by_outcome(self, mixtures: Floats) -> Floats:
        """Return c of every outcome (m, A) of mixtures (m, K), points."""
        return np.asarray(self.expand(mixtures) @ self.sizes.T)

    def slope(self, mixture: Floats) -> Floats:
        """Return the derivative (K,) of c by the embedding at one mixture (K,)."""
        off = self.coordinates.embed(mixture) - self.centre
        return np.asarray(2.0 * off * self.mean_sizes - self.line[1:] @ self.mean_sizes)

    def gain(self, mixture: Floats, reference: Floats) -> tuple[float, float]:
        """Return what the curve adds to the gain of a mixture, and the variance of that."""
        d = np.subtract(*self.expand(np.stack([mixture, reference])))
        return float(d @ self.mean_sizes), float(d @ self.covariance @ d)


def fit_curve(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Curve:
    """Estimate the parabolas by generalised least squares, shrunk as much as the runs ask for.

    ``Y = g(x) + theta(x)' (Z - e) + b' s(T) + noise`` with g and theta the smooth process of
    ``varying_coefficient_gp``, and ``b ~ N(0, t^2)``. The process's hyper-parameters maximise the marginal
    likelihood; over t it is averaged, half of the prior on t = 0, no curvature at all, the other on a hundredth of
    the size of an effect to as much: where mixtures hardly differ, runs cannot say that a parabola is not huge.

    Parameters
    ----------
    roles : Roles
        With log shares as coordinates (``log`` or ``ilr_even``).
    residuals : Residuals
    cfg : EstimatorConfig
    seed : int
        Of the runs that hyper-parameters are searched on, where there are more than 512.

    Raises
    ------
    AnalysisError
        Coordinates that cannot tell the level of the logs, whose squares move it.

    Notes
    -----
    Empirical Bayes for the coefficients of one group: MacKay, "Bayesian interpolation", Neural Computation 4 (1992).
    """
    if not roles.coordinates.has_level:
        raise AnalysisError(
            f"estimator.curvature=true with estimator.coordinates={roles.coordinates.name}: parabolas are in the logs "
            "of the shares. Take estimator.coordinates=log."
        )
    if not roles.x_names:
        roles = dataclasses.replace(roles, X=np.zeros((roles.n_runs, 1)))
    logs = roles.coordinates.embed(roles.mixtures)
    centre = logs.mean(axis=0)
    line = np.linalg.lstsq(_with_ones(logs), (logs - centre) ** 2, rcond=None)[0]
    columns = remove_state(roles, _bend(logs, centre, line))
    points, outcomes, scale = standardise(roles, residuals)
    unit = float(columns.std()) or 1.0
    sizes, covariance = _shrink(points, outcomes, roles.outcome_weights, columns / unit, unit / scale.z, cfg, seed)
    back = scale.y / unit
    return Curve(roles.coordinates, centre, line, sizes * back, covariance * back**2, roles.outcome_weights)


def straighten(curve: Curve, roles: Roles, residuals: Residuals) -> tuple[Roles, Residuals]:
    """Take the curve out of the outcomes and their residuals: what is left is for a family linear in the logs."""
    bends = curve.expand(roles.mixtures)
    straight = dataclasses.replace(roles, outcomes=roles.outcomes - bends @ curve.sizes.T)
    left = residuals.outcomes - remove_state(roles, bends) @ curve.sizes.T
    return straight, dataclasses.replace(residuals, outcomes=left)


def remove_state(roles: Roles, columns: Floats) -> Floats:
    """Subtract what a quadratic of the state says of the columns (n, J), where mixtures were not drawn at random."""
    if roles.randomised or not roles.x_names:
        return columns
    degree = 2 if roles.n_runs > 4 * count_polynomial(roles.X.shape[1], 2) else 1
    phi = make_polynomial(roles.X, degree)(roles.X)
    return np.asarray(columns - phi @ np.linalg.lstsq(phi, columns, rcond=None)[0])


def _shrink(
    points: Points, outcomes: Floats, weights: Floats, columns: Floats, unit: float, cfg: EstimatorConfig, seed: int
) -> tuple[Floats, Floats]:
    """Return the posterior mean (A, K) and covariance (K, K) of the columns' coefficients, on top of the process.

    ``unit`` is that of a column over that of Z.
    """
    from scipy.linalg import cho_solve

    y, n = outcomes @ weights, len(outcomes)
    kernel = Kernel(np.tile(np.arange(points.X.shape[1]), (points.R.shape[1], 1)), cfg.smoothness, False)
    rows = np.sort(np.random.default_rng([seed, 59]).permutation(n)[:N_SEARCHED])
    extra = START**2 * columns[rows] @ columns[rows].T
    values = fit_values(kernel, points.take(rows), y[rows], cfg.max_search, extra=extra)
    K = kernel.covariance(values, points)
    K[np.diag_indices(n)] += 1e-8
    half = cho_solve((np.linalg.cholesky(K), True), np.column_stack([columns, outcomes]))
    matrix, vectors = columns.T @ half[:, : columns.shape[1]], columns.T @ half[:, columns.shape[1] :]
    sizes = SIZES * unit * np.sqrt(np.exp(2 * values[1:4]).sum())
    logs = np.array([_weigh(t**2, matrix, vectors @ weights) for t in sizes]) + LOG_PRIOR
    shares = np.exp(logs - np.logaddexp.reduce(logs))
    covariances = [np.linalg.inv(matrix + np.eye(len(matrix)) / t**2) if t else 0.0 * matrix for t in sizes]
    means = np.stack([each @ vectors for each in covariances])  # (s, K, A)
    mean = np.einsum("s,ska->ka", shares, means)
    strayed = (means - mean) @ weights
    covariance = np.einsum("s,sij->ij", shares, np.stack(covariances))
    return mean.T, covariance + np.einsum("s,si,sj->ij", shares, strayed, strayed)


def _weigh(variance: float, matrix: Floats, vector: Floats) -> float:
    """Return the log Bayes factor of coefficients of one variance over none."""
    M = np.eye(len(matrix)) + variance * matrix
    return float(0.5 * variance * vector @ np.linalg.solve(M, vector) - 0.5 * np.linalg.slogdet(M)[1])


def _bend(logs: Floats, centre: Floats, line: Floats) -> Floats:
    return np.asarray((logs - centre) ** 2 - _with_ones(logs) @ line)


def _with_ones(logs: Floats) -> Floats:
    return np.column_stack([np.ones(len(logs)), logs])
