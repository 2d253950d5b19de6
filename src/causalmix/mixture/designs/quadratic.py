"""The quadratic mixture model: its terms, their moments over the feasible mixtures, and what a design is worth."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CHAINS = 4096  # mixtures that stand for a region with caps
_ROUNDS = 12  # moves of every pair of domains; the chains forget their start after a few


def count_terms(n_domains: int) -> int:
    """Number of terms, ``K (K + 1) / 2``."""
    return n_domains * (n_domains + 1) // 2


def quadratic_terms(points: Floats) -> Floats:
    """Terms of Scheffe's quadratic model, ``sum_i b_i P_i + sum_{i<j} b_ij P_i P_j``.

    The space of these functions is the same for P and for ``T = m + (1 - K m) P``: a floor changes nothing.

    Parameters
    ----------
    points : ndarray (..., K)

    Returns
    -------
    ndarray (..., K (K + 1) / 2)
    """
    i, j = np.triu_indices(points.shape[-1], 1)
    return np.concatenate([points, points[..., i] * points[..., j]], axis=-1)


def moment_matrix(cap: Floats) -> Floats:
    """Mean of ``f f'`` over the simplex below ``cap``, f the model's terms.

    Exact on the whole simplex, by the moments of the uniform law,
    ``E prod P_i^a_i = (K - 1)! prod a_i! / (K - 1 + sum a_i)!``; with caps, over 4,096 uniform points.

    Parameters
    ----------
    cap : ndarray (K,)
        Largest share of each domain.

    Returns
    -------
    ndarray (p, p)
    """
    if (cap < 1.0).any():
        terms = quadratic_terms(sample_region(cap, _CHAINS, np.random.default_rng(0)))
        return np.asarray(terms.T @ terms / len(terms))
    n_domains = len(cap)
    eye = np.eye(n_domains, dtype=np.int64)
    i, j = np.triu_indices(n_domains, 1)
    exponents = np.vstack([eye, eye[i] + eye[j]])
    # Exponents go up to 2 and sum to 2, 3 or 4.
    numerator = np.ones((len(exponents), len(exponents)))
    degree = np.zeros_like(numerator)
    for k in range(n_domains):
        power = exponents[:, None, k] + exponents[None, :, k]
        numerator *= np.where(power == 2, 2.0, 1.0)
        degree += power
    falling = {d: math.prod(range(n_domains, n_domains + d)) for d in (2, 3, 4)}
    return np.asarray(numerator / np.vectorize(falling.get)(degree).astype(np.float64))


def sample_region(cap: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Draw mixtures (n, K) uniformly below ``cap``, whatever part of the simplex that is.

    Gibbs moves: what a pair of domains has together is divided anew, uniformly within the limits of both.
    """
    n_domains = len(cap)
    points = np.tile(cap / cap.sum(), (n, 1))
    pairs = np.column_stack(np.triu_indices(n_domains, 1))
    for _ in range(_ROUNDS):
        for i, j in rng.permutation(pairs):
            both = points[:, i] + points[:, j]
            low, high = np.maximum(0.0, both - cap[j]), np.minimum(cap[i], both)
            points[:, i] = low + (high - low) * rng.random(n)
            points[:, j] = both - points[:, i]
    return np.asarray(np.clip(points, 0.0, cap))


def average_variance(points: Floats, moments: Floats) -> float:
    """Average prediction variance ``tr[(F'F)^-1 M]`` of the model fitted to a design, noise variance one.

    Parameters
    ----------
    points : ndarray (n, K)
        The design.
    moments : ndarray (p, p)
        :func:`moment_matrix` of the region that predictions are wanted in.

    Returns
    -------
    float
        Infinite where the design cannot tell the terms apart.
    """
    terms = quadratic_terms(points)
    information = terms.T @ terms
    if np.linalg.matrix_rank(terms) < terms.shape[1]:
        return math.inf
    return float(np.trace(np.linalg.solve(information, moments)))
