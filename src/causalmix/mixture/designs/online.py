"""The design of a run that finds its mixture while it trains: it starts from equal weights."""

from __future__ import annotations

from causalmix.errors import MixtureError
from causalmix.mixture.designs.fixed import FixedDesign
from causalmix.mixture.designs.request import Request
from causalmix.mixture.odm import check_bandit
from causalmix.mixture.simplex import check_request, count_allowed, validate_weights


def build_online(request: Request) -> FixedDesign:
    """Build the design of ``mixture=odm``; no domain needs to be able to give its equal share.

    Raises
    ------
    MixtureError
        Settings of the bandit out of range, or fewer documents in all domains together than the run needs.
    """
    cfg = request.cfg
    check_bandit(cfg.odm_rule, cfg.odm_memory)
    check_request(request.n_samples, request.available, cfg.repeats_max)
    most = sum(count_allowed(n, cfg.repeats_max) for n in request.available.values())
    if most < request.n_samples:
        raise MixtureError(
            f"{request.n_samples} documents asked, but all domains together give {most} "
            f"({sum(request.available.values())} documents x {cfg.repeats_max:g} repeats). Lower train.n_samples or "
            f"raise mixture.repeats_max."
        )
    return FixedDesign(cfg.kind, request.domains, validate_weights(request.share_equally(), request.domains))
