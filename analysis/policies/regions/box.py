"""No region but the floors and caps of the target: ``off`` and ``box``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.policies.box_rule import fill_box
from analysis.policies.regions.region import Region, Solution, price_limits
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]


def solve_box(theta: Floats, reference: Floats, box: Box) -> Floats:
    """Maximise ``sum_k [theta_k]+ log T_k`` subject to ``m <= T <= c``, ``sum T = 1``.

    ``T_k = clip([theta_k]+ / nu, m_k, c_k)``; exact. Without floors and caps it is the paper's CausalMix-A, and
    with floors it maximises ``theta' log T`` as well: negative effects lie at their floors. Where the caps of the
    positive effects leave mass over, the objective does not say who gets it: the others share it in the
    proportions of the reference (the limit of scores ``[theta]+ + lam q``, lam -> 0), which is not the best for
    ``theta' log T``. No effect positive: the reference.
    """
    return fill_box(theta, reference, box) if np.any(theta > 0) else reference.copy()


class BoxRegion(Region):
    """Every mixture that keeps the target's floors and caps."""

    name: ClassVar[str] = "box"

    @classmethod
    def build(cls, cfg: PolicyConfig, roles: Roles, target: Target) -> Region:
        """Read the limits off the target; no radius."""
        return cls(target.reference, target.box, np.inf)

    def measure(self, mixtures: Floats) -> Floats:
        """Return 0: nothing lies out."""
        return np.zeros(mixtures.shape[:-1])

    def maximise(self, theta: Floats) -> Solution:
        """Return :func:`solve_box` with the prices of its limits."""
        weights = solve_box(theta, self.reference, self.box)
        slope = theta / np.maximum(weights, 1e-300)  # negative effects too: a lower floor under them is a gain
        return Solution(weights, price_limits(slope, weights, self.box))


class OffRegion(BoxRegion):
    """The same set, named for the paper's own rules: CausalMix-S then draws uniformly, not around A."""

    name: ClassVar[str] = "off"
