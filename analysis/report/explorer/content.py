"""What the explorer of a report holds: the fit, the limits, and what stands against advice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from analysis.checks.check import FAILED
from analysis.checks.quality import FAR, TargetSupport
from analysis.leverage import read_leverage
from analysis.policies.causalmix_s import draw_dirichlet, seed_candidates
from analysis.report.explorer.models import Unexplorable, describe_effects, pack
from analysis.result import Analysis
from analysis.roles import Roles

SCRIPTS = ("numbers.js", "effects.js", "process.js", "policy.js", "answer.js", "page.js")
REGIONS = ("kl", "off")  # of CausalMix-A: those whose rule the page knows
SEARCH = "search"  # CausalMix-S, without a region
MOST_BYTES = 24_000_000  # a page larger than this takes long to open
MOST_CANDIDATES = 5_000  # mixtures that CausalMix-S chooses from in the page
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

    The page's policies are CausalMix-A, within the KL region or without one, and CausalMix-S without one, on fewer
    candidates. It is exact where the fit is in closed form, and answers at the runs' own states alone where it is
    not (forests).
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
    regions = REGIONS if effects.coordinates.has_level else REGIONS[:1]
    region = "off" if policy.region == "box" else policy.region
    content = {
        "domains": list(analysis.domains),
        "confidence": analysis.confidence,
        "quantile": float(norm.ppf(0.5 + analysis.confidence / 2)),
        "state": _list_state(analysis, roles),
        "wanted": (target.reference if target.asked is None else target.asked).tolist(),
        "floor": target.box.floor.tolist(),
        "cap": target.box.cap.tolist(),
        "region": region if policy.kind == "causalmix_a" and region in regions else "kl",
        "regions": [*regions, SEARCH],
        "search": _draw_candidates(analysis),
        "rho": float(policy.rho),
        "is_own": policy.kind == "causalmix_a" and region in regions,
        "policy": policy.name,
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


def _draw_candidates(analysis: Analysis) -> dict[str, Any]:
    """Draw what CausalMix-S chooses from before the floors are added: the same draws as with so many candidates."""
    policy = analysis.policy
    n = min(policy.n_candidates, MOST_CANDIDATES)
    rng = seed_candidates(policy.seed)
    return {
        "draws": pack(draw_dirichlet(rng, np.ones(len(analysis.domains)), n)),
        "n_best": max(1, policy.n_best * n // policy.n_candidates),
        "kappa": policy.kappa if policy.kind == "causalmix_s" else 0.0,
    }


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
    inverse = np.linalg.pinv(np.atleast_2d(np.cov(roles.X, rowvar=False)), hermitian=True)
    return {
        "names": list(roles.x_names),
        "mean": roles.X.mean(axis=0).tolist(),
        "inverse": inverse.tolist(),
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
