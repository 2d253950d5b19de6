"""Hyper-parameters of the process by marginal likelihood, and the posterior they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.climb import Evidence
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


def fit_values(
    kernel: Kernel,
    points: Points,
    y: Floats,
    max_search: int,
    extra: Floats | None = None,
    known: Floats | None = None,
    fixed: tuple[int, ...] = (),
) -> Floats:
    """Maximise the log evidence plus a weak log-normal prior over the hyper-parameters.

    Parameters
    ----------
    kernel : Kernel
    points : Points
    y : ndarray (n,)
        Outcome, mean 0 and variance 1.
    max_search : int
        Steps of the search.
    extra : ndarray (n, n), optional
        A fixed covariance added to the kernel's, of steps already found.
    known : ndarray (size,), optional
        Where to start; the centre of the prior where nothing is given.
    fixed : tuple of int
        Which of them stay there.

    Returns
    -------
    ndarray (size,)
    """
    return Evidence(kernel, points, y).maximise(max_search, extra, known, fixed)


def solve(K: Floats, outcomes: Floats, y: Floats) -> Solved:
    """Invert a covariance (n, n) and apply it to the outcomes (n, A); the evidence is of ``y`` (n,)."""
    lower, _, log_evidence = _invert(K, y)
    inverse = lower + np.tril(lower, -1).T
    return Solved(inverse, inverse @ outcomes, log_evidence)


def _invert(K: Floats, y: Floats) -> tuple[Floats, Floats, float]:
    """Return the lower triangle of ``K^-1``, ``K^-1 y`` and ``log N(y; 0, K)``; K's own lower triangle is read."""
    from scipy.linalg import lapack

    factor, log_determinant = _factor(K)
    alpha, _ = lapack.dpotrs(factor, y, lower=1)
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    return inverse, alpha, -0.5 * (float(y @ alpha) + log_determinant + len(K) * np.log(2 * np.pi))


def _factor(K: Floats) -> tuple[Floats, float]:
    """Return the Cholesky factor of K, a little added to its diagonal, and its log determinant."""
    from scipy.linalg import lapack

    jittered = np.array(K, order="F")
    jittered[np.diag_indices(len(K))] += 1e-8
    factor, failed = lapack.dpotrf(jittered, lower=1, clean=1, overwrite_a=1)
    assert failed == 0, "a covariance with noise on its diagonal is positive definite"
    return factor, 2.0 * float(np.log(np.diag(factor)).sum())


def cross_effects(kernel: Kernel, values: Floats, points: Points, state: Floats) -> tuple[Floats, Floats]:
    """Return the prior variance (p,) of theta at one state (d,) and its covariance with the runs' outcomes (n, p)."""
    n_coordinates = points.R.shape[1]
    kinds = range(1 if kernel.is_shared else n_coordinates)
    across = np.column_stack([kernel.effects(values, points.X, state[None, :], p)[:, 0] for p in kinds])
    own = np.array([kernel.effects(values, state[None, :], state[None, :], p)[0, 0] for p in kinds])
    return np.broadcast_to(own, n_coordinates), across * points.R


def predict_effects(kernel: Kernel, values: Floats, points: Points, alpha: Floats, states: Floats) -> Floats:
    """Return the mean of theta (m, A, p) at states (m, d), given ``K^-1 y`` (n, A) of the runs' outcomes."""
    if kernel.is_shared:
        pulls = alpha[:, :, None] * points.R[:, None, :]
        means = kernel.effects(values, states, points.X, 0) @ pulls.reshape(len(alpha), -1)
        return np.asarray(means.reshape(len(states), *pulls.shape[1:]))
    kinds = range(points.R.shape[1])
    each = [kernel.effects(values, states, points.X, p) @ (alpha * points.R[:, [p]]) for p in kinds]
    return np.stack(each, axis=2)
