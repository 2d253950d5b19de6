"""What a pool holds, as one HTML file with pictures: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalmix.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Facts = dict[str, Any]
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .2rem .6rem; text-align: right; }
thead th { vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; } thead { border-bottom: 2px solid; }
.scroll { overflow-x: auto; } figure { margin: 1rem 0; background: #fff; } svg { max-width: 100%; height: auto; }
"""
COLOUR, PALE = "#0b5394", "#9fc5e8"


def write_page(path: Path, facts: Facts) -> None:
    """Write what :func:`~causalmix.pool.describe.describe_pool` found as a page with tables and pictures."""
    domains = facts["domains"]
    title = f"Pool {facts['name']}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{facts['n_documents']:,} documents, {facts['n_tokens']:,} tokens of which {facts['n_target_tokens']:,} "
        f"are learnt; {facts['n_truncated']:,} documents are cut at the longest length. "
        f"Fingerprint <code>{escape(facts['fingerprint'])}</code>.</p>",
        "<h2>Domains</h2>",
        table_of(domains),
        picture("Documents and tokens by domain", domains, _draw_sizes),
        picture("Tokens a document: median, quartiles, 5% and 95%", facts["lengths"]["tokens"], _draw_lengths),
    ]
    if any("repeats_equal" in values for values in domains.values()):
        body.append(picture(f"Repeats at {facts['n_samples']:,} documents", domains, _draw_repeats))
    body += ["<h2>State of a candidate pool</h2>", "<p>Means of the normalised scores, and their quantiles.</p>"]
    body.append(table_of(tabulate_state(facts)))
    for feature in [name for name in facts["state"]["state"] if "." not in name]:
        body.append(picture(f"{feature}: mean, quartiles, 5% and 95%", _spread(facts, feature), _draw_spread))
    if facts["left_out"]:
        body += ["<h2>Left out</h2>", table_of(facts["left_out"])]
    if facts["languages"]:
        looked = facts["languages"]["n_documents"]
        body += [f"<h2>Languages</h2><p>Guessed on {looked:,} documents: shares.</p>"]
        body.append(table_of({name: _largest(shares) for name, shares in facts["languages"]["shares"].items()}))
    write_text(path, _page(title, body))


def tabulate_state(facts: Facts) -> dict[str, dict[str, float]]:
    """Put means and quantiles of a state into rows: feature, or ``feature.domain``."""
    means, quantiles = facts["state"]["state"], facts["state"]["quantiles"]
    return {
        name: {"mean": mean, **{f"q{float(q):g}": value for q, value in quantiles[name].items()}}
        for name, mean in means.items()
    }


def table_of(rows: dict[str, dict[str, Any]]) -> str:
    """Write rows of values as a table; what a row lacks stays empty."""
    columns = list(dict.fromkeys(name for values in rows.values() for name in values))
    head = "".join(f'<th scope="col">{escape(name.replace("_", " "))}</th>' for name in ["", *columns])
    lines = [
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{_spell(values.get(column, ''))}</td>" for column in columns)
        + "</tr>"
        for name, values in rows.items()
    ]
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def picture(title: str, rows: dict[str, Any], draw: Callable[[Axes, dict[str, Any]], None]) -> str:
    """Draw one picture as inline SVG with a title that a screen reader reads."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "causalmix", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(8, 1.2 + 0.4 * len(rows)), layout="constrained")
        axes = figure.subplots()
        draw(axes, rows)
        axes.set_title(title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
    return f"<figure>{svg}</figure>"


def _draw_sizes(axes: Axes, domains: Facts) -> None:
    names = list(domains)
    documents = [domains[name]["documents"] for name in names]
    tokens = [domains[name]["documents"] * domains[name]["tokens_per_document"] for name in names]
    for values, colour, shift, label in ((documents, COLOUR, 0.2, "documents"), (tokens, PALE, -0.2, "tokens")):
        shares = [value / sum(values) for value in values]
        axes.barh([at + shift for at in range(len(names))], shares, height=0.38, color=colour, label=label)
    _label(axes, names, "share of the pool")
    axes.legend(frameon=False)


def _draw_lengths(axes: Axes, lengths: Facts) -> None:
    _draw_boxes(axes, lengths, "q0.5", "tokens a document")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")


def _draw_spread(axes: Axes, spread: Facts) -> None:
    _draw_boxes(axes, spread, "mean", "normalised score")
    axes.axvline(0, color="#999999", linewidth=0.8)


def _draw_boxes(axes: Axes, rows: Facts, middle: str, label: str) -> None:
    for at, values in enumerate(rows.values()):
        axes.plot([values["q0.05"], values["q0.95"]], [at, at], color=COLOUR, linewidth=1)
        axes.plot([values["q0.25"], values["q0.75"]], [at, at], color=PALE, linewidth=9, solid_capstyle="butt")
        axes.plot(values[middle], at, "o", color=COLOUR)
    _label(axes, list(rows), label)


def _draw_repeats(axes: Axes, domains: Facts) -> None:
    names = list(domains)
    for key, colour, shift, label in (
        ("repeats_equal", COLOUR, 0.2, "equal shares"),
        ("repeats_natural", PALE, -0.2, "natural shares"),
    ):
        places = [at + shift for at in range(len(names))]
        axes.barh(places, [domains[name][key] for name in names], height=0.38, color=colour, label=label)
    axes.axvline(1, color="#999999", linewidth=0.8)
    _label(axes, names, "times that a document of a candidate pool is seen")
    axes.legend(frameon=False)


def _label(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)  # from above, with room for a whole bar at both ends
    axes.set_xlabel(label)


def _spread(facts: Facts, feature: str) -> dict[str, dict[str, float]]:
    rows = tabulate_state(facts)
    return {name: rows[f"{feature}.{name}"] for name in facts["domains"]}


def _largest(shares: dict[str, float], count: int = 5) -> dict[str, float]:
    return dict(sorted(shares.items(), key=lambda entry: -entry[1])[:count])


def _spell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _page(title: str, body: Sequence[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><main>\n" + "\n".join(body) + "\n</main></body></html>\n"
    )
