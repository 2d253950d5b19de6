"""What the commands share: the options they have in common, and tables."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Overrides = Annotated[list[str] | None, typer.Argument(help="Hydra overrides: pool=jsonl pool.path=DIR ...")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_rows(rows: list[dict[str, Any]], title: str) -> None:
    """Print a list of equal dictionaries as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, padding=0)
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_spell, row.values()))
    Console().print(table)


def _spell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if type(value) is int else str(value)
