"""Designs with one mixture: equal, natural, fixed by hand or by a file, and a policy's answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.mixture.designs.design import Draw, Moments


@dataclass(frozen=True)
class FixedDesign:
    """The same mixture for every run; no floor is applied, so a share may be zero."""

    name: str
    domains: tuple[str, ...]
    weights: NDArray[np.float64]

    @property
    def is_random(self) -> bool:
        """Always False."""
        return False

    def sample(self, rng: np.random.Generator) -> Draw:
        """Return the mixture; ``rng`` is not used."""
        return Draw(self.weights.copy())

    def moments(self, seed: int, n_draws: int = 20_000) -> Moments:
        """Return ``log T`` itself and a covariance of zero."""
        with np.errstate(divide="ignore"):
            return Moments(np.log(self.weights), np.zeros((len(self.domains), len(self.domains))))
