"""The Sobol design: a low-discrepancy sequence on the simplex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError
from causalmix.mixture.designs.design import Draw, Moments, summarise_logs
from causalmix.mixture.designs.region import Region
from causalmix.mixture.designs.request import Request

Floats = NDArray[np.float64]

_PROPOSALS_MAX = 2**20  # then the caps are called too tight for the design


@dataclass(frozen=True)
class SobolDesign:
    """Scrambled Sobol points, uniform on the simplex, floored; points above a cap are left out.

    Attributes
    ----------
    name : str
    region : Region
    design_seed : int
        Scrambles the sequence: another one is another sequence, as evenly spread.
    """

    name: str
    region: Region
    design_seed: int

    @property
    def domains(self) -> tuple[str, ...]:
        """The K domains."""
        return self.region.box.domains

    @property
    def is_random(self) -> bool:
        """Always True: runs differ in their mixture."""
        return True

    @property
    def n_points(self) -> None:
        """No end: a sequence goes on."""
        return None

    def sample(self, rng: np.random.Generator, index: int) -> Draw:
        """Return feasible point ``index`` of the sequence; ``rng`` is not used.

        Raises
        ------
        MixtureError
            Caps that leave fewer points among the first 2^20.
        """
        return Draw(self.list_points(index + 1)[index], {"point": float(index)})

    def moments(self, seed: int, n_draws: int = 20_000) -> Moments:
        """Estimate mean and covariance of ``log T`` over the first ``n_draws`` feasible points.

        Each point of a scrambled sequence is uniform on the simplex, so this is the mean given the caps. The
        stated error, sd(log T_k) / sqrt(n_draws), is that of independent draws, and more than that of a
        sequence. ``seed`` is not used.
        """
        return summarise_logs(self.list_points(n_draws), exact=False)

    def list_points(self, n: int) -> Floats:
        """Return the first ``n`` feasible points as shares (n, K)."""
        exponent = max(4, int(np.ceil(np.log2(n))))
        while True:
            points = map_to_simplex(_draw_sobol(len(self.domains) - 1, exponent, self.design_seed))
            kept = points[self.region.contains(points)]
            if len(kept) >= n:
                return self.region.to_weights(kept[:n])
            if 2**exponent >= _PROPOSALS_MAX:
                raise MixtureError(self.region.explain_caps(len(kept), len(points), points))
            exponent += 1


def build_sobol(request: Request) -> SobolDesign:
    """Build the Sobol design of a request."""
    return SobolDesign(request.cfg.kind, Region(request.box), request.cfg.design_seed)


def map_to_simplex(cube: Floats) -> Floats:
    """Map points of the unit cube (n, K - 1) to the simplex (n, K), uniform to uniform.

    Notes
    -----
    Stick breaking: of what is left, domain k takes ``1 - (1 - u_k)^(1 / (K - k))``, the inverse distribution
    function of Beta(1, K - k). Smooth and one to one, so the evenness of the sequence survives it (Fang and
    Wang, 1994, "Number-theoretic methods in statistics").
    """
    n, n_free = cube.shape
    points = np.empty((n, n_free + 1))
    left = np.ones(n)
    for k in range(n_free):
        points[:, k] = left * -np.expm1(np.log1p(-cube[:, k]) / (n_free - k))
        left = left - points[:, k]
    points[:, -1] = left
    return points


def _draw_sobol(dimension: int, exponent: int, seed: int) -> Floats:
    from scipy.stats import qmc

    # A power of two keeps the sequence balanced; a longer one begins with the shorter one.
    return np.asarray(qmc.Sobol(dimension, scramble=True, rng=np.random.default_rng(seed)).random_base2(exponent))
