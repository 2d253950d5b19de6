"""A ball in log-ratios around the reference, walked along one ray."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.policies.regions.region import TOLERANCE, Region, Solution, price_limits, require_radius
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.mixture.simplex import Box, project_to_box

Floats = NDArray[np.float64]

_STEPS = 64  # of the first look along the ray


def measure_aitchison(reference: Floats, weights: Floats) -> Floats:
    """Return ``||clr(T) - clr(q)||`` for ``weights`` (..., K); infinite where a share is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(weights) - np.log(reference)
        centred = ratio - ratio.mean(axis=-1, keepdims=True)
    norm = np.linalg.norm(centred, axis=-1)
    return np.asarray(np.where(np.isnan(norm), np.inf, norm))


def solve_aitchison(theta: Floats, reference: Floats, box: Box, radius: float) -> tuple[Floats, float]:
    """Maximise ``theta' log T`` along ``T(t) prop. to q exp(t c / ||c||)``, ``c = theta - mean(theta)``, t in [0, r].

    The end of the ray maximises ``c' clr(T)`` in the ball ``||clr(T) - clr(q)|| <= r``, but ``theta' log T`` also
    has the common part ``sum(theta) mean(log T)`` and can fall below its value at q there: so the best t, not the
    last. Best on the ray, not over the ball: a rule of one parameter. Floors and caps are kept by the projection
    that keeps ratios (``project_to_box``); a t whose projection leaves the ball is passed over.

    Parameters
    ----------
    theta, reference : ndarray (K,)
        No effect positive, or all equal: the reference is returned.
    box : Box
    radius : float
        Aitchison distance (log-ratios).

    Returns
    -------
    weights : ndarray (K,)
    t : float
        How far along the ray the answer lies.
    """
    from scipy.optimize import minimize_scalar

    centred = theta - theta.mean()
    length = float(np.linalg.norm(centred))
    if not np.any(theta > 0) or length <= 1e-14 * float(np.abs(theta).max()):
        return reference.copy(), 0.0

    def answer(t: float) -> Floats:
        logs = np.log(reference) + t / length * centred
        shares = np.maximum(np.exp(logs - logs.max()), 1e-300)
        return project_to_box(shares, box)

    def loss(t: float) -> float:
        weights = answer(t)
        if measure_aitchison(reference, weights) > radius + TOLERANCE:
            return np.inf
        with np.errstate(divide="ignore"):
            return -float(theta @ (np.log(weights) - np.log(reference)))

    ts = radius * np.linspace(0.0, 1.0, _STEPS + 1) ** 2
    losses = np.array([loss(t) for t in ts])
    best = int(np.argmin(losses))
    t, least = float(ts[best]), float(losses[best])
    low, high = ts[max(best - 1, 0)], ts[min(best + 1, _STEPS)]
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-10 * (1.0 + high)})
    if found.fun < least:
        t, least = float(found.x), float(found.fun)
    return (answer(t), t) if least < 0 else (reference.copy(), 0.0)


def default_aitchison(n_domains: int) -> float:
    """Return ``sqrt(K)``, about as wide as half a nat of ``kl``."""
    return float(np.sqrt(n_domains))


class AitchisonRegion(Region):
    """Mixtures within an Aitchison distance of the reference; not convex in shares."""

    name: ClassVar[str] = "aitchison"
    exact: ClassVar[bool] = False

    @classmethod
    def build(cls, cfg: PolicyConfig, roles: Roles, target: Target) -> Region:
        """Take ``policy.radius``, or the default."""
        radius = default_aitchison(len(target.domains)) if cfg.radius is None else cfg.radius
        return cls(target.reference, target.box, require_radius(radius, "policy.radius", "of log-ratios"))

    def measure(self, mixtures: Floats) -> Floats:
        """Return ``||clr(T) - clr(q)||``."""
        return measure_aitchison(self.reference, mixtures)

    def maximise(self, theta: Floats) -> Solution:
        """Return :func:`solve_aitchison`; prices are derivatives of what this rule gains."""
        weights, t = solve_aitchison(theta, self.reference, self.box, self.radius)
        free = (weights > self.box.floor + TOLERANCE) & (weights < self.box.cap - TOLERANCE)
        if t <= 0 or not free.any():
            return Solution(weights)
        common = theta[free].sum() / weights[free].sum()  # points of one share over the free domains, ratios kept
        slope = np.where(free, common, theta / weights)
        prices = {}
        ray = (theta - theta.mean()) / np.linalg.norm(theta - theta.mean())
        rise = float(theta[free] @ ray[free] - common * (weights[free] @ ray[free]))
        if t >= self.radius * (1 - 1e-9) and rise > 0:
            prices[self.name] = rise
        return Solution(weights, prices | price_limits(slope, weights, self.box))
