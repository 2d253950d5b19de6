"""What the explorer of a report holds: the fit, the limits, and what stands against advice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from analysis.answer import OFF_RELATION, read_scatter
from analysis.checks.check import FAILED
from analysis.checks.quality import FAR, TargetSupport
from analysis.estimators.judged import JudgedEffects
from analysis.estimators.varying_coefficient_gp import ProcessEffects
from analysis.leverage import read_leverage
from analysis.policies.causalmix_s import seed_candidates
from analysis.policies.regions.aitchison import default_aitchison
from analysis.policies.regions.l2 import default_l2
from analysis.policies.regions.registry import REGIONS
from analysis.report.explorer.models import Unexplorable, describe_effects, pack
from analysis.result import Analysis
from analysis.roles import Roles
from causalmix.config import PolicyConfig

SCRIPTS = (
    "numbers.js",
    "effects.js",
    "process.js",
    "policy.js",
    "random.js",
    "regions.js",
    "support.js",
    "search.js",
    "answer.js",
    "page.js",
)
KINDS = {"causalmix_a": "a", "causalmix_s": "s"}
MOST_BYTES = 24_000_000  # a page larger than this takes long to open
MOST_LOOKS = 20_000_000  # of a candidate at a run: about a second in a page
MARGIN = 0.25  # of the runs' range: how far beyond it a slider goes


@dataclass(frozen=True)
class Explorer:
    """The data of the explorer, or the reason why there is none.

    Attributes
    ----------
    content : dict or None
        What the scripts read.
    reason : str
        Why there is no explorer; empty where there is one.
    """

    content: dict[str, Any] | None
    reason: str = ""

    @property
    def data(self) -> str:
        """The content as JSON that may stand between script tags."""
        text = json.dumps(self.content, allow_nan=False, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def read_scripts() -> str:
    """Return the explorer's scripts, joined."""
    folder = resources.files("analysis.report.explorer")
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)


def build_explorer(analysis: Analysis, roles: Roles) -> Explorer:
    """Describe the answer so that the page can answer for other states, radii and limits by itself.

    The page's policies are CausalMix-A and CausalMix-S in every region, S on the analysis's own draws (fewer of them
    where a surface makes each one dear). It is exact where the fit is in closed form, and answers at the runs' own
    states alone where it is not (forests).
    """
    try:
        return Explorer(_list_content(analysis, roles))
    except Unexplorable as found:
        return Explorer(None, str(found))


def _list_content(analysis: Analysis, roles: Roles) -> dict[str, Any]:
    from scipy.stats import norm

    target, effects, policy = analysis.target, analysis.effects, analysis.policy
    if target.constraints:
        raise Unexplorable("The answer keeps outcome.constraints, which the page's rules do not know.")
    if not effects.coordinates.is_log:
        raise Unexplorable("The effects are of shares (tangent coordinates), and CausalMix-A is for log shares.")
    search = _describe_search(analysis, roles)
    is_short = policy.kind == "causalmix_s" and search["n_candidates"] < policy.n_candidates
    content = {
        "domains": list(analysis.domains),
        "confidence": analysis.confidence,
        "quantile": float(norm.ppf(0.5 + analysis.confidence / 2)),
        "state": _list_state(analysis, roles),
        "wanted": (target.reference if target.asked is None else target.asked).tolist(),
        "floor": target.box.floor.tolist(),
        "cap": target.box.cap.tolist(),
        "kind": KINDS.get(policy.kind, "a"),
        "region": policy.region if policy.kind in KINDS else "kl",
        "regions": list(REGIONS),
        "search": search,
        "rho": float(policy.rho),
        **_list_radii(policy, len(analysis.domains)),
        "is_own": policy.kind in KINDS and not is_short,
        "policy": policy.name,
        "has_level": effects.coordinates.has_level,
        "runs": pack(roles.mixtures),
        "coordinates": {"basis": effects.coordinates.basis.tolist(), "offset": effects.coordinates.offset},
        "support": _describe_support(analysis, roles),
        "leverage": _describe_leverage(analysis, roles),
        "blocking": _list_blocking(analysis),
        "model": describe_effects(effects, roles, target),
    }
    size = len(json.dumps(content))
    if size > MOST_BYTES:
        raise Unexplorable(f"The fit of {roles.n_runs} runs would take {size / 1e6:.0f} MB of this page.")
    return content


def _describe_search(analysis: Analysis, roles: Roles) -> dict[str, Any]:
    """Describe where CausalMix-S's draws begin, and how many of them a page can look at."""
    policy = analysis.policy
    kept = analysis.effects.effects if isinstance(analysis.effects, JudgedEffects) else analysis.effects
    bends = isinstance(kept, ProcessEffects) and kept.kernel.has_surface
    looks = roles.n_runs * len(kept.processes) if bends and isinstance(kept, ProcessEffects) else 1
    n = min(policy.n_candidates, max(MOST_LOOKS // looks, 1))
    inner = seed_candidates(policy.seed).bit_generator.state["state"]
    return {
        "state": _split_words(inner["state"]),
        "increment": _split_words(inner["inc"]),
        "n_candidates": n,
        "n_best": max(1, policy.n_best * n // policy.n_candidates),
        "kappa": policy.kappa if policy.kind == "causalmix_s" else 0.0,
    }


def _split_words(value: int) -> list[int]:
    """Split 128 bits into four words of 32, the lowest first."""
    return [(value >> (32 * i)) & 0xFFFFFFFF for i in range(4)]


def _list_radii(policy: PolicyConfig, n_domains: int) -> dict[str, float]:
    """Return the radius of each ball: the policy's own where it is the policy's region, else that region's default."""
    given = {} if policy.radius is None else {policy.region: float(policy.radius)}
    defaults = {"aitchison": default_aitchison(n_domains), "l2": default_l2(n_domains)}
    return {name: given.get(name, value) for name, value in defaults.items()}


def _list_state(analysis: Analysis, roles: Roles) -> list[dict[str, Any]]:
    """List the features that theta depends on, with the range of their sliders."""
    features = []
    for j, name in enumerate(analysis.effects.x_names):
        least, greatest = float(roles.X[:, j].min()), float(roles.X[:, j].max())
        value, room = float(analysis.target.x[j]), MARGIN * (greatest - least)
        low, high = min(least - room, value), max(greatest + room, value)
        group, _, owner = name.partition(".")
        features.append(
            {
                "name": name,
                "group": group if owner in roles.domains else "the pool",
                "label": owner if owner in roles.domains else name,
                "value": value,
                "low": low,
                "high": high,
                "least": least,
                "greatest": greatest,
            }
        )
    return features


def _describe_support(analysis: Analysis, roles: Roles) -> dict[str, Any] | None:
    """Describe how far a state lies out, as :func:`analysis.answer.measure_support` has it."""
    if not roles.x_names:
        return None
    inverse, off = read_scatter(roles.X)
    return {
        "names": list(roles.x_names),
        "mean": roles.X.mean(axis=0).tolist(),
        "inverse": inverse.tolist(),
        "off": off.tolist() if off.any() else [],
        "off_limit": OFF_RELATION,
        "limit": analysis.support.distance_limit,
        "far": None if TargetSupport.code in analysis.overruled else FAR,
        "code": TargetSupport.code,
    }


def _describe_leverage(analysis: Analysis, roles: Roles) -> dict[str, Any]:
    """Describe the residual leverage; its centre is linear in the state, so two states a feature tell all of it."""
    at_zero = read_leverage(roles, np.zeros(len(roles.x_names)))
    slopes = [read_leverage(roles, row).centre - at_zero.centre for row in np.eye(len(roles.x_names))]
    return {
        "centre": at_zero.centre.tolist(),
        "slopes": [slope.tolist() for slope in slopes],
        "inverse": pack(at_zero.inverse),
        "limit": at_zero.limit,
    }


def _list_blocking(analysis: Analysis) -> list[str]:
    """List what stands against advice whatever the sliders say; the state's own support is measured by the page."""
    return [
        f"[{check.code}] {check.message}"
        for check in analysis.checks
        if check.status == FAILED and check.code not in (*analysis.overruled, TargetSupport.code)
    ]
