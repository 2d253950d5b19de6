"""The lattice design: every mixture whose shares are multiples of 1 / levels."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError
from causalmix.mixture.designs.points import PointDesign
from causalmix.mixture.designs.region import Region
from causalmix.mixture.designs.request import Request

_POINTS_MAX = 200_000


def build_grid(request: Request) -> PointDesign:
    """Build the simplex lattice {K, levels}: ``C(levels + K - 1, levels)`` points, floored.

    Points above a cap are left out. The order is a permutation drawn from ``mixture.design_seed``, so that a
    sweep over the first n points is a random sample of the lattice, and the mean of ``log T`` over the whole
    lattice is theirs too.

    Raises
    ------
    MixtureError
        Levels below one, more than 200,000 points, or caps that leave none.

    Notes
    -----
    Scheffe (1958), "Experiments with mixtures".
    """
    levels, n_domains = request.cfg.levels, len(request.domains)
    region = Region(request.box)
    n = math.comb(levels + n_domains - 1, n_domains - 1) if levels >= 1 else 0
    if not 1 <= n <= _POINTS_MAX:
        raise MixtureError(
            f"mixture.levels={levels} over {n_domains} domains makes {n} points: 1 level or more, and at most "
            f"{_POINTS_MAX} points."
        )
    lattice = make_lattice(n_domains, levels)
    kept = lattice[region.contains(lattice)]
    if not len(kept):
        raise MixtureError(region.explain_caps(0, n, lattice) + " Or raise mixture.levels.")
    order = np.random.default_rng(request.cfg.design_seed).permutation(len(kept))
    return PointDesign(request.cfg.kind, request.domains, region.to_weights(kept[order]))


def make_lattice(n_domains: int, levels: int) -> NDArray[np.float64]:
    """List the points (n, K) of the simplex lattice, the first domain's share rising slowest."""
    bars = np.array(list(combinations(range(levels + n_domains - 1), n_domains - 1)), dtype=np.int64)
    edges = np.pad(bars.reshape(-1, n_domains - 1), ((0, 0), (1, 1)), constant_values=-1)
    edges[:, -1] = levels + n_domains - 1
    return (np.diff(edges, axis=1) - 1) / levels
