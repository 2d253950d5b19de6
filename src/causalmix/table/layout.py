"""A table of text as Markdown, LaTeX and HTML; rows, header first."""

from __future__ import annotations

import html
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
}


def to_markdown(rows: Rows) -> list[str]:
    """Turn rows into the lines of a Markdown table."""
    header, *body = rows
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in body),
    ]


def to_latex(rows: Rows, caption: str = "") -> list[str]:
    """Turn rows into the lines of a LaTeX ``table`` in the manner of booktabs; special characters are escaped."""
    header, *body = rows
    columns = "l" + "r" * (len(header) - 1)
    return [
        r"\begin{table}[t]",
        r"\centering",
        *([rf"\caption{{{escape_latex(caption)}}}"] if caption else []),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _spell_latex(header),
        r"\midrule",
        *(_spell_latex(row) for row in body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def to_html(rows: Rows, caption: str = "") -> list[str]:
    """Turn rows into the lines of an HTML table; the first column heads its row."""
    header, *body = rows
    lines = ["<table>"]
    if caption:
        lines.append(f"<caption>{html.escape(caption)}</caption>")
    heads = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    lines.append(f"<thead><tr>{heads}</tr></thead>")
    lines.append("<tbody>")
    for first, *rest in body:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
    return [*lines, "</tbody>", "</table>"]


def escape_latex(text: str) -> str:
    """Escape what LaTeX would read as a command."""
    return "".join(_LATEX.get(character, character) for character in text)


def _spell_latex(row: Sequence[str]) -> str:
    return " & ".join(escape_latex(cell) for cell in row) + r" \\"
