"""Hyper-parameters of the process by marginal likelihood, and the posterior they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.kernel import Kernel, Points

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Solved:
    """One covariance of the runs, solved for the outcomes.

    Attributes
    ----------
    inverse : ndarray (n, n)
        ``K^-1``.
    alpha : ndarray (n, A)
        ``K^-1 y`` of every outcome.
    log_evidence : float
        ``log N(y; 0, K)`` of the weighted mean outcome.
    """

    inverse: Floats
    alpha: Floats
    log_evidence: float


def fit_values(kernel: Kernel, points: Points, y: Floats, max_search: int, extra: Floats | None = None) -> Floats:
    """Maximise the log evidence plus a weak log-normal prior over the hyper-parameters.

    Parameters
    ----------
    kernel : Kernel
    points : Points
    y : ndarray (n,)
        Outcome, mean 0 and variance 1.
    max_search : int
        Steps of L-BFGS.
    extra : ndarray (n, n), optional
        A fixed covariance added to the kernel's, of steps already found.

    Returns
    -------
    ndarray (size,)
    """
    from scipy.optimize import minimize

    start, sd = kernel.start(), kernel.prior_sd()

    def cost(values: Floats) -> tuple[float, Floats]:
        found: list[float] = []

        def weigh(K: Floats) -> Floats:
            solved = solve(K if extra is None else K + extra, y[:, None], y)
            found.append(solved.log_evidence)
            return np.outer(solved.alpha[:, 0], solved.alpha[:, 0]) - solved.inverse

        gradient = 0.5 * kernel.differentiate(values, points, weigh)[1]
        strayed = (values - start) / sd
        return -found[0] + 0.5 * float(strayed @ strayed), -gradient + strayed / sd

    bounds = [(centre - 5.0, centre + 5.0) for centre in start]
    result = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": max_search})
    return np.asarray(result.x)


def solve(K: Floats, outcomes: Floats, y: Floats) -> Solved:
    """Invert a covariance (n, n) and apply it to the outcomes (n, A); the evidence is of ``y`` (n,)."""
    from scipy.linalg import lapack

    n = len(K)
    factor, failed = lapack.dpotrf(K + 1e-8 * np.eye(n), lower=1, overwrite_a=1)
    assert failed == 0, "a covariance with noise on its diagonal is positive definite"
    log_determinant = 2.0 * float(np.log(np.diag(factor)).sum())
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    fit = float(y @ inverse @ y)
    return Solved(inverse, inverse @ outcomes, -0.5 * (fit + log_determinant + n * np.log(2 * np.pi)))


def cross_effects(kernel: Kernel, values: Floats, points: Points, state: Floats) -> tuple[Floats, Floats]:
    """Return the prior variance (p,) of theta at one state (d,) and its covariance with the runs' outcomes (n, p)."""
    n_coordinates = points.R.shape[1]
    kinds = range(1 if kernel.is_shared else n_coordinates)
    across = np.column_stack([kernel.effects(values, points.X, state[None, :], p)[:, 0] for p in kinds])
    own = np.array([kernel.effects(values, state[None, :], state[None, :], p)[0, 0] for p in kinds])
    return np.broadcast_to(own, n_coordinates), across * points.R
