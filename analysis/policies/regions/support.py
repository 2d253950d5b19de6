"""Mixtures whose residual leverage the runs support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.leverage import Leverage, read_leverage
from analysis.policies.regions.box import solve_box
from analysis.policies.regions.kl import solve_kl
from analysis.policies.regions.region import TOLERANCE, Region, Solution, find_edge, price_limits
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]

_LEAST = 1e-9  # share below which a logarithm is not followed
_N_STARTS = 2  # runs' own mixtures from which the search starts, besides the path's end


def solve_support(theta: Floats, leverage: Leverage, box: Box, starts: list[Floats]) -> tuple[Floats, float]:
    """Maximise ``theta' log T`` subject to ``h(T) <= h_95``, ``m <= T <= c``, ``sum T = 1``.

    h is quadratic in ``log T``, so in these coordinates the region is convex, and the answer exact, under the
    same condition as :func:`solve_kl`; it has no closed form and is found by SLSQP (Kraft 1988) from each start.

    Parameters
    ----------
    theta : ndarray (K,)
    leverage : Leverage
    box : Box
    starts : list of ndarray (K,)
        Mixtures inside the region, the best guess first; at least one.

    Returns
    -------
    weights : ndarray (K,)
        Never worse than a start, and inside.
    lam : float
        Points gained for one unit more of leverage; 0 where the limit does not bind.
    """
    from scipy.optimize import minimize

    limit, low = leverage.limit, np.log(np.maximum(box.floor, _LEAST))
    constraints: Any = [
        {"type": "eq", "fun": lambda z: np.exp(z).sum() - 1.0, "jac": np.exp},
        {
            "type": "ineq",
            "fun": lambda z: 1.0 - leverage.measure(np.exp(z)) / limit,
            "jac": lambda z: -leverage.slope(np.exp(z)) / limit,
        },
    ]
    scale = float(np.abs(theta).max())
    best = max(starts, key=lambda weights: float(theta @ np.log(np.maximum(weights, _LEAST))))
    for start in starts:
        found = minimize(
            lambda z: -float(theta @ z) / scale,
            np.clip(np.log(np.maximum(start, _LEAST)), low, np.log(box.cap)),
            jac=lambda z: -theta / scale,
            bounds=list(zip(low, np.log(box.cap))),
            constraints=constraints,
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 300},
        )
        weights = _pull_inside(np.exp(found.x), start, leverage, box)
        if theta @ np.log(np.maximum(weights, _LEAST)) > theta @ np.log(np.maximum(best, _LEAST)):
            best = weights
    return best, _price_leverage(theta, best, leverage, box)


@dataclass(frozen=True)
class SupportRegion(Region):
    """Mixtures with a residual leverage of at most the 95th percentile of the runs'; not convex in shares.

    It surrounds the runs, not the reference: where the reference lies outside, CausalMix starts from the runs'
    own mixtures.

    Attributes
    ----------
    leverage : Leverage
    runs : ndarray (n, K)
        The runs' mixtures.
    """

    leverage: Leverage
    runs: Floats

    name: ClassVar[str] = "support"

    @classmethod
    def build(cls, cfg: PolicyConfig, roles: Roles, target: Target) -> Region:
        """Measure the leverages of the runs at the target's state."""
        leverage = read_leverage(roles, target.x)
        return cls(target.reference, target.box, leverage.limit, leverage, roles.mixtures)

    def measure(self, mixtures: Floats) -> Floats:
        """Return the residual leverage; infinite for a share of zero whose logarithm is asked."""
        held = np.maximum(mixtures, 0.0 if self.leverage.log_offset > 0 else 1e-300)
        return self.leverage.measure(held)

    def maximise(self, theta: Floats) -> Solution:
        """Return :func:`solve_support` from the end of the KL path and the best runs inside."""
        starts = [*self._follow_path(theta), *self._find_runs(theta)]
        if not starts:
            note = "Neither the reference nor a run that keeps the limits lies in the support: the reference is kept."
            return Solution(self.reference.copy(), notes=(note,))
        weights, lam = solve_support(theta, self.leverage, self.box, starts)
        slope = (theta - lam * self.leverage.slope(weights)) / np.maximum(weights, _LEAST)
        prices = {self.name: lam} if lam > 0 else {}
        return Solution(weights, prices | price_limits(slope, weights, self.box))

    def _follow_path(self, theta: Floats) -> list[Floats]:
        """Go from the reference towards the box's best, along the answers of the KL region, to the edge."""
        if not self.contains(self.reference):
            return []
        free = solve_box(theta, self.reference, self.box)
        if self.contains(free):
            return [free]

        def answer(log_rho: float) -> Floats:
            return solve_kl(theta, self.reference, self.box, float(np.exp(log_rho)))[0]

        low, high = np.log(1e-8), np.log(20.0)
        inside = self.reference
        for _ in range(12):  # a start, not the answer
            middle = 0.5 * (low + high)
            trial = answer(middle)
            if self.contains(trial):
                low, inside = middle, trial
            else:
                high = middle
        return [inside]

    def _find_runs(self, theta: Floats) -> list[Floats]:
        inside = self.runs[self.contains(self.runs)]
        if not len(inside):
            return []
        order = np.argsort(-(np.log(np.maximum(inside, _LEAST)) @ theta), kind="stable")
        return list(inside[order[:_N_STARTS]])


def _pull_inside(weights: Floats, start: Floats, leverage: Leverage, box: Box) -> Floats:
    """Move a solver's answer back towards a start inside, as far as its rounding took it out."""
    limited = np.clip(weights, np.maximum(box.floor, 0.0), box.cap)
    if abs(limited.sum() - 1.0) > 1e-6:
        return start
    limited = np.clip(limited + (1.0 - limited.sum()) * _share_room(limited, box), box.floor, box.cap)

    def excess(part: float) -> float:
        mixture = (1.0 - part) * limited + part * start
        return float(leverage.measure(mixture)) - leverage.limit

    if excess(0.0) <= 0:
        return np.asarray(limited)
    if excess(1.0) > 0:  # the start itself lies on the edge, to rounding
        return start
    part = find_edge(excess, 1.0, 0.0)
    return np.asarray((1.0 - part) * limited + part * start)


def _share_room(weights: Floats, box: Box) -> Floats:
    """Return how a small excess of mass is spread: over the domains that no limit holds."""
    room = np.minimum(weights - box.floor, box.cap - weights)
    return np.asarray(room / room.sum()) if room.sum() > 0 else np.zeros_like(room)


def _price_leverage(theta: Floats, weights: Floats, leverage: Leverage, box: Box) -> float:
    """Return lam of ``theta_k / T_k = nu + lam dh/dT_k`` over the free domains, by least squares."""
    free = (weights > box.floor + TOLERANCE) & (weights < box.cap - TOLERANCE)
    if leverage.measure(weights) < leverage.limit * (1 - 1e-6) or free.sum() < 2:
        return 0.0
    held = weights[free]
    # In units of points a unit of log share, so that small shares do not rule the fit.
    regressors = np.stack([held, leverage.slope(weights)[free]], axis=1)
    return max(float(np.linalg.lstsq(regressors, theta[free], rcond=None)[0][1]), 0.0)
