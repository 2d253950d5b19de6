"""What every trust region answers: who is inside, and the best mixture inside, with prices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]

TOLERANCE = 1e-9  # of a radius, a floor or a cap
_NEGLIGIBLE = 1e-12  # a price below this is no price


@dataclass(frozen=True)
class Solution:
    """The best mixture of a region.

    Attributes
    ----------
    weights : ndarray (K,)
    prices : dict of str to float
        Points gained for one unit more room at each limit that binds, all positive: the region by its name (a
        unit of its radius), ``cap.<domain>`` and ``floor.<domain>`` (a whole share).
    notes : tuple of str
    """

    weights: Floats
    prices: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Region(ABC):
    """Mixtures of the box within ``radius`` of the reference, as ``measure`` sees it.

    Attributes
    ----------
    reference : ndarray (K,)
        q, positive and inside the box.
    box : Box
        Floors and caps of the target.
    radius : float
        In the unit of ``measure``.
    """

    reference: Floats
    box: Box
    radius: float

    name: ClassVar[str]
    exact: ClassVar[bool] = True  # whether its rule maximises theta' log T over the whole region

    @classmethod
    @abstractmethod
    def build(cls, cfg: PolicyConfig, roles: Roles, target: Target) -> Region:
        """Read the region off the config, the runs and the target."""

    @abstractmethod
    def measure(self, mixtures: Floats) -> Floats:
        """Return how far mixtures (..., K) lie out: (...,), at most ``radius`` inside."""

    @abstractmethod
    def maximise(self, theta: Floats) -> Solution:
        """Return the region's rule for effects (K,) of which at least one is positive."""

    def contains(self, mixtures: Floats) -> NDArray[np.bool_]:
        """Say which mixtures (..., K) lie in the region and in the box."""
        inside = np.all((mixtures >= self.box.floor - TOLERANCE) & (mixtures <= self.box.cap + TOLERANCE), axis=-1)
        return np.asarray(inside & (self.measure(mixtures) <= self.radius + TOLERANCE))

    def solve(self, theta: Floats) -> Solution:
        """Return the best mixture for effects ``theta`` (K,); the reference where none is positive."""
        return self.maximise(theta) if np.any(theta > 0) else Solution(self.reference.copy())


def price_limits(slope: Floats, weights: Floats, box: Box) -> dict[str, float]:
    """Price floors and caps that bind.

    Parameters
    ----------
    slope : ndarray (K,)
        Derivative by each share of the objective less the region's part of the Lagrangian, points a share.
    weights : ndarray (K,)
        The optimum.
    box : Box

    Returns
    -------
    dict of str to float
        ``cap.<domain>``: its slope less that of the share which is taken elsewhere for it; ``floor.<domain>``:
        the slope where the share goes, less its own. Floors of 0 and caps of 1 cannot be loosened.
    """
    capped = weights >= box.cap - TOLERANCE
    floored = (weights <= box.floor + TOLERANCE) & ~capped
    prices = {}
    for k, name in enumerate(box.domains):
        others = np.arange(len(weights)) != k
        if capped[k] and box.cap[k] < 1 and np.any(others & ~floored):
            prices[f"cap.{name}"] = float(slope[k] - slope[others & ~floored].min())
        if floored[k] and box.floor[k] > 0 and np.any(others & ~capped):
            prices[f"floor.{name}"] = float(slope[others & ~capped].max() - slope[k])
    return {name: price for name, price in prices.items() if price > _NEGLIGIBLE}


def find_edge(excess: Callable[[float], float], inside: float, outside: float) -> float:
    """Return the point between ``inside`` and ``outside`` where ``excess`` turns positive, on the inner side.

    ``excess`` is continuous, at most 0 at ``inside`` and above 0 at ``outside``.
    """
    from scipy.optimize import brentq

    edge = float(brentq(excess, inside, outside, xtol=1e-300, rtol=8.9e-16, maxiter=500))
    step = 1e-16
    while excess(edge) > 0 and step < 1:  # the root is known to rounding: its inner side is wanted
        edge, step = edge + step * (inside - edge), 8 * step
    return edge if excess(edge) <= 0 else inside


def require_radius(value: float, key: str, unit: str) -> float:
    """Refuse a radius that is not a finite number above 0."""
    if not (np.isfinite(value) and value > 0):
        raise AnalysisError(f"{key}={value}: a radius {unit} above 0; region=off takes none.")
    return float(value)
