"""CausalMix-A: the mixture that the marginal effects themselves name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.policies.box_rule import divergence, fill_box
from analysis.policies.proposal import Proposal
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError, nearest_name
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]

REGIONS = ("off", "kl")
_BISECTIONS = 200


def allocate_by_effects(theta: Floats) -> Floats:
    """Return ``T_k = [theta_k]+ / sum_j [theta_j]+``, the argmax of ``theta' log T`` for theta >= 0.

    Raises
    ------
    AnalysisError
        Where no effect is positive: there is no such mixture.
    """
    positive = np.clip(theta, 0.0, None)
    if positive.sum() <= 0:
        raise AnalysisError("no domain has a positive effect: CausalMix-A has no answer; keep the reference.")
    return np.asarray(positive / positive.sum())


def solve_off(theta: Floats, reference: Floats, box: Box) -> Floats:
    """Return the best mixture of the box for ``theta' log T`` (floors 0 and caps 1 give the closed form)."""
    return fill_box(theta, reference, box) if np.any(theta > 0) else reference.copy()


def solve_kl(theta: Floats, reference: Floats, box: Box, rho: float) -> tuple[Floats, float]:
    """Maximise ``theta' log T`` over the box with ``KL(q || T) <= rho``.

    The maximiser of the Lagrangian is the box rule with scores ``theta + lam q``; lam is the smallest
    multiplier that keeps the region, found by bisection in log lam. No effect positive: the reference.
    Exact unless the caps of the domains with positive effects leave mass over: what is left then goes to the
    others in the proportions of q, where the exact optimum would empty all of them but one.

    Parameters
    ----------
    theta, reference : ndarray (K,)
        Effects, and q inside the box.
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

    def answer(lam: float) -> Floats:
        return fill_box(theta + lam * reference, reference, box)

    free = answer(0.0)
    if divergence(reference, free) <= rho:
        return free, 0.0
    scale = float(np.abs(theta).max())
    low, high = scale * 1e-12, scale
    while divergence(reference, answer(high)) > rho:
        low, high = high, high * 4.0
    for _ in range(_BISECTIONS):
        middle = float(np.sqrt(low * high))
        if not low < middle < high:
            break
        low, high = (low, middle) if divergence(reference, answer(middle)) <= rho else (middle, high)
    return answer(high), high


def propose_a(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with CausalMix-A at the target's state, in the region the config names."""
    check_region(cfg)
    theta, q, box = effects.theta(target.x), target.reference, target.box
    if not np.any(theta > 0):
        note = "No domain has a positive effect at this state: the answer is the reference itself."
        return Proposal(q.copy(), notes=(note,))
    lam = 0.0
    if cfg.region == "kl":
        weights, lam = solve_kl(theta, q, box, cfg.rho)
    else:
        weights = solve_off(theta, q, box)
    return Proposal(weights, _price_limits(theta, q, lam, weights, box))


def check_region(cfg: PolicyConfig) -> None:
    """Refuse an unknown region or a radius that is not positive."""
    if cfg.region not in REGIONS:
        raise AnalysisError(
            f"policy.region={cfg.region}{nearest_name(cfg.region, REGIONS)}; allowed: {', '.join(REGIONS)}."
        )
    if cfg.region == "kl" and not (np.isfinite(cfg.rho) and cfg.rho > 0):
        raise AnalysisError(f"policy.rho={cfg.rho}: a radius in nats above 0; region=off takes none.")


def _price_limits(theta: Floats, q: Floats, lam: float, weights: Floats, box: Box) -> dict[str, float]:
    """Return the multipliers of the binding limits: ``(theta_k + lam q_k) / T_k`` less its free value nu."""
    prices = {"kl": lam} if lam > 0 else {}
    capped = weights >= box.cap - 1e-9
    floored = (weights <= box.floor + 1e-9) & ~capped
    free = ~capped & ~floored
    scores = theta + lam * q
    if not free.any():
        return prices
    nu = float(np.max(scores[free] / weights[free]))
    for k, name in enumerate(box.domains):
        if capped[k] and weights[k] > 0:
            prices[f"cap.{name}"] = float(scores[k] / weights[k] - nu)
        if floored[k] and weights[k] > 0:
            prices[f"floor.{name}"] = float(nu - scores[k] / weights[k])
    return prices
