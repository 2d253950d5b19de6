"""Coordinates of a mixture, and the reading of an effect that a person can use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import AnalysisError, nearest_name

Floats = NDArray[np.float64]

NAMES = ("log", "ilr", "ilr_even", "alr", "tangent")


@dataclass(frozen=True)
class Coordinates:
    """``Z = embed(T) B``: what a fit regresses on, and how its effects are read back in the K domains.

    Every system is linear in one of two embeddings: ``log(T + eps)`` or, for ``tangent``, T itself. So an
    effect theta_Z (p,) on Z is the effect ``B theta_Z`` (K,) on the embedding, and policies, gains and reports
    need to know one form only.

    Attributes
    ----------
    name : str
        log (B = I), ilr (B = V, orthonormal contrasts), ilr_even ([V, 1 / sqrt(K)]), alr (log T_k - log T_K),
        tangent (V on shares).
    basis : ndarray (K, p)
        B.
    offset : float
        eps in ``log(T + eps)``; 0 wherever the design has a positive floor.

    Notes
    -----
    Egozcue et al., "Isometric logratio transformations for compositional data analysis", Mathematical
    Geology 35 (2003). ``log`` has full rank because shares are bounded away from the vertices, but its columns
    are nearly collinear when the design is concentrated; the others cannot tell a change of all logs at once.
    """

    name: str
    basis: Floats
    offset: float = 0.0

    @property
    def is_log(self) -> bool:
        """Whether the embedding is ``log(T + eps)``."""
        return self.name != "tangent"

    @property
    def has_level(self) -> bool:
        """Whether effects may sum to anything but zero; CausalMix-A without a region needs that."""
        return self.name in ("log", "ilr_even")

    def embed(self, mixtures: Floats) -> Floats:
        """Return ``log(T + eps)`` or T, (..., K)."""
        return to_log(mixtures, self.offset) if self.is_log else np.asarray(mixtures, dtype=np.float64)

    def transform(self, mixtures: Floats) -> Floats:
        """Return Z (..., p)."""
        return np.asarray(self.embed(mixtures) @ self.basis)

    def inverse(self, Z: Floats) -> Floats:
        """Return the mixture (..., K) of Z (..., p), closed to the simplex."""
        n_domains = len(self.basis)
        if self.name == "tangent":
            return np.asarray(1.0 / n_domains + Z @ self.basis.T)
        if self.has_level:
            return from_log(Z @ self.basis.T, self.offset)
        logs = Z @ np.linalg.pinv(self.basis)
        raw = np.exp(logs - logs.max(axis=-1, keepdims=True))
        # Log-ratios of T + eps fix it up to scale; its sum is 1 + K eps.
        shifted = raw / raw.sum(axis=-1, keepdims=True) * (1.0 + n_domains * self.offset)
        return np.asarray(shifted - self.offset)

    def jacobian(self, mixture: Floats) -> Floats:
        """Return dZ/dT (p, K) at one mixture (K,)."""
        return np.asarray(self.basis.T / (mixture + self.offset) if self.is_log else self.basis.T.copy())

    def lift(self, effects: Floats) -> Floats:
        """Return effects on the embedding (..., K) for effects on Z (..., p)."""
        return np.asarray(effects @ self.basis.T)

    def lift_covariance(self, covariance: Floats) -> Floats:
        """Return the covariance (..., K, K) of lifted effects."""
        return np.asarray(self.basis @ covariance @ self.basis.T)


def make_coordinates(name: str, n_domains: int, offset: float = 0.0) -> Coordinates:
    """Return the coordinates of ``name`` over ``n_domains``.

    Raises
    ------
    AnalysisError
        Raw shares sum to one: a fit on all K of them has no unique solution and its intervals mean nothing.
        An unknown name.
    """
    if name in ("raw", "shares", "identity", "none"):
        raise AnalysisError(
            f"estimator.coordinates={name}: all K raw shares sum to one, so their effects are not identified "
            "(a pseudo-inverse hides it and its intervals mean nothing). Take estimator.coordinates=log, or "
            "tangent for contrasts of shares."
        )
    if name not in NAMES:
        raise AnalysisError(f"estimator.coordinates={name}{nearest_name(name, NAMES)}; allowed: {', '.join(NAMES)}.")
    eye, contrasts = np.eye(n_domains), make_contrasts(n_domains)
    basis = {
        "log": eye,
        "ilr": contrasts,
        "ilr_even": np.column_stack([contrasts, np.full(n_domains, n_domains**-0.5)]),
        "alr": eye[:, :-1] - eye[:, -1:],
        "tangent": contrasts,
    }[name]
    return Coordinates(name, basis, offset)


def make_contrasts(n_domains: int) -> Floats:
    """Return Helmert's orthonormal contrasts (K, K - 1): every column sums to zero."""
    columns = []
    for k in range(1, n_domains):
        column = np.zeros(n_domains)
        column[:k], column[k] = 1.0 / k, -1.0
        columns.append(column * np.sqrt(k / (k + 1.0)))
    return np.column_stack(columns)


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


def tabulate_moves(predict: Callable[[Floats], Floats], reference: Floats, delta: float) -> Floats:
    """Return the points gained by moving ``delta`` of share between all pairs: (K, K), row = source, column = end.

    ``predict`` answers for mixtures (m, K) up to a constant (m,), with all that bends them; where the outcome is
    linear in the logs this is :func:`move_share`. NaN where the source has no such share to give.
    """
    n = len(reference)
    moves = [(j, k) for j in range(n) for k in range(n) if j != k and reference[j] > delta]
    gained = np.where(np.eye(n, dtype=np.bool_), 0.0, np.nan)
    if moves:
        source, destination = np.array(moves).T
        steps = delta * (np.eye(n)[destination] - np.eye(n)[source])
        outcomes = predict(np.vstack([reference + steps, reference]))
        gained[source, destination] = outcomes[:-1] - outcomes[-1]
    return gained
