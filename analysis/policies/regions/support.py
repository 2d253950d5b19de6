"""Mixtures whose residual leverage the runs support."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.leverage import Leverage, read_leverage
from analysis.policies.regions.box import solve_box
from analysis.policies.regions.kl import solve_kl
from analysis.policies.regions.region import TOLERANCE, Region, Solution, price_limits
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]

_LEAST = 1e-9  # share below which a logarithm is not followed
_N_STARTS = 2  # runs' own mixtures from which the search starts, besides the path's end


def solve_support(
    theta: Floats, leverage: Leverage, box: Box, starts: list[Floats], rows: Floats, least: Floats
) -> Floats:
    """Maximise ``theta' log T`` subject to ``h(T) <= h_95``, ``G z(T) >= b``, ``m <= T <= c``, ``sum T = 1``.

    h is quadratic in ``log T`` (for log coordinates with no offset), so there the region is convex, and the answer
    exact, under the same condition as :func:`solve_kl`; it has no closed form and is found by SLSQP (Kraft 1988)
    from each start.

    Parameters
    ----------
    theta : ndarray (K,)
    leverage : Leverage
    box : Box
    starts : list of ndarray (K,)
        Mixtures that keep every limit; at least one.
    rows, least : ndarray (J, K), (J,)
        G and b, the constraints of the outcome; J may be 0.

    Returns
    -------
    ndarray (K,)
        Keeps every limit, and is never worse than a start.
    """
    from scipy.optimize import minimize

    low, high = np.log(np.maximum(box.floor, _LEAST)), np.log(box.cap)
    scale = float(np.abs(theta).max())

    def slack(mixture: Floats) -> Floats:
        inside = 1.0 - leverage.measure(mixture) / leverage.limit
        return np.append(rows @ leverage.coordinates.embed(mixture) - least, inside)

    def slack_slope(z: Floats) -> Floats:
        T = np.exp(z)
        return np.vstack([rows * leverage.embed_slope(T), -leverage.slope(T) / leverage.limit])

    def value(mixture: Floats) -> float:
        return float(theta @ np.log(np.maximum(mixture, _LEAST)))

    constraints: Any = [
        {"type": "eq", "fun": lambda z: np.exp(z).sum() - 1.0, "jac": np.exp},
        {"type": "ineq", "fun": lambda z: slack(np.exp(z)), "jac": slack_slope},
    ]
    answers = list(starts)
    for start in starts:
        found = minimize(  # type: ignore[call-overload]  # the stubs know no bounds as one array
            lambda z: -float(theta @ z) / scale,
            np.clip(np.log(np.maximum(start, _LEAST)), low, high),
            jac=lambda z: -theta / scale,
            bounds=np.stack([low, high], axis=1),
            constraints=constraints,
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 300},
        )
        answers.append(_pull_inside(np.exp(found.x), start, slack, box))
    return max(answers, key=value)


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
        held = np.maximum(mixtures, 0.0 if self.leverage.coordinates.offset > 0 else 1e-300)
        return self.leverage.measure(held)

    def maximise(self, theta: Floats) -> Solution:
        """Return :func:`solve_support` with the prices of its limits."""
        none = np.empty((0, len(theta)))
        found = self.maximise_within(theta, none, np.empty(0))
        if found is not None:
            return found[0]
        note = "Neither the reference nor a run that keeps the limits lies in the support: the reference is kept."
        return Solution(self.reference.copy(), notes=(note,))

    def maximise_within(self, theta: Floats, rows: Floats, least: Floats) -> tuple[Solution, Floats] | None:
        """Return the best mixture with ``rows @ z(T) >= least`` and the price of each row.

        The search starts at the end of the KL path and at the best runs inside; None where no start keeps the rows.
        """
        starts = [*self._follow_path(theta), *self._find_runs(theta), self.reference]
        starts = [T for T in starts if self.contains(T) and np.all(rows @ self.leverage.coordinates.embed(T) >= least)]
        if not starts:
            return None
        weights = solve_support(theta, self.leverage, self.box, starts, rows, least)
        lam, mu = self._price(theta, weights, rows, least)
        held = np.maximum(weights, _LEAST)
        slope = (theta + mu @ rows * self.leverage.embed_slope(held) - lam * self.leverage.slope(held)) / held
        prices = {self.name: lam} if lam > 0 else {}
        return Solution(weights, prices | price_limits(slope, weights, self.box)), mu

    def _price(self, theta: Floats, weights: Floats, rows: Floats, least: Floats) -> tuple[float, Floats]:
        """Return lam and mu of ``theta_k = nu T_k + lam dh/dz_k - mu' G_k`` over the free domains, by least squares."""
        from scipy.optimize import nnls

        lev = self.leverage
        free = (weights > self.box.floor + TOLERANCE) & (weights < self.box.cap - TOLERANCE)
        binds = np.append(rows @ lev.coordinates.embed(weights) - least < 1e-6, lev.measure(weights) > lev.limit - 1e-6)
        columns = np.vstack([-rows * lev.embed_slope(weights), lev.slope(weights)])
        prices = np.zeros(len(binds))
        if free.any() and binds.any():
            # Shares first: nu may have either sign, so it comes twice.
            design = np.vstack([weights, -weights, columns[binds]])[:, free].T
            prices[binds] = nnls(design, theta[free])[0][2:]
        return float(prices[-1]), prices[:-1]

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


def _pull_inside(weights: Floats, start: Floats, slack: Callable[[Floats], Floats], box: Box) -> Floats:
    """Move a solver's answer back towards a start inside, as far as its rounding took it out."""
    limited = np.clip(weights, box.floor, box.cap)
    if not abs(limited.sum() - 1.0) <= 1e-6:
        return start
    limited = np.clip(limited + (1.0 - limited.sum()) * _share_room(limited, box), box.floor, box.cap)
    for part in (0.0, *np.logspace(-12, -2, 21)):
        mixture = (1.0 - part) * limited + part * start
        if np.all(slack(mixture) >= -TOLERANCE):
            return np.asarray(mixture)
    return start


def _share_room(weights: Floats, box: Box) -> Floats:
    """Return how a small excess of mass is spread: over the domains that no limit holds."""
    room = np.minimum(weights - box.floor, box.cap - weights)
    return np.asarray(room / room.sum()) if room.sum() > 0 else np.zeros_like(room)
