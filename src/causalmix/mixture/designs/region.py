"""The feasible mixtures as designs of points see them: without the floor, domains in the order of their names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError, name_some
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]

_CAP_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Region:
    """``T = m + (1 - K m) P``: P is on the whole simplex, below ``(c - m) / (1 - K m)``.

    Points are made in the order of the domains' names, so that listing them otherwise changes no mixture.

    Attributes
    ----------
    box : Box
        Floor m (one number for all domains) and caps c.
    """

    box: Box

    def __post_init__(self) -> None:
        if len(self.box.domains) < 2:
            raise MixtureError(f"{name_some(self.box.domains)} is the only domain: a design has no mixture to vary.")
        if self.scale <= 1e-12:
            raise MixtureError(
                f"mixture.floor={self.box.floor[0]:g} over {len(self.box.domains)} domains leaves one mixture alone: "
                "lower it; null takes min(.02, .2 / K)."
            )

    @property
    def order(self) -> NDArray[np.int64]:
        """Positions of the domains in the box, sorted by name."""
        return np.argsort(np.array(self.box.domains))

    @property
    def scale(self) -> float:
        """Mass that the floors leave, ``1 - K m``."""
        return 1.0 - float(self.box.floor.sum())

    @property
    def cap(self) -> Floats:
        """Largest P of each domain (K,), in the order of names."""
        above = (self.box.cap - self.box.floor)[self.order]
        return np.asarray(np.minimum(1.0, above / self.scale))

    def contains(self, points: Floats) -> NDArray[np.bool_]:
        """Say which points (n, K) stay below the caps."""
        return np.asarray((points <= self.cap + _CAP_TOLERANCE).all(axis=1))

    def to_weights(self, points: Floats) -> Floats:
        """Turn points (n, K) into shares (n, K) in the order of the box."""
        order = self.order
        weights = np.empty_like(points)
        weights[:, order] = self.box.floor[order] + self.scale * points
        return weights

    def explain_caps(self, n_kept: int, n_proposed: int, points: Floats) -> str:
        """Say which caps turn points away, for an error."""
        over = (points > self.cap + _CAP_TOLERANCE).mean(axis=0)
        order = self.order
        named = name_some(
            f"{self.box.domains[order[k]]} (at most {self.box.cap[order[k]]:.3g}; above it in {over[k]:.0%})"
            for k in np.argsort(-over, kind="stable")
            if over[k] > 0
        )
        return (
            f"only {n_kept} of {n_proposed} points stay below the shares the pool can give: {named}. "
            "Lower train.n_samples or raise mixture.repeats_max."
        )
