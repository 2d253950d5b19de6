"""A Gaussian process on the square roots of the shares."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from analysis.regressors.regressor import check_rows

Floats = NDArray[np.float64]

_CHUNK = 4096  # rows predicted at once: the kernel of 100,000 candidates would not fit
_JITTER = 1e-8
_BOUNDS = ((-3.0, 5.0), (-4.0, 5.0), (-7.0, 1.0))
_STARTS = ((0.0, 0.0, -1.5), (0.0, -1.5, -0.5))


class SqrtShareGP:
    """``Y = mu + f(sqrt(T)) + e``, f a Gaussian process with a squared-exponential kernel.

    ``k(T, T') = s^2 exp(-|sqrt(T) - sqrt(T')|^2 / (2 l^2))``: square roots put mixtures on a sphere, where the
    distance is Hellinger's. The logarithms of s, l and the noise are those of the greatest marginal likelihood
    (L-BFGS from two fixed starts, exact gradient); mu is the mean outcome. Nothing is random.

    Attributes
    ----------
    log_scales : ndarray (3,)
        Logarithms of s, l and the noise; s and noise in standard deviations of the outcome.
    """

    def __init__(self) -> None:
        self.log_scales = np.empty(0)
        self._roots = np.empty((0, 0))
        self._dual = np.empty(0)
        self._centre, self._scale = 0.0, 1.0

    def fit(self, T: Floats, y: Floats) -> Self:
        """Fit ``y`` (n,) on ``T`` (n, K); needs 5 rows."""
        from scipy.optimize import minimize

        check_rows(T, y, 5, "gp")
        self._roots = np.sqrt(T)
        self._centre, self._scale = float(y.mean()), float(y.std())
        standard = (y - self._centre) / self._scale
        distances = _square_distances(self._roots, self._roots)
        found = [
            minimize(_measure_evidence, start, args=(distances, standard), jac=True, method="L-BFGS-B", bounds=_BOUNDS)
            for start in _STARTS
        ]
        self.log_scales = min(found, key=lambda result: float(result.fun)).x
        noise = np.exp(2 * self.log_scales[2]) + _JITTER
        kernel = _evaluate_kernel(self.log_scales, distances)
        self._dual = np.linalg.solve(kernel + noise * np.eye(len(y)), standard)
        return self

    def predict(self, T: Floats) -> Floats:
        """Return the posterior mean (m,) at ``T`` (m, K)."""
        parts = []
        for start in range(0, len(T), _CHUNK):
            distances = _square_distances(np.sqrt(T[start : start + _CHUNK]), self._roots)
            parts.append(_evaluate_kernel(self.log_scales, distances) @ self._dual)
        return np.asarray(self._centre + self._scale * np.concatenate(parts))


def _square_distances(one: Floats, two: Floats) -> Floats:
    cross = (one**2).sum(axis=1)[:, None] + (two**2).sum(axis=1) - 2.0 * one @ two.T
    return np.asarray(np.maximum(cross, 0.0))


def _evaluate_kernel(log_scales: Floats, distances: Floats) -> Floats:
    return np.asarray(np.exp(2 * log_scales[0] - 0.5 * distances * np.exp(-2 * log_scales[1])))


def _measure_evidence(log_scales: Floats, distances: Floats, y: Floats) -> tuple[float, Floats]:
    """Return the negative log marginal likelihood, up to a constant, and its gradient (3,)."""
    kernel = _evaluate_kernel(log_scales, distances)
    noise = np.exp(2 * log_scales[2])
    root = np.linalg.cholesky(kernel + (noise + _JITTER) * np.eye(len(y)))
    half = np.linalg.inv(root)
    inverse = half.T @ half
    dual = inverse @ y
    value = 0.5 * float(y @ dual) + float(np.log(np.diag(root)).sum())
    pull = inverse - np.outer(dual, dual)
    by_length = 0.5 * float((pull * kernel * distances).sum()) * np.exp(-2 * log_scales[1])
    return value, np.array([float((pull * kernel).sum()), by_length, float(np.trace(pull)) * noise])
