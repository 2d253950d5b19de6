"""From a config to a trust region."""

from __future__ import annotations

from analysis.policies.regions.aitchison import AitchisonRegion
from analysis.policies.regions.box import BoxRegion, OffRegion
from analysis.policies.regions.kl import KLRegion
from analysis.policies.regions.l2 import L2Region
from analysis.policies.regions.region import Region
from analysis.policies.regions.reverse_kl import ReverseKLRegion
from analysis.policies.regions.support import SupportRegion
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError, nearest_name

REGIONS: dict[str, type[Region]] = {
    region.name: region
    for region in (OffRegion, BoxRegion, KLRegion, ReverseKLRegion, AitchisonRegion, L2Region, SupportRegion)
}


def build_region(cfg: PolicyConfig, roles: Roles, target: Target) -> Region:
    """Build the region that ``policy.region`` names.

    Raises
    ------
    AnalysisError
        An unknown region, or a radius that is not positive.
    """
    if cfg.region not in REGIONS:
        raise AnalysisError(
            f"policy.region={cfg.region}{nearest_name(cfg.region, REGIONS)}; allowed: {', '.join(REGIONS)}."
        )
    return REGIONS[cfg.region].build(cfg, roles, target)
