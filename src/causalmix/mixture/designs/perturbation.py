"""DMO's design: equal amounts of every domain, then one domain at a time changed by a factor."""

from __future__ import annotations

import numpy as np

from causalmix.errors import MixtureError
from causalmix.mixture.allocate import allocate
from causalmix.mixture.designs.design import Draw
from causalmix.mixture.designs.points import PointDesign
from causalmix.mixture.designs.request import Request

FACTORS = (1 / 3, 1 / 2, 2.0, 3.0)
"""What a domain's amount is multiplied by; with 1, the run that all domains share, these are DMO's five."""


def build_perturbation(request: Request) -> PointDesign:
    """Build the 4K + 1 runs of DMO: amounts ``N_j = 1`` for all j, but ``N_k = f`` for one.

    A run's size varies with its amounts, ``(K - 1 + f) / K`` times ``train.n_samples``, so it is no mixture of a
    fixed budget: these runs belong to the cohort ``perturbation`` and to DMO's curves alone. Amounts are counted
    in documents, as everywhere here (DMO counts tokens; ``train.n_tokens`` of each run is recorded). No floor is
    needed, for no share is zero, and none is applied.

    Point 0 is the even one, then domain by domain, in the order of their names, the factors 1/3, 1/2, 2, 3.

    Raises
    ------
    MixtureError
        A run that the pool cannot give: a curve with a missing point cannot be fitted, so none is left out.

    Notes
    -----
    arXiv 2508.11953.
    """
    n_domains = len(request.domains)
    if n_domains < 2:
        raise MixtureError(f"{request.domains[0]} is the only domain: a design has no mixture to vary.")
    weights, sizes, labels = [np.full(n_domains, 1 / n_domains)], [1.0], ["all equal"]
    for k in np.argsort(np.array(request.domains)):
        for factor in FACTORS:
            total = n_domains - 1 + factor
            shares = np.full(n_domains, 1 / total)
            shares[k] = factor / total
            weights.append(shares)
            sizes.append(total / n_domains)
            labels.append(f"{request.domains[k]} times {factor:.3g}")
    for shares, size, label in zip(weights, sizes, labels):
        n_samples = Draw(shares, size_factor=size).count_samples(request.n_samples)
        try:
            allocate(shares, n_samples, request.available, request.cfg.repeats_max)
        except MixtureError as error:
            length = "" if size == 1 else f", {size:.3g} times as long as train.n_samples"
            raise MixtureError(f"mixture=perturbation, the run with {label}{length}: {error}") from error
    return PointDesign(request.cfg.kind, request.domains, np.array(weights), np.array(sizes))
