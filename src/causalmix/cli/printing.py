"""What the commands share: the options they have in common, and tables."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Overrides = Annotated[list[str] | None, typer.Argument(help="Hydra overrides: pool=jsonl pool.path=DIR ...")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_rows(rows: list[dict[str, Any]], title: str) -> None:
    """Print a list of equal dictionaries as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for at, (name, value) in enumerate(rows[0].items()):
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", no_wrap=at == 0)
    for row in rows:
        table.add_row(
            *(f"{v:.3f}" if isinstance(v, float) else f"{v:,}" if type(v) is int else str(v) for v in row.values())
        )
    Console().print(table)
