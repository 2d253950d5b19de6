"""``causalmix sync`` and ``causalmix dashboard``: what people type about W&B."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from causalmix.errors import TrackerError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a summary.")]


def sync_runs(
    sweep: Path,
    runs_per_min: Annotated[float, typer.Option(help="Most runs a minute.")] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Upload to W&B what a sweep's runs have not brought there; each run once, typed again it uploads nothing."""
    from causalmix.track.sync import sync_sweep
    from causalmix.track.upload import Upload

    report = sync_sweep(sweep, Upload(runs_per_min=runs_per_min))
    typer.echo(json.dumps(report.to_dict(), indent=1) if as_json else report.render(sweep))
    raise typer.Exit(int(bool(report.failed)))


def make_dashboard(
    runs: Annotated[str | None, typer.Argument(help="Sweep folder, table, wandb:ENTITY/PROJECT?group=SWEEP.")] = None,
    project: Annotated[str | None, typer.Option(help="ENTITY/PROJECT; default: where the runs were mirrored.")] = None,
    spec: Annotated[Path | None, typer.Option(help="YAML that --dry-run printed and you edited, not RUNS.")] = None,
    arm: Annotated[str | None, typer.Option(help="Column that tells the policies apart.")] = None,
    reference: Annotated[str, typer.Option(help="Arm that the others are compared with.")] = "equal",
    cohort: Annotated[str | None, typer.Option(help="Show the runs of one cohort.")] = None,
    title: Annotated[str | None, typer.Option(help="Title; default: the sweep.")] = None,
    workspace: Annotated[bool, typer.Option("--workspace", help="A view of the workspace, not a report.")] = False,
    update: Annotated[str | None, typer.Option(help="Address of a report or view to change.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the spec as YAML; ask no server to save.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the W&B report that compares policies: scores over seeds, abilities, mixtures, state, progress."""
    from causalmix.table.runs import load_runs
    from causalmix.track.dashboard.design import Choice, design_dashboard
    from causalmix.track.dashboard.draw import save_report, save_workspace
    from causalmix.track.dashboard.spec import read_spec, write_spec
    from causalmix.track.project import find_project

    if (runs is None) == (spec is None):
        raise TrackerError("give the runs to show (a sweep, a table, wandb:ENTITY/PROJECT) or --spec FILE, one of them")
    if runs is None:
        assert spec is not None
        drawn = read_spec(spec)
    else:
        entity, name = find_project(runs, project)
        choice = Choice(entity, name, arm=arm, reference=reference, cohort=cohort, title=title)
        drawn = design_dashboard(load_runs(runs, needs_state=False), choice)
    if dry_run:
        typer.echo(json.dumps(drawn.to_dict(), indent=1) if as_json else write_spec(drawn), nl=as_json)
        return
    url = (save_workspace if workspace else save_report)(drawn, update)
    typer.echo(json.dumps({"url": url, "spec": drawn.to_dict()}, indent=1) if as_json else url)


def add_commands(app: typer.Typer) -> None:
    """Add them to the ``causalmix`` command."""
    app.command("sync")(sync_runs)
    app.command("dashboard")(make_dashboard)
