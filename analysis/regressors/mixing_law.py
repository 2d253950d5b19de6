"""The data mixing law (Ye et al. 2024, arXiv 2403.16952): exponential in the shares."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from analysis.regressors.regressor import check_rows

Floats = NDArray[np.float64]

_EXPONENT_MAX = 50.0  # beyond it a start has run away; clipped, so that no value overflows
_ITERATIONS = 400  # the right sign needs fewer; the wrong one crawls towards a straight line


class MixingLaw:
    """``E[Y | T] = c + k exp(t' T)``, k of either sign, by a Huber loss.

    As shares sum to one, the size of k is one more t on all of them, so c, t and the sign are what is fitted:
    L-BFGS from seeded starts for each sign, the least loss wins. Losses fall towards c (k > 0), scores rise
    towards it (k < 0).

    Parameters
    ----------
    delta : float
        Where the Huber loss turns linear, in standard deviations of the outcome.
    n_starts : int
        Starts for each sign; the first is flat, the others scatter around it.
    seed : int
    """

    def __init__(self, delta: float = 0.02, n_starts: int = 3, seed: int = 0):
        self.delta = delta
        self.n_starts = n_starts
        self.seed = seed
        self.floor, self.sign, self.log_size = 0.0, 1.0, 0.0
        self.slopes = np.empty(0)

    def fit(self, T: Floats, y: Floats) -> Self:
        """Fit ``y`` (n,) on ``T`` (n, K); needs K + 2 rows."""
        from scipy.optimize import minimize

        check_rows(T, y, T.shape[-1] + 2, "mixing_law")
        centre, scale = float(y.mean()), float(y.std())
        standard = (y - centre) / scale
        rng = np.random.default_rng([self.seed, 41])
        best = np.inf
        for sign in (1.0, -1.0):
            for start in self._list_starts(standard, sign, T.shape[1], rng):
                found = minimize(
                    self._measure,
                    start,
                    args=(T, standard, sign),
                    jac=True,
                    method="L-BFGS-B",
                    options={"maxiter": _ITERATIONS},
                )
                if found.fun < best:
                    best, solution, self.sign = float(found.fun), found.x, sign
        self.floor = centre + scale * float(solution[0])
        self.slopes, self.log_size = solution[1:], float(np.log(scale))
        return self

    def predict(self, T: Floats) -> Floats:
        """Return the outcomes (m,) of ``T`` (m, K)."""
        return np.asarray(self.floor + self.sign * np.exp(np.minimum(T @ self.slopes, _EXPONENT_MAX) + self.log_size))

    def differentiate(self, T: Floats) -> Floats:
        """Return ``d E[Y | T] / dT`` (m, K) at ``T`` (m, K)."""
        return np.asarray((self.predict(T) - self.floor)[:, None] * self.slopes)

    def _list_starts(self, y: Floats, sign: float, n_domains: int, rng: np.random.Generator) -> list[Floats]:
        """Start half a standard deviation beyond the outcomes, with the right mean distance from there."""
        floor = (sign * y).min() * sign - 0.5 * sign
        level = float(np.log(np.abs(y - floor).mean()))
        starts = [np.concatenate([[floor], np.full(n_domains, level)])]
        for _ in range(self.n_starts - 1):
            scattered = level + 0.5 * rng.normal(size=n_domains)
            starts.append(np.concatenate([[floor + 0.5 * rng.normal()], scattered]))
        return starts

    def _measure(self, parameters: Floats, T: Floats, y: Floats, sign: float) -> tuple[float, Floats]:
        """Return the mean Huber loss, divided by delta, and its gradient."""
        raised = sign * np.exp(np.clip(T @ parameters[1:], -_EXPONENT_MAX, _EXPONENT_MAX))
        errors = parameters[0] + raised - y
        size = np.abs(errors)
        losses = np.where(size <= self.delta, 0.5 * errors**2 / self.delta, size - 0.5 * self.delta)
        slope = np.clip(errors / self.delta, -1.0, 1.0) / len(y)
        return float(losses.mean()), np.concatenate([[slope.sum()], T.T @ (slope * raised)])
