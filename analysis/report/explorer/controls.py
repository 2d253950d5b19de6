"""The explorer's sliders, as its template draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

N_STEPS = 200  # of a slider from end to end

_POLICIES = {
    "a": "CausalMix-A: the best mixture by the effects",
    "s": "CausalMix-S: the mean of the best of {n:,} mixtures",
}
_REGIONS = {
    "off": "none, as published",
    "box": "none; S looks around A",
    "kl": "KL (reference, mixture)",
    "reverse_kl": "KL (mixture, reference)",
    "aitchison": "log-ratios (Aitchison)",
    "l2": "shares (Euclid)",
    "support": "where the runs are",
}


def list_controls(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template needs beside the content: ranges, labels, groups."""
    rho, aitchison, l2 = (content[name] for name in ("rho", "aitchison", "l2"))
    groups: dict[str, list[dict[str, Any]]] = {}
    n_candidates = content["search"]["n_candidates"]
    for place, feature in enumerate(content["state"]):
        slider = make_slider(feature["value"], feature["low"], feature["high"])
        span = slider["max"] - slider["min"]
        ends = (feature["least"], feature["greatest"])
        seen = [f"{100 * (end - slider['min']) / span:.1f}" for end in ends]
        groups.setdefault(feature["group"], []).append(
            {**slider, "place": place, "label": feature["label"], "seen": seen}
        )
    return {
        "policies": [(name, words.format(n=n_candidates)) for name, words in _POLICIES.items()],
        "regions": [(name, _REGIONS[name]) for name in content["regions"]],
        "radii": [
            ("rho", "radius, nats", make_slider(rho, 0.01, max(2.0, 2 * rho), 0.01)),
            (
                "aitchison",
                "radius, log-ratios",
                make_slider(aitchison, 0.05, 2 * aitchison, 0.05),
            ),
            ("l2", "radius, shares", make_slider(l2, 0.005, max(1.0, l2), 0.005)),
        ],
        "groups": [{"title": _title(name), "sliders": sliders} for name, sliders in groups.items()],
        "floors": _list_shares(content["domains"]),
        "caps": _list_shares(content["domains"]),
    }


def make_slider(value: float, low: float, high: float, step: float | None = None) -> dict[str, Any]:
    """Return a slider whose steps fall on ``value``, from about ``low`` to about ``high``."""
    step = step or (high - low) / N_STEPS or 1.0
    below, above = math.floor((value - low) / step + 1e-9), math.floor((high - value) / step + 1e-9)
    return {"min": value - below * step, "max": value + above * step, "step": step, "seen": None}


def _list_shares(domains: list[str]) -> list[dict[str, Any]]:
    """Return a slider of shares a domain, from 0 to 1 in half percents."""
    return [{"min": 0.0, "max": 1.0, "step": 0.005, "seen": None, "label": name} for name in domains]


def _title(group: str) -> str:
    return "State of the pool" if group == "the pool" else f"State: {group} of each domain"
