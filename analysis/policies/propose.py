"""From a config to a mixture: policies and baselines through one door."""

from __future__ import annotations

import dataclasses

from analysis.estimators.effects import Effects
from analysis.policies.causalmix_a import propose_a
from analysis.policies.causalmix_s import propose_s
from analysis.policies.constraints import read_limits
from analysis.policies.dmo import propose_dmo
from analysis.policies.grid import propose_grid
from analysis.policies.mixing_law import propose_mixing_law
from analysis.policies.mixture_gp import propose_mixture_gp
from analysis.policies.own_share import propose_own_share
from analysis.policies.plain import propose_best_observed, propose_equal, propose_fixed, propose_natural
from analysis.policies.proposal import Policy, Proposal
from analysis.policies.radius import settle_radius
from analysis.policies.regmix import propose_regmix
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError, nearest_name

POLICIES: dict[str, Policy] = {
    "causalmix_a": propose_a,
    "causalmix_s": propose_s,
    "regmix": propose_regmix,
    "dmo": propose_dmo,
    "mixing_law": propose_mixing_law,
    "mixture_gp": propose_mixture_gp,
    "grid": propose_grid,
    "own_share": propose_own_share,
    "equal": propose_equal,
    "natural": propose_natural,
    "fixed": propose_fixed,
    "best_observed": propose_best_observed,
}


def propose(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Ask the policy that the config names for a mixture.

    Raises
    ------
    AnalysisError
        An unknown policy, or one whose needs are not met.
    """
    check_kind(cfg.kind, "policy.kind")
    proposal = POLICIES[cfg.kind](effects, roles, target, settle_radius(effects, roles, target, cfg))
    limits = read_limits(effects, roles, target)
    if limits is None:
        return proposal
    # Said of every answer: baselines do not look at constraints.
    return dataclasses.replace(proposal, notes=(*proposal.notes, limits.describe(proposal.weights)))


def check_kind(kind: str, key: str) -> None:
    """Refuse an unknown policy or baseline, with the nearest right name."""
    if kind not in POLICIES:
        raise AnalysisError(f"{key}={kind}{nearest_name(kind, POLICIES)}; allowed: {', '.join(POLICIES)}.")


def baseline_config(name: str, like: PolicyConfig) -> PolicyConfig:
    """Return the config of a baseline by name, with its own numbers (RegMix's 128 best, seed 42)."""
    check_kind(name, "baselines")
    if name in ("regmix", "mixture_gp"):
        return PolicyConfig(name=name, kind=name, n_best=128, seed=42)
    return dataclasses.replace(like, name=name, kind=name, kappa=0.0, n_candidates=100_000, n_best=100)
