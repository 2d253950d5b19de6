"""Baselines that need no fit: equal, natural, fixed, the best observed run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.mappings import read_mapping
from analysis.policies.proposal import Proposal
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError
from causalmix.mixture.simplex import project_to_box, validate_weights


def propose_equal(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the same share for every domain."""
    return fit_to_box(np.full(len(target.domains), 1.0 / len(target.domains)), target)


def propose_natural(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the target pool's own shares."""
    return fit_to_box(target.natural, target)


def propose_fixed(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with ``policy.weights``, taken as they are.

    Raises
    ------
    AnalysisError
        No weights.
    MixtureError
        Weights off the simplex, or of unknown domains.
    """
    if not cfg.weights:
        raise AnalysisError("policy=fixed needs policy.weights={domain: share, ...}.")
    return fit_to_box(validate_weights(read_mapping(cfg.weights, "policy.weights"), target.domains), target)


def propose_best_observed(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the mixture of the run with the highest outcome, whatever pool it had."""
    best = int(np.argmax(roles.Y))
    proposal = fit_to_box(roles.mixtures[best], target)
    note = f"The best run is {roles.run_ids[best]} with {roles.Y[best]:.3f} points."
    return Proposal(proposal.weights, notes=(note, *proposal.notes))


def fit_to_box(weights: NDArray[np.float64], target: Target) -> Proposal:
    """Move a mixture into the target's floors and caps, and say so where it moved."""
    if target.box.contains(weights, 1e-9):
        return Proposal(weights.copy())
    note = "It broke a floor or cap of the target and was moved to the nearest mixture that keeps them."
    return Proposal(project_to_box(weights, target.box), notes=(note,))
