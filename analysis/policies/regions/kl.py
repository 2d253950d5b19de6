"""``KL(q || T) <= rho``: the default region of CausalMix-A."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.policies.box_rule import divergence, fill_box
from analysis.policies.regions.region import Region, Solution, find_edge, price_limits, require_radius
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]


def solve_kl(theta: Floats, reference: Floats, box: Box, rho: float) -> tuple[Floats, float]:
    """Maximise ``theta' log T`` subject to ``KL(q || T) <= rho``, ``m <= T <= c``, ``sum T = 1``.

    The maximiser of the Lagrangian is the box rule with scores ``theta + lam q``, so negative effects count;
    lam is the smallest multiplier that keeps the region, by root search in log (lam - edge), where at the edge
    the first domain without a floor would be dropped: a share of 1e-17 is still exact. In ``log T`` the problem is
    linear over a convex set, so the answer is exact, unless the caps of the domains with positive scores leave
    mass over: what is left then goes to the others in the proportions of q, where the exact optimum would empty
    all of them but one. Where the region does not bind (a large rho and floors) it is :func:`solve_box`.

    Parameters
    ----------
    theta, reference : ndarray (K,)
        Effects, and q inside the box. No effect positive: the reference is returned.
    box : Box
    rho : float
        Radius in nats.

    Returns
    -------
    weights : ndarray (K,)
    lam : float
        Points gained for one more nat; 0 where the region does not bind.
    """
    if not np.any(theta > 0):
        return reference.copy(), 0.0

    free = fill_box(theta, reference, box)
    if divergence(reference, free) <= rho:
        return free, 0.0
    edge, scores = price_edge(theta, reference, box)

    def answer(log_rest: float) -> Floats:
        return fill_box(scores + np.exp(log_rest) * reference, reference, box)

    def excess(log_rest: float) -> float:
        # exp(-KL) stays finite where a domain is dropped and KL is not.
        return float(np.exp(-rho) - np.exp(-divergence(reference, answer(log_rest))))

    scale = np.log(float(np.abs(theta).max()))
    low, high = scale - 300.0, scale
    while excess(high) > 0:
        if high > scale + 60:  # a radius below what rounding can tell from the reference
            return reference.copy(), edge + float(np.exp(high))
        low, high = high, high + 1.5
    found = low if excess(low) <= 0 else find_edge(excess, high, low)
    return answer(found), edge + float(np.exp(found))


def price_edge(theta: Floats, reference: Floats, box: Box) -> tuple[float, Floats]:
    """Return the multiplier below which a domain without a floor is dropped, and ``theta + edge q`` there.

    The score of the domain that decides is zero by definition, and is set so: as a difference it would be noise.
    """
    at_stake = (theta < 0) & (box.floor <= 0) & (reference > 0)
    if not at_stake.any():
        return 0.0, theta
    edges = np.where(at_stake, -theta / np.where(at_stake, reference, 1.0), 0.0)
    first = int(edges.argmax())
    scores = theta + edges[first] * reference
    scores[first] = 0.0
    return float(edges[first]), scores


class KLRegion(Region):
    """Mixtures with ``KL(q || T)`` of at most rho nats; convex."""

    name: ClassVar[str] = "kl"

    @classmethod
    def build(cls, cfg: PolicyConfig, roles: Roles, target: Target) -> Region:
        """Take ``policy.rho``."""
        return cls(target.reference, target.box, require_radius(cfg.rho, "policy.rho", "in nats"))

    def measure(self, mixtures: Floats) -> Floats:
        """Return ``KL(q || T)`` in nats."""
        return divergence(self.reference, mixtures)

    def maximise(self, theta: Floats) -> Solution:
        """Return :func:`solve_kl` with the prices of its limits."""
        weights, lam = solve_kl(theta, self.reference, self.box, self.radius)
        slope = (theta + lam * self.reference) / np.maximum(weights, 1e-300)
        prices = {self.name: lam} if lam > 0 else {}
        return Solution(weights, prices | price_limits(slope, weights, self.box))
