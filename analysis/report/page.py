"""Writing the page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.curves import Curve
from analysis.report import sections, words
from analysis.report.explorer import Explorer, build_explorer
from analysis.report.explorer.content import read_scripts
from analysis.report.explorer.controls import list_controls
from analysis.report.mixture_plots import plot_legend, plot_runs
from analysis.report.plots import plot_intervals, plot_mixture, plot_shares
from analysis.report.tree_plot import MOST_DOMAINS, plot_tree
from analysis.result import MOVE_DELTA, Analysis
from analysis.roles import Roles
from causalmix.errors import AnalysisError

_PACKAGES = ("causalmix", "econml", "lightgbm", "numpy", "pandas", "scikit-learn")


def write_report(
    analysis: Analysis, roles: Roles, path: str | Path, confirmation: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Write ``report.html`` beside ``mixture.json``; see :func:`render_report`.

    Raises
    ------
    AnalysisError
        The disk refuses.
    """
    path = Path(path)
    folder = str(path.parent)
    html = render_report(
        analysis.to_json(),
        roles,
        analysis.curves,
        folder=folder,
        confirmation=confirmation,
        explorer=build_explorer(analysis, roles),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise AnalysisError(f"{path}: the report cannot be written ({error}).") from error
    return path


def render_report(
    answer: Mapping[str, Any],
    roles: Roles,
    curves: Sequence[Curve],
    *,
    folder: str,
    confirmation: Sequence[Mapping[str, Any]] = (),
    explorer: Explorer | None = None,
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
    explorer : Explorer, optional
        The fit, for the sliders; none for a page without them.

    Returns
    -------
    str
        One HTML page without references to anything outside it.
    """
    given = answer["advice"] == "given"
    shown = answer["weights"] if given else answer["candidate"]
    baselines = answer["baselines"]
    bar_name = "mixture" if given else "candidate"
    confidence = f"{100 * answer['gain']['confidence']:g} %"
    others = {"reference": answer["reference"]} | {name: b["weights"] for name, b in baselines.items()}
    gains = [(bar_name, answer["gain"]), *((name, b["gain"]) for name, b in baselines.items())]
    importances: Mapping[str, float] = answer["importances"]
    marked = {bar_name: shown, "reference": answer["reference"]}
    script = _join_script(explorer)
    page = _open_templates().get_template("page.html.jinja")
    return page.render(
        answer=answer,
        given=given,
        verdict=sections.spell_verdict(answer),
        setting=f"{len(shown)} domains, {answer['n_runs']} runs, estimator {answer['estimator']['name']}, "
        f"policy {answer['policy']['name']}",
        summary=sections.spell_summary(answer, "the outcome"),
        facts=sections.list_facts(answer),
        steps=sections.list_steps(answer, folder),
        shown=shown,
        domains=list(shown),
        bar_name=bar_name,
        baselines=baselines,
        largest=max([*shown.values(), *answer["reference"].values(), *_list_shares(baselines)]),
        counts=answer["counts"],
        confidence=confidence,
        mixture_plot=plot_mixture(shown, answer["spread"] or {}, others, bar_name),
        gain_plot=plot_intervals([_take_interval(*pair) for pair in gains], "points", "Predicted gain"),
        theta_plot=plot_intervals(
            [_take_interval(*pair) for pair in answer["theta"].items()],
            "points per unit of log share",
            "Marginal effects",
        ),
        run_plots=plot_runs(roles.mixtures, roles.Y, marked),
        run_legend=plot_legend(roles.Y, list(marked)),
        tree_plot=plot_tree(answer["tree"]) if len(answer["tree"]) > 1 else None,
        tree_rows=min(MOST_DOMAINS, len(shown)),
        importance_plot=plot_shares(importances, "What each feature explains of the effects' variance")
        if any(importances.values())
        else None,
        prices=sections.list_prices(answer),
        exchange=sections.colour_exchange(answer),
        exchange_delta=MOVE_DELTA,
        curves=sections.group_curves(curves, roles),
        checks=sections.list_checks(answer),
        overruled=sections.list_overruled(answer),
        checks_summary=sections.spell_checks(answer),
        confirmation=sections.list_confirmation(confirmation),
        contents=sections.list_contents(roles, curves, confirmation, explorer),
        state=sections.list_state(answer, roles),
        support=sections.spell_support(answer),
        notes=answer["notes"],
        provenance=_list_provenance(answer, folder),
        style=_read("style.css") + _read("explorer/style.css"),
        explorer=explorer,
        controls=list_controls(explorer.content) if explorer and explorer.content else {},
        explorer_data=Markup(explorer.data) if explorer and explorer.content else "",
        script=Markup(script),
        script_hash=hash_script(script),
    )


def _open_templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "share": words.spell_share,
        "points": words.spell_points,
        "number": words.spell_number,
        "fixed": lambda value: f"{value:.2f}",
    }
    return environment


def hash_script(script: str) -> str:
    """Return what a content security policy lets this script alone run by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _join_script(explorer: Explorer | None) -> str:
    """Return the page's script, in a scope of its own."""
    parts = [_read("reach.js"), read_scripts() if explorer and explorer.content else ""]
    return '\n"use strict";\n{\n' + "\n".join(parts) + "}\n"


def _read(name: str) -> Markup:
    return Markup((resources.files("analysis.report") / name).read_text(encoding="utf-8"))


def _take_interval(name: str, interval: Mapping[str, float]) -> tuple[str, float, float, float]:
    return name, float(interval["estimate"]), float(interval["low"]), float(interval["high"])


def _list_shares(mixtures: Mapping[str, Mapping[str, Any]]) -> list[float]:
    return [share for mixture in mixtures.values() for share in mixture["weights"].values()]


def _list_provenance(answer: Mapping[str, Any], folder: str) -> list[dict[str, Any]]:
    tables: list[tuple[str, Mapping[str, Any], bool]] = [
        ("The same again", {"command": _spell_command(answer, folder)}, True),
        ("Data", _describe_data(answer), True),
        ("Policy", answer["policy"], False),
        ("Estimator", answer["estimator"], False),
    ]
    tables.append(("Versions", {name: _find_version(name) for name in _PACKAGES}, True))
    return [
        {"title": title, "code": code, "rows": [(name, _flatten(value)) for name, value in content.items()]}
        for title, content, code in tables
        if content
    ]


def _describe_data(answer: Mapping[str, Any]) -> dict[str, Any]:
    fingerprints = {f"fingerprint of the {name}": value for name, value in answer["fingerprints"].items()}
    return {**fingerprints, "runs fitted": answer["n_runs"], "runs left out": answer["n_skipped"]}


def _spell_command(answer: Mapping[str, Any], folder: str) -> str:
    names = f"estimator={answer['estimator']['name']} policy={answer['policy']['name']}"
    return f"python -m analysis runs=SWEEP-or-table {names} output_dir={folder}"


def _find_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "run from its source"


def _flatten(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {_flatten(part)}" for name, part in value.items())
    return words.spell_number(value)
