"""What each section of the page says, from the content of mixture.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from analysis.curves import Curve
from analysis.report.plots import choose_limits, plot_curve
from analysis.report.words import DASH, spell_interval, spell_number, spell_points, spell_share
from analysis.roles import Roles

Content = Mapping[str, Any]

_LABELS = {  # status -> (tone of the badge, words on it), in the order of the page
    "failed": ("failed", "\N{MULTIPLICATION SIGN} failed"),
    "warning": ("warned", "! warning"),
    "passed": ("passed", "\N{CHECK MARK} passed"),
    "not applicable": ("neutral", f"{DASH} not applicable"),
}
_LIMITS = {  # what binds -> (what one unit more means, the unit)
    "kl": ("a region wider by 0.1 (policy.rho, KL from the reference)", 0.1),
    "reverse_kl": ("a region wider by 0.1 (policy.rho, KL to the reference)", 0.1),
    "aitchison": ("a region wider by 0.1 (policy.radius, log-ratios)", 0.1),
    "l2": ("a region wider by 0.01 (policy.radius, shares)", 0.01),
    "support": ("a support wider by 0.01 (leverage)", 0.01),
    "constraint": ("a least gain of {domain} lower by 0.1 points", 0.1),
    "cap": ("a cap on {domain} higher by 1 % of the run (more documents, or target.caps)", 0.01),
    "floor": ("a floor under {domain} lower by 1 %", 0.01),
}


def spell_verdict(answer: Content) -> str:
    """Say the answer in one line."""
    if answer["advice"] != "given":
        return "Advice withheld: keep the reference mixture"
    gain = answer["gain"]
    return f"Train on this mixture: {spell_points(gain['estimate'])} points predicted"


def spell_summary(answer: Content, outcome: str) -> str:
    """Say in two sentences what was found, and how sure it is."""
    gain, weights, reference = answer["gain"], answer["candidate"], answer["reference"]
    moves = sorted(weights, key=lambda name: weights[name] - reference[name])
    up, down = moves[-1], moves[0]
    told = (
        f"{up} goes from {spell_share(reference[up])} to {spell_share(weights[up])}, "
        f"{down} from {spell_share(reference[down])} to {spell_share(weights[down])}"
        if abs(weights[up] - reference[up]) > 5e-4
        else "no share moves by more than a twentieth of a percent"
    )
    what = "The mixture" if answer["advice"] == "given" else "The policy's own candidate"
    sure = (
        "The whole interval lies above zero."
        if gain["low"] > 0
        else "The interval reaches zero or below, so the runs do not show that it beats the reference."
    )
    return (
        f"{what} is predicted to change {outcome} by {spell_points(gain['estimate'])} points "
        f"({100 * gain['confidence']:g} % interval {spell_interval(gain['low'], gain['high'])}): {told}. "
        f"{sure}"
    )


def list_facts(answer: Content) -> list[dict[str, str]]:
    """Return the numbers under the verdict."""
    gain = answer["gain"]
    facts = [
        {
            "name": f"Predicted gain{'' if answer['advice'] == 'given' else ' of the candidate'}",
            "value": f"{spell_points(gain['estimate'])} points",
            "note": f"{100 * gain['confidence']:g} %: {spell_interval(gain['low'], gain['high'])}",
        }
    ]
    if answer["spread_l1"] is not None:
        note = "mean L1 distance over half-sample refits; 0 is firm, 2 the most there is"
        facts.append({"name": "How far it moves", "value": f"{answer['spread_l1']:.2f}", "note": note})
    facts.append({"name": "Runs behind it", "value": spell_number(answer["n_runs"]), "note": _spell_design(answer)})
    wrong = [check for check in answer["checks"] if check["status"] in ("failed", "warning")]
    judged = [check for check in answer["checks"] if check["status"] != "not applicable"]
    value = f"{len(judged) - len(wrong)} of {len(judged)} passed"
    facts.append({"name": "Checks", "value": value, "note": ", ".join(c["code"] for c in wrong)})
    return facts


def list_steps(answer: Content, folder: str) -> list[dict[str, str]]:
    """Return what to do next, with commands where there are any."""
    train = f"python launch.py mixture=fixed mixture.file={folder}/mixture.json"
    steps = []
    if answer["advice"] == "given":
        steps.append({"text": "Train on it:", "command": train})
        steps.append(
            {
                "text": "Before a costly run, measure it beside the pool's own shares, three seeds each "
                "(bash needs the quotes around the range):",
                "command": f"python launch.py -m mixture=fixed,natural mixture.file={folder}/mixture.json "
                "cohort=confirmation 'replicate=range(3)'",
            }
        )
    else:
        steps.append({"text": "Train on the reference: it stands in mixture.json as the weights.", "command": train})
        steps.append(
            {
                "text": "To find out whether the candidate is better all the same, train on it:",
                "command": f"python launch.py -m mixture=fixed mixture.file={folder}/mixture.json "
                "mixture.use_candidate=true cohort=confirmation 'replicate=range(3)'",
            }
        )
        steps.append({"text": "Or narrow the interval with more proxy runs; it shrinks with their square root."})
    for check in answer["checks"]:
        if check["status"] in ("failed", "warning") and check["action"]:
            steps.append({"text": f"{check['code']}, {check['title']}: {check['action']}"})
    return steps


def list_checks(answer: Content) -> list[dict[str, Any]]:
    """Return the checks, those that need a look first."""
    order = list(_LABELS)
    found = sorted(answer["checks"], key=lambda check: order.index(check["status"]))
    return [{**check, "tone": _LABELS[check["status"]][0], "label": _LABELS[check["status"]][1]} for check in found]


def list_overruled(answer: Content) -> list[Mapping[str, Any]]:
    """Return the checks that failed and were allowed to."""
    return [check for check in answer["checks"] if check["code"] in answer["allowed_failed_checks"]]


def spell_checks(answer: Content) -> str:
    """Count the checks."""
    counts = {status: sum(c["status"] == status for c in answer["checks"]) for status in _LABELS}
    return ", ".join(f"{number} {status}" for status, number in counts.items() if number) + "."


def list_prices(answer: Content) -> list[tuple[str, float]]:
    """Return the limits that bind with their prices, the dearest first.

    Caps and floors are priced per hundredth of the documents, the region per tenth of a nat.
    """
    named = []
    for name, price in answer["shadow_prices"].items():
        kind, _, domain = name.partition(".")
        what, unit = _LIMITS[kind]
        named.append((what.format(domain=domain), float(price) * unit))
    return sorted(named, key=lambda pair: -abs(pair[1]))


def colour_exchange(answer: Content) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the exchange matrix with a tint for each cell; a move that cannot be made has no value."""
    moves: Mapping[str, Mapping[str, float | None]] = answer["exchange"]
    domains = list(answer["reference"])
    sizes = [abs(v) for row in moves.values() for v in row.values() if v is not None]
    largest = max(sizes, default=0.0) or 1.0
    rows = []
    for source in domains:
        cells = []
        for destination in domains:
            value = moves[source].get(destination)
            css = "" if not value else "heat-gain" if value > 0 else "heat-loss"
            heat = round(36 * (abs(value or 0.0) / largest) ** 0.5)
            cells.append({"own": source == destination, "value": value, "css": css, "heat": heat})
        rows.append((source, cells))
    return rows


def group_curves(curves: Sequence[Curve], roles: Roles) -> list[dict[str, Any]]:
    """Return panels by feature: a pool's feature for every domain, a domain's own feature for that domain."""
    chosen: dict[str, list[tuple[Curve, int]]] = {}
    for curve in curves:
        feature, _, owner = curve.feature.partition(".")
        for k, domain in enumerate(roles.domains):
            if owner not in roles.domains or owner == domain:
                chosen.setdefault(feature if owner in roles.domains else curve.feature, []).append((curve, k))
    if not chosen:
        return []
    limits = choose_limits([panel for panels in chosen.values() for panel in panels])
    groups = []
    for feature, panels in chosen.items():
        items: list[dict[str, str | Markup]] = []
        for curve, k in panels:
            seen = roles.X[:: max(1, roles.n_runs // 120), roles.x_names.index(curve.feature)]
            items.append({"domain": roles.domains[k], "plot": plot_curve(curve, k, roles.domains[k], seen, limits)})
        own = any("." in curve.feature for curve, _ in panels)
        groups.append({"title": f"{feature} of {'the domain itself' if own else 'the pool'}", "panels": items})
    return groups


def list_state(answer: Content, roles: Roles) -> list[dict[str, Any]]:
    """Return the target's state beside the range of the training runs."""
    rows = []
    for j, name in enumerate(roles.x_names):
        value, column = float(answer["state"][name]), roles.X[:, j]
        low, high = float(np.min(column)), float(np.max(column))
        rows.append(
            {
                "name": name,
                "value": value,
                "low": low,
                "mean": float(np.mean(column)),
                "high": high,
                "outside": not low <= value <= high,
            }
        )
    return rows


def spell_support(answer: Content) -> str:
    """Say whether the question and the answer lie among what the runs have seen."""
    support = answer["support"]
    state = "lies among" if support["state_is_supported"] else "lies outside"
    mixture = "lies among" if support["mixture_is_supported"] else "lies outside"
    return (
        f"The target's state {state} the runs' states (distance {support['distance']:.2f}, limit "
        f"{support['distance_limit']:.2f}), and the policy's mixture {mixture} the runs' mixtures (leverage "
        f"{support['leverage']:.3f}, limit {support['leverage_limit']:.3f}); "
        "the limits are the runs' own 95th percentiles."
    )


def list_confirmation(rows: Sequence[Content]) -> list[dict[str, Any]]:
    """Return the trained and measured mixtures with their t intervals over seeds; each target's best is marked."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["target"]] = max(best.get(row["target"], -math.inf), row["mean"])
    return [
        {
            "gain_se": None,
            **row,
            "best": row["mean"] == best[row["target"]],
            "interval": _spell_seeds(row["mean"], row["se"], row["n_seeds"], signed=False),
            "gain_interval": _spell_seeds(row["gain"], row.get("gain_se"), row["n_seeds"], signed=True),
        }
        for row in rows
    ]


def list_contents(
    roles: Roles, curves: Sequence[Curve], confirmation: Sequence[Content], explorer: object
) -> list[tuple[str, str]]:
    """Return the sections of the page and what the links to them say."""
    sections = [
        ("mixture", "Mixture", True),
        ("gains", "Gain", True),
        ("confirmation", "Measured", bool(confirmation)),
        ("explorer", "What if", explorer is not None),
        ("effects", "Effects", True),
        ("curves", "By state", bool(curves)),
        ("checks", "Checks", True),
        ("state", "State", bool(roles.x_names)),
        ("provenance", "Provenance", True),
    ]
    return [(name, words) for name, words, is_there in sections if is_there]


def _spell_seeds(mean: float, error: float | None, n_seeds: int, *, signed: bool) -> str:
    """Return the two-sided 95 % t interval of a mean over seeds; a dash where one seed tells nothing of it."""
    if error is None or n_seeds < 2:
        return DASH
    from scipy.stats import t

    half = float(t.ppf(0.975, n_seeds - 1)) * error
    ends = (mean - half, mean + half)
    return spell_interval(*ends) if signed else " to ".join(f"{end:.2f}" for end in ends)


def _spell_design(answer: Content) -> str:
    return (
        "mixtures drawn independently of the state: nothing to deconfound"
        if answer["randomised"]
        else "mixtures not known to be random: adjusted for the state alone"
    )
