"""Sweeps and sites: status, doctor, estimate, prefetch, cancel, logs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from causalmix.cli.compose import compose_bare, compose_config
from causalmix.cli.printing import AsJson, Overrides

app = typer.Typer()


@app.command("status")
def show_status(
    sweep: Path,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every five seconds until nobody works on it.")] = False,
) -> None:
    """Count a sweep's runs, their rate and time left, and group failures by cause; needs no server."""
    from causalmix.sweep.status import read_status

    while True:
        status = read_status(sweep)
        typer.echo(json.dumps(status.to_dict(), indent=1) if as_json else status.render())
        if not watch or status.is_over:
            return
        time.sleep(5)


@app.command("doctor")
def examine(
    overrides: Overrides = None,
    as_json: AsJson = False,
    wait: Annotated[float, typer.Option(help="Seconds that the doctor's own job may wait; 0 submits none.")] = 120.0,
) -> None:
    """Check SLURM, folder, disk, versions, GPUs and tracker before a sweep does; exit status 1: it would fail."""
    from causalmix.config.folder import find_conf
    from causalmix.sweep.doctor.examine import examine_site
    from causalmix.sweep.doctor.finding import has_failed, render_finding, to_plain
    from causalmix.sweep.points import to_config

    found = []
    for finding in examine_site(to_config(compose_config(overrides)), find_conf().parent, wait):
        found.append(finding)
        if not as_json:
            typer.echo(render_finding(finding))
    if as_json:
        typer.echo(json.dumps(to_plain(found), indent=1))
    raise typer.Exit(int(has_failed(found)))


@app.command("estimate")
def estimate_costs(
    overrides: Overrides = None,
    tokens_per_document: Annotated[float | None, typer.Option(help="Mean; default: train.max_length.")] = None,
    n_runs: Annotated[int, typer.Option(help="Runs to add up.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Estimate memory and time of a run from its model's shapes alone: docs/bigger_models.md has the formulas."""
    from causalmix.run.estimate import estimate_run
    from causalmix.sweep.points import to_config

    estimate = estimate_run(to_config(compose_bare(overrides)), tokens_per_document)
    typer.echo(json.dumps(estimate.to_plain(), indent=1) if as_json else "\n".join(estimate.describe(n_runs)))


@app.command("prefetch")
def prefetch_inputs(
    overrides: Overrides = None,
    check: Annotated[bool, typer.Option("--check", help="Fetch nothing: name what is not in the caches.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch what a config needs from the Hub: models, tokenizers, datasets, tasks; for nodes without internet."""
    if check:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported
    from causalmix.run.prefetch import list_needs, obtain_all, refuse_missing

    found = []
    for one in obtain_all(list_needs(compose_bare(overrides)), offline=check):
        found.append(one)
        if not as_json:
            said = "here" if one.cause is None else f"MISSING: {one.cause}"
            typer.echo(f"{one.need.kind:9} {one.need.path} ({one.need.key}): {said}")
    if as_json:
        typer.echo(json.dumps([one.to_plain() for one in found], indent=1))
    refuse_missing(found, overrides or [], offline=check)


@app.command("cancel")
def cancel_tasks(sweep: Path) -> None:
    """Cancel every task of a sweep on the cluster; what is complete stays, what runs writes a checkpoint."""
    from causalmix.sweep.jobs import cancel_sweep

    counts = cancel_sweep(sweep)
    said = ", ".join(f"{n} {state.lower()}" for state, n in sorted(counts.items())) or "none was active"
    typer.echo(f"{sweep}: tasks cancelled: {said}")


@app.command("logs")
def show_logs(
    run: Annotated[str, typer.Argument(help="A run's id (or its beginning), or its folder.")],
    outputs: Annotated[Path, typer.Option(help="Where sweeps lie.")] = Path("outputs"),
    n_lines: Annotated[int, typer.Option(help="Lines from the end of each log.")] = 20,
) -> None:
    """Print what is known of a run: its record, every attempt, and the ends of its logs."""
    from causalmix.sweep.logs import describe_run, find_run

    typer.echo(describe_run(find_run(run, outputs), n_lines))
