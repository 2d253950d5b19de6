"""``KL(T || q) <= rho`` with the objective linearised at the reference: exponential tilting."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.policies.box_rule import fill_greedily, fill_logs
from analysis.policies.regions.region import Region, Solution, find_edge, price_limits, require_radius
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]

_WIDEST = 700.0  # of log eta: beyond it exp overflows


def reverse_divergence(reference: Floats, weights: Floats) -> Floats:
    """Return ``KL(T || q)`` in nats for ``weights`` (..., K); q is positive."""
    held = np.maximum(weights, 1e-300)
    return np.asarray((weights * (np.log(held) - np.log(reference))).sum(axis=-1))


def solve_reverse_kl(theta: Floats, reference: Floats, box: Box, rho: float) -> tuple[Floats, float]:
    """Maximise ``g'(T - q)``, ``g = theta / q``, subject to ``KL(T || q) <= rho``, ``m <= T <= c``, ``sum T = 1``.

    ``T_k = clip(s q_k exp(eta g_k), m_k, c_k)``, s by the sum, eta by root search; exact for this objective,
    which is the first-order gain at q. A share's worth falls as it grows, so a large radius overshoots the best
    of ``theta' log T``; as the radius grows the answer goes to the vertex of the linear programme.

    Parameters
    ----------
    theta, reference : ndarray (K,)
        No effect positive: the reference is returned.
    box : Box
    rho : float
        Radius in nats.

    Returns
    -------
    weights : ndarray (K,)
    lam : float
        First-order points gained for one more nat, ``1 / eta``; 0 where the region does not bind.
    """
    gradient = theta / reference
    spread = float(np.ptp(gradient))
    if not np.any(theta > 0) or spread <= 1e-14 * float(np.abs(gradient).max()):
        return reference.copy(), 0.0
    free = fill_greedily(gradient, box)
    if reverse_divergence(reference, free) <= rho:
        return free, 0.0

    def answer(log_eta: float) -> Floats:
        return fill_logs(np.log(reference) + np.exp(log_eta) / spread * (gradient - gradient.max()), box)

    def excess(log_eta: float) -> float:
        return float(reverse_divergence(reference, answer(log_eta))) - rho

    low = high = 0.0
    while excess(low) > 0 and low > -60:
        low -= 2.0
    while excess(high) <= 0 and high < _WIDEST:
        high += 2.0
    if excess(low) > 0:  # a radius below what rounding can tell from the reference
        return reference.copy(), float(spread * np.exp(-low))
    if excess(high) <= 0:  # only the greedy answer among equally good ones lies out
        return answer(high), 0.0
    log_eta = find_edge(excess, low, high)
    return answer(log_eta), float(spread * np.exp(-log_eta))


class ReverseKLRegion(Region):
    """Mixtures with ``KL(T || q)`` of at most rho nats; convex, and it allows shares of zero."""

    name: ClassVar[str] = "reverse_kl"
    exact: ClassVar[bool] = False

    @classmethod
    def build(cls, cfg: PolicyConfig, roles: Roles, target: Target) -> Region:
        """Take ``policy.rho``."""
        return cls(target.reference, target.box, require_radius(cfg.rho, "policy.rho", "in nats"))

    def measure(self, mixtures: Floats) -> Floats:
        """Return ``KL(T || q)`` in nats."""
        return reverse_divergence(self.reference, mixtures)

    def maximise(self, theta: Floats) -> Solution:
        """Return :func:`solve_reverse_kl` with first-order prices."""
        weights, lam = solve_reverse_kl(theta, self.reference, self.box, self.radius)
        slope = theta / self.reference
        if lam > 0:
            slope = slope - lam * np.log(np.maximum(weights, 1e-300) / self.reference)
        prices = {self.name: lam} if lam > 0 else {}
        return Solution(weights, prices | price_limits(slope, weights, self.box))
