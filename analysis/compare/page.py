"""A comparison as tables of text, and as Markdown, LaTeX and HTML pages."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from analysis.compare.paired import Comparison
from causalmix.table.layout import to_html, to_latex, to_markdown
from causalmix.table.paired import Estimate

Rows = list[list[str]]

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}caption{text-align:left;font-weight:600;padding:.3rem 0}"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid #8888;text-align:right;font-variant-numeric:tabular-nums}"
    "th[scope=row],thead th:first-child{text-align:left}"
    "@media(prefers-color-scheme:dark){body{background:#15171a;color:#e8e8e8}}"
)


def list_arms(comparison: Comparison) -> list[tuple[str, Rows]]:
    """Tabulate each group, header first, with what the group is."""
    groups: dict[str, Rows] = {}
    has_unseen = any(row.unseen is not None for row in comparison.rows)
    over = f"over {comparison.reference}"
    header = ["mixture", "dev", over, *(["unseen", f"unseen, {over}"] if has_unseen else []), "seeds"]
    for row in comparison.rows:
        title = ", ".join(f"{name} {value}" for name, value in row.group.items())
        rows = groups.setdefault(title, [header])
        unseen = [spell(row.unseen), spell(row.gain_unseen, signed=True)] if has_unseen else []
        rows.append([row.arm, spell(row.dev), spell(row.gain, signed=True), *unseen, str(len(row.seeds))])
    return list(groups.items())


def list_mixtures(comparison: Comparison) -> Rows:
    """Tabulate the mixture of each arm, header first; empty where none is known."""
    if not comparison.mixtures:
        return []
    domains = list(next(iter(comparison.mixtures.values())))
    body = [[arm, *(f"{shares[name]:.3f}" for name in domains)] for arm, shares in comparison.mixtures.items()]
    return [["mixture", *domains], *body]


def spell(estimate: Estimate | None, *, signed: bool = False) -> str:
    """Spell an estimate with its interval; a difference whose interval excludes zero gets a star."""
    if estimate is None:
        return "–"
    sign = "+" if signed else ""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:{sign}.2f} (one seed)"
    star = " *" if signed and estimate.excludes_zero else ""
    return f"{estimate.mean:{sign}.2f} [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]{star}"


def describe(comparison: Comparison) -> list[str]:
    """Say what the figures are, and what was left out."""
    percent = f"{100 * comparison.confidence:g}%"
    return [
        f"Points: means over seeds with {percent} t intervals. Differences over {comparison.reference} are paired over "
        "seeds; a star marks one whose interval excludes zero. Each interval holds by itself: among many arms some "
        "star by chance.",
        *(f"{note[0].upper()}{note[1:]}." for note in comparison.notes),
    ]


def write_markdown(comparison: Comparison) -> str:
    """Write the page as Markdown."""
    lines = ["# Comparison", ""]
    for title, rows in list_arms(comparison):
        lines += [*([f"## {title}", ""] if title else []), *to_markdown(rows), ""]
    if mixtures := list_mixtures(comparison):
        lines += ["## Mixtures", "", *to_markdown(mixtures), ""]
    return "\n".join([*lines, *_interleave(describe(comparison))])


def write_latex(comparison: Comparison) -> str:
    """Write the tables as LaTeX; ``booktabs`` is needed."""
    caption = describe(comparison)[0]
    blocks = [to_latex(rows, f"{title}. {caption}" if title else caption) for title, rows in list_arms(comparison)]
    if mixtures := list_mixtures(comparison):
        blocks.append(to_latex(mixtures, "Mixtures: mean shares over runs."))
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def write_html(comparison: Comparison) -> str:
    """Write the page as HTML that needs nothing else."""
    body: list[str] = []
    for title, rows in list_arms(comparison):
        body += to_html(rows, title or "Comparison")
    if mixtures := list_mixtures(comparison):
        body += to_html(mixtures, "Mixtures: mean shares over runs")
    said = "".join(f"<p>{html.escape(line)}</p>" for line in describe(comparison))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Comparison</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><main>'
        "<h1>Comparison</h1>\n" + "\n".join(body) + f"\n{said}</main></body></html>\n"
    )


PAGES: dict[str, Callable[[Comparison], Any]] = {"md": write_markdown, "tex": write_latex, "html": write_html}
"""Ending to what writes it."""


def _interleave(paragraphs: list[str]) -> list[str]:
    return [line for paragraph in paragraphs for line in (paragraph, "")]
