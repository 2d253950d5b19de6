"""A Gaussian process of each outcome on the shares, searched as RegMix searches."""

from __future__ import annotations

from analysis.estimators.effects import Effects
from analysis.policies.candidates import average_best
from analysis.policies.proposal import Proposal
from analysis.regressors.gaussian_process import SqrtShareGP
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig


def propose_mixture_gp(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the mean of the best ``n_best`` of ``n_candidates`` draws, scored by posterior means.

    One :class:`~analysis.regressors.gaussian_process.SqrtShareGP` an outcome; it knows no state.
    """
    return average_best(SqrtShareGP, roles, target, cfg)
