"""CausalMix-A: the mixture that the marginal effects themselves name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.coordinates import Coordinates
from analysis.estimators.effects import Effects
from analysis.policies.climb import climb
from analysis.policies.constraints import read_limits, solve_constrained
from analysis.policies.proposal import Proposal
from analysis.policies.regions.region import Region
from analysis.policies.regions.registry import build_region
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError

Floats = NDArray[np.float64]


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


def propose_a(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with CausalMix-A at the target's state, in the region that the config names.

    The region's rule for ``theta' log T``, floors and caps kept; with ``outcome.constraints`` through their
    Lagrangian (see :func:`solve_constrained`); where effects bend, its optimum on the curve (see :func:`climb`). No
    effect positive: the reference, and a note that says so.

    Raises
    ------
    AnalysisError
        Effects on shares, or log-ratio effects that sum to zero where the rule needs their level.
    """
    region = build_region(cfg, roles, target)
    _require_logs(effects.coordinates, region)
    theta, q = effects.theta(target.x), target.reference
    limits = read_limits(effects, roles, target)
    if effects.curve is not None:
        found = climb(effects, theta, region, limits)
        return Proposal(found.weights, found.prices, found.notes)
    if not np.any(theta > 0):
        note = "No domain has a positive effect at this state: the answer is the reference itself."
        return Proposal(q.copy(), notes=(note,))
    found = region.solve(theta) if limits is None else solve_constrained(region, theta, limits)
    notes = found.notes
    gain = float(theta @ (effects.embed(found.weights) - effects.embed(q)))
    if gain < 0:
        notes = (*notes, f"The region's rule overshoots: {gain:+.3f} points predicted; take a smaller radius.")
    return Proposal(found.weights, found.prices, notes)


def _require_logs(coordinates: Coordinates, region: Region) -> None:
    """Refuse effects that the rules do not speak of."""
    if not coordinates.is_log:
        raise AnalysisError(
            f"policy=causalmix_a with estimator.coordinates={coordinates.name}: its rules are for effects of log "
            "shares. Take policy=causalmix_s, or estimator.coordinates=log."
        )
    if region.name in ("off", "box") and not coordinates.has_level:
        raise AnalysisError(
            f"policy=causalmix_a with policy.region={region.name} and estimator.coordinates={coordinates.name}: the "
            "effects of log-ratios sum to zero, and shares in proportion to the positive ones mean nothing. Take "
            "policy.region=kl, or estimator.coordinates=log."
        )
