"""A Euclidean ball around the reference, the objective linearised there: the projected gradient path."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.policies.box_rule import fill_greedily
from analysis.policies.regions.region import Region, Solution, find_edge, price_limits, require_radius
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]

_LONGEST = np.log(1e8)  # of log eta, the longest slope being 1: beyond it rounding moves the projection


def solve_l2(theta: Floats, reference: Floats, box: Box, radius: float) -> tuple[Floats, float]:
    """Maximise ``g'(T - q)``, ``g = theta / q``, subject to ``||T - q|| <= r``, ``m <= T <= c``, ``sum T = 1``.

    ``T(eta) = Proj_C(q + eta u)``, ``u = g - mean(g)``, with eta by root search to ``||T - q|| = r`` (the
    distance never falls along this path); exact for this objective, the first-order gain at q. Projecting the
    end of the step instead would lose gain at the floors. A large radius overshoots the best of
    ``theta' log T`` and ends at the vertex of the linear programme.

    Parameters
    ----------
    theta, reference : ndarray (K,)
        No effect positive: the reference is returned.
    box : Box
    radius : float
        In shares.

    Returns
    -------
    weights : ndarray (K,)
    price : float
        First-order points gained for one unit more of radius, ``r / eta``; 0 where the ball does not bind.
    """
    step = theta / reference - (theta / reference).mean()
    size = float(np.abs(step).max())
    if not np.any(theta > 0) or size <= 1e-14 * float(np.abs(theta / reference).max()):
        return reference.copy(), 0.0
    free = fill_greedily(step, box)
    if np.linalg.norm(free - reference) <= radius:
        return free, 0.0

    def answer(log_eta: float) -> Floats:
        return project_euclidean(reference + np.exp(log_eta) / size * step, box)

    def excess(log_eta: float) -> float:
        return float(np.linalg.norm(answer(log_eta) - reference)) - radius

    low = high = np.log(radius)
    while excess(low) > 0 and low > np.log(radius) - 60:
        low -= 2.0
    while excess(high) <= 0 and high < _LONGEST:
        high += 2.0
    if excess(high) <= 0:  # only the greedy answer among equally good ones lies out
        return answer(high), 0.0
    log_eta = find_edge(excess, low, high)
    return answer(log_eta), float(radius * size * np.exp(-log_eta))


def project_euclidean(point: Floats, box: Box) -> Floats:
    """Return the nearest mixture of the box, ``clip(point - nu, m, c)``, nu by its sorted breakpoints; exact."""
    breakpoints = np.unique(np.concatenate([point - box.floor, point - box.cap]))  # rising nu, falling totals
    totals = np.clip(point - breakpoints[:, None], box.floor, box.cap).sum(axis=1)
    before = max(int(np.searchsorted(-totals, -1.0, side="right")) - 1, 0)
    middle = 0.5 * (breakpoints[before] + breakpoints[min(before + 1, len(breakpoints) - 1)])
    free = (point - middle > box.floor) & (point - middle < box.cap)
    limited = np.clip(point - middle, box.floor, box.cap)
    if not free.any():
        return np.asarray(limited)
    # nu from the shares that no limit holds: their sum is what the others leave.
    left = 1.0 - limited[~free].sum()
    moved = point[free] - point[free].mean() + left / free.sum()
    limited[free] = np.clip(moved, box.floor[free], box.cap[free])
    return np.asarray(limited)


def default_l2(n_domains: int) -> float:
    """Return ``.75 / sqrt(K)`` shares, about as wide as half a nat of ``kl``."""
    return float(0.75 / np.sqrt(n_domains))


class L2Region(Region):
    """Mixtures within a Euclidean distance of the reference; convex."""

    name: ClassVar[str] = "l2"
    exact: ClassVar[bool] = False

    @classmethod
    def build(cls, cfg: PolicyConfig, roles: Roles, target: Target) -> Region:
        """Take ``policy.radius``, or the default."""
        radius = default_l2(len(target.domains)) if cfg.radius is None else cfg.radius
        return cls(target.reference, target.box, require_radius(radius, "policy.radius", "in shares"))

    def measure(self, mixtures: Floats) -> Floats:
        """Return ``||T - q||``."""
        return np.asarray(np.linalg.norm(mixtures - self.reference, axis=-1))

    def maximise(self, theta: Floats) -> Solution:
        """Return :func:`solve_l2` with first-order prices."""
        weights, price = solve_l2(theta, self.reference, self.box, self.radius)
        slope = theta / self.reference - price / self.radius * (weights - self.reference)
        prices = {self.name: price} if price > 0 else {}
        return Solution(weights, prices | price_limits(slope, weights, self.box))
