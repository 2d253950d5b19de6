"""RegMix: regress outcomes on shares, draw many mixtures, average the best (Liu et al. 2024)."""

from __future__ import annotations

from analysis.estimators.effects import Effects
from analysis.policies.candidates import average_best
from analysis.policies.proposal import Proposal
from analysis.regressors.boosted_trees import BoostedTrees
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig


def propose_regmix(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the mean of the best ``n_best`` (128) of ``n_candidates`` draws of Dirichlet(prior).

    One LightGBM an outcome (:class:`~analysis.regressors.boosted_trees.BoostedTrees`, seed 42) on the K
    shares; it knows no state. The prior is the target pool's natural shares.

    Raises
    ------
    AnalysisError
        With 40 runs or fewer.
    """
    return average_best(lambda: BoostedTrees(cfg.seed), roles, target, cfg)
