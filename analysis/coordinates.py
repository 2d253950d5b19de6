"""Log coordinates of a mixture, and the reading of an effect that a person can use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import AnalysisError, nearest_name

Floats = NDArray[np.float64]

NAMES = ("log",)


def check_coordinates(name: str) -> None:
    """Refuse coordinates that are unknown, and raw shares with the reason.

    Raises
    ------
    AnalysisError
        Raw shares sum to one: a fit on all K of them has no unique solution and its intervals mean nothing.
    """
    if name in NAMES:
        return
    if name in ("raw", "shares", "identity", "none"):
        raise AnalysisError(
            f"estimator.coordinates={name}: all K raw shares sum to one, so their effects are not identified "
            "(a pseudo-inverse hides it and its intervals mean nothing). Take estimator.coordinates=log."
        )
    raise AnalysisError(f"estimator.coordinates={name}{nearest_name(name, NAMES)}; allowed: {', '.join(NAMES)}.")


def to_log(mixtures: Floats, offset: float = 0.0) -> Floats:
    """Return ``Z = log(T + offset)``, the treatment of every fit.

    Parameters
    ----------
    mixtures : ndarray (..., K)
        Shares; positive unless ``offset`` is.
    offset : float
        What is added to every share (0 wherever the design has a positive floor).
    """
    shifted = mixtures + offset
    if np.any(shifted <= 0):
        raise AnalysisError(
            "a share of zero has no logarithm: take a positive floor (target.floor) or, for runs that left a "
            "domain out, estimator.log_offset above 0 (the offset then decides what dropping it is worth)."
        )
    return np.log(shifted)


def from_log(coordinates: Floats, offset: float = 0.0) -> Floats:
    """Invert :func:`to_log`; with ``offset`` 0 any vector is closed to the simplex by dividing by its sum."""
    raw = np.exp(coordinates - coordinates.max(axis=-1, keepdims=True)) if offset == 0 else np.exp(coordinates)
    shares = raw - offset
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def log_jacobian(mixture: Floats, offset: float = 0.0) -> Floats:
    """Return dZ/dT (K, K) at ``mixture`` (K,): diagonal, ``1 / (T_k + offset)``."""
    return np.diag(1.0 / (mixture + offset))


def move_share(theta: Floats, reference: Floats, source: int, destination: int, delta: float) -> float:
    """Return the points gained by moving ``delta`` of share from one domain to another at ``reference``.

    ``theta_k log(1 + delta / q_k) + theta_j log(1 - delta / q_j)``, with j the source and k the destination.

    Returns
    -------
    float
        NaN where the source has no such share to give.
    """
    if source == destination:
        return 0.0
    if reference[source] <= delta:
        return float("nan")
    up = theta[destination] * np.log1p(delta / reference[destination])
    return float(up + theta[source] * np.log1p(-delta / reference[source]))


def tabulate_moves(theta: Floats, reference: Floats, delta: float) -> Floats:
    """Return :func:`move_share` for every pair: (K, K), row = source j, column = destination k."""
    n = len(theta)
    return np.array([[move_share(theta, reference, j, k, delta) for k in range(n)] for j in range(n)])
