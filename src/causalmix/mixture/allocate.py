"""From shares to counts of documents, exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError, name_some
from causalmix.mixture.simplex import check_request, count_allowed, validate_weights


def allocate(
    weights: NDArray[np.float64] | Mapping[str, float],
    n_samples: int,
    available: Mapping[str, int],
    repeats_max: float,
) -> NDArray[np.int64]:
    """Turn a mixture into counts by the method of largest remainders.

    Parameters
    ----------
    weights : ndarray (K,) or mapping of str to float
        Target shares, an array in the order of ``available``.
    n_samples : int
        Documents in all, repeats counted.
    available : mapping of str to int
        Documents of each domain.
    repeats_max : float
        How often a document may be seen at most.

    Returns
    -------
    ndarray of int64 (K,)
        Counts in the order of ``available``; they sum to ``n_samples``. Equal remainders go to the larger
        share, then to the name that sorts first, so that the order of the domains never matters.

    Raises
    ------
    MixtureError
        Weights off the simplex, or more documents of a domain than its repeats allow; each such domain is
        named with what it has.
    """
    domains = tuple(available)
    check_request(n_samples, available, repeats_max)
    if not isinstance(weights, Mapping):
        if np.shape(weights) != (len(domains),):
            raise MixtureError(f"{np.size(weights)} shares for {len(domains)} domains ({name_some(domains)}).")
        weights = dict(zip(domains, np.asarray(weights, dtype=np.float64).tolist()))
    shares = validate_weights(weights, domains)
    counts = _round_largest_remainder(shares, n_samples, domains)
    most = [count_allowed(available[name], repeats_max) for name in domains]
    over = [k for k in range(len(domains)) if counts[k] > most[k]]
    if over:
        named = name_some(
            f"{domains[k]} ({counts[k]} asked; {available[domains[k]]} documents x {repeats_max:g} repeats = {most[k]})"
            for k in over
        )
        largest = min(math.floor(most[k] / shares[k]) for k in over)
        raise MixtureError(
            f"the mixture asks for more documents than the pool can give: {named}. Lower train.n_samples "
            f"(these shares allow about {largest}), raise mixture.repeats_max, or give these domains less."
        )
    return counts


def _round_largest_remainder(shares: NDArray[np.float64], n: int, domains: tuple[str, ...]) -> NDArray[np.int64]:
    quotas = shares * n
    # A quota of 2.9999999999 is a 3 that met rounding: it must not compete for a leftover document.
    nearest = np.rint(quotas)
    quotas = np.where(np.abs(quotas - nearest) <= 1e-9 * np.maximum(1.0, nearest), nearest, quotas)
    counts = np.floor(quotas).astype(np.int64)
    # Remainders that differ by rounding alone are ties.
    remainders = np.round(quotas - counts, 9)
    order = sorted(range(len(domains)), key=lambda k: (-remainders[k], -shares[k], domains[k]))
    for k in order[: n - int(counts.sum())]:
        counts[k] += 1
    assert int(counts.sum()) == n, "largest remainders must give every document away"
    return counts
