"""Own share: train on what you are tested on."""

from __future__ import annotations

import numpy as np

from analysis.estimators.effects import Effects
from analysis.mappings import read_mapping
from analysis.policies.plain import fit_to_box
from analysis.policies.proposal import Proposal
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError, name_some, nearest_name


def propose_own_share(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with every outcome's weight as the share of its own domain.

    An outcome's own domain has its name, unless ``policy.own_domains`` names another. With one outcome this is
    the mixture that ranking by own share puts first; with several of equal weight that rule cannot tell their
    domains apart, and they get equal shares. A domain that is no outcome's own gets its floor.

    Raises
    ------
    AnalysisError
        Where no outcome has a domain of its own, or ``policy.own_domains`` names unknown ones.
    """
    own = _match(roles, cfg)
    without = [name for name in roles.outcome_names if name not in own]
    if not own:
        raise AnalysisError(
            f"own_share: no domain has the name of an outcome ({name_some(without)}); domains: "
            f"{name_some(roles.domains, 40)}. Say which belongs to which: 'policy.own_domains={{outcome: domain}}'."
        )
    weights = np.zeros(len(roles.domains))
    for name, weight in zip(roles.outcome_names, roles.outcome_weights):
        if name in own:
            weights[roles.domains.index(own[name])] += weight
    if weights.sum() <= 0:
        raise AnalysisError(f"own_share: the outcomes with a domain of their own ({name_some(own)}) have no weight.")
    proposal = fit_to_box(np.asarray(weights / weights.sum()), target)
    left_out = (f"Left out, having no domain of their own: {name_some(without)}.",) if without else ()
    return Proposal(proposal.weights, notes=(*left_out, *proposal.notes))


def _match(roles: Roles, cfg: PolicyConfig) -> dict[str, str]:
    if not cfg.own_domains:
        return {name: name for name in roles.outcome_names if name in roles.domains}
    given = {name: str(domain) for name, domain in read_mapping(cfg.own_domains, "policy.own_domains").items()}
    faults = [f"outcome '{n}'{nearest_name(n, roles.outcome_names)}" for n in given if n not in roles.outcome_names]
    faults += [f"domain '{d}'{nearest_name(d, roles.domains)}" for d in given.values() if d not in roles.domains]
    if faults:
        raise AnalysisError(
            f"policy.own_domains: unknown {name_some(faults)}; outcomes: {name_some(roles.outcome_names, 40)}; "
            f"domains: {name_some(roles.domains, 40)}."
        )
    return given
