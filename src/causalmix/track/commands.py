"""``causalmix sync``: what people type about W&B."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def sync_runs(
    sweep: Path,
    runs_per_min: Annotated[float, typer.Option(help="Most runs a minute.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a summary.")] = False,
) -> None:
    """Upload to W&B what a sweep's runs have not brought there; each run once, typed again it uploads nothing."""
    from causalmix.track.sync import sync_sweep
    from causalmix.track.upload import Upload

    report = sync_sweep(sweep, Upload(runs_per_min=runs_per_min))
    typer.echo(json.dumps(report.to_dict(), indent=1) if as_json else report.render(sweep))
    raise typer.Exit(int(bool(report.failed)))


def add_commands(app: typer.Typer) -> None:
    """Add them to the ``causalmix`` command."""
    app.command("sync")(sync_runs)
