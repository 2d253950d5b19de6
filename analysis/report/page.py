"""Writing the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.curves import Curve
from analysis.report import sections, words
from analysis.report.plots import plot_intervals, plot_mixture
from analysis.roles import Roles


def render_report(
    answer: Mapping[str, Any],
    roles: Roles,
    curves: Sequence[Curve],
    *,
    folder: str,
    confirmation: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Render the report.

    Parameters
    ----------
    answer : mapping
        The content of mixture.json.
    roles : Roles
        What the fit read.
    curves : sequence of Curve
        Effects along each state feature; none for a state-agnostic fit.
    folder : str
        Where mixture.json lies, for the commands.
    confirmation : sequence of mappings
        Trained and measured mixtures: ``target``, ``policy``, ``mean``, ``se``, ``n_seeds``, ``gain`` (over
        the reference) and, where known, ``gain_se``.

    Returns
    -------
    str
        One HTML page without scripts or references to anything outside it.
    """
    given = answer["advice"] == "given"
    shown = answer["weights"] if given else answer["candidate"]
    baselines = answer.get("baselines") or {}
    bar_name = "mixture" if given else "withheld candidate"
    confidence = f"{100 * answer['gain']['confidence']:g} %"
    others = {"reference": answer["reference"]} | {name: b["weights"] for name, b in baselines.items()}
    gains = [(bar_name, answer["gain"]), *((name, b["gain"]) for name, b in baselines.items())]
    page = _open_templates().get_template("page.html.jinja")
    return page.render(
        answer=answer,
        given=given,
        verdict=sections.spell_verdict(answer),
        setting=f"{len(shown)} domains, {answer['n_runs']} runs",
        summary=sections.spell_summary(answer, "the outcome"),
        facts=sections.list_facts(answer),
        steps=sections.list_steps(answer, folder),
        shown=shown,
        domains=list(shown),
        bar_name=bar_name,
        baselines=baselines,
        largest=max([*shown.values(), *answer["reference"].values(), *_list_shares(baselines)]),
        counts=answer.get("counts"),
        confidence=confidence,
        mixture_plot=plot_mixture(shown, answer.get("spread") or {}, others, bar_name),
        gain_plot=plot_intervals([_take_interval(*pair) for pair in gains], "points", "Predicted gain"),
        theta_plot=plot_intervals(
            [_take_interval(*pair) for pair in answer["theta"].items()],
            "points per unit of log share",
            "Marginal effects",
        ),
        prices=sections.list_prices(answer),
        exchange=sections.colour_exchange(answer),
        exchange_delta=0.05,
        curves=sections.group_curves(curves, roles),
        checks=sections.list_checks(answer),
        checks_summary=sections.spell_checks(answer),
        confirmation=_mark_best(confirmation),
        state=sections.list_state(answer, roles),
        notes=answer.get("notes") or [],
        provenance=[],
    )
