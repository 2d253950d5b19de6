"""Runs tables and mixtures: table, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from causalmix.cli.printing import AsJson
from causalmix.errors import ConfigError

app = typer.Typer()


@app.command("table")
def write_runs_table(
    runs: Annotated[str, typer.Argument(help="Sweep folder, table, .wandb files, wandb:ENTITY/PROJECT?group=SWEEP.")],
    output: Annotated[Path | None, typer.Argument(help="File to write, .csv or .parquet.")] = None,
    compare: Annotated[str | None, typer.Option(help="Other source: print where it differs; status 1 if so.")] = None,
    outcomes: Annotated[Path | None, typer.Option(help="Second table of a RegMix pair or an olmix swarm.")] = None,
    higher_is_better: Annotated[bool, typer.Option(help="--outcomes holds scores, not losses.")] = False,
    columns: Annotated[list[str] | None, typer.Option("--map", help="OLD=NEW, OLD=-NEW for losses, or a YAML.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the runs table of a sweep (or of several sources) as CSV or Parquet, by the ending."""
    from causalmix.table.foreign import load_foreign
    from causalmix.table.runs import load_runs, write_table

    if compare is not None:
        raise typer.Exit(compare_runs(runs, compare, as_json))
    if output is None:
        raise ConfigError("say where to write: causalmix table RUNS OUTPUT.csv (or .parquet), or --compare OTHER")
    if outcomes is not None or columns:
        frame, problems, notes = load_foreign(runs, outcomes, columns or [], higher_is_better=higher_is_better)
    else:
        table = load_runs(runs, needs_state=False)
        frame, problems, notes = table.frame, table.problems, table.notes
    write_table(frame, output, needs_state=False)
    if as_json:
        facts = {"file": str(output), "n_runs": len(frame), "left_out": list(problems), "notes": list(notes)}
        typer.echo(json.dumps(facts, indent=1))
        return
    for problem in problems:
        typer.echo(f"left out: {problem}", err=True)
    for note in notes:
        typer.echo(note)
    typer.echo(f"{output}: {len(frame)} runs")


def compare_runs(runs: str, other: str, as_json: bool) -> int:
    """Print where two sources of runs differ; exit status 1 if they do."""
    from causalmix.table.compare import compare_tables
    from causalmix.table.runs import load_runs

    difference = compare_tables(load_runs(runs, needs_state=False), load_runs(other, needs_state=False))
    typer.echo(json.dumps(difference.to_dict(), indent=1) if as_json else difference.render(runs, other))
    return int(bool(difference))


@app.command("export")
def export_mixture(
    mixture: Annotated[Path, typer.Argument(help="mixture.json of an analysis, or a JSON object with weights.")],
    to: Annotated[str, typer.Option("--to", help="Format: a wrong name lists them all.")],
    output: Annotated[Path | None, typer.Option(help="Folder (jsonl, parquet: file) to write.")] = None,
    pool: Annotated[Path | None, typer.Option(help="Prepared pool: `causalmix pool prepare` prints it.")] = None,
    data: Annotated[str | None, typer.Option(help="Where data lies: '/corpus/{domain}.jsonl'.")] = None,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="The policy's answer though advice is withheld.")
    ] = False,
    n_samples: Annotated[int | None, typer.Option(help="Documents in all, other than in mixture.json.")] = None,
    repeats_max: Annotated[float | None, typer.Option(help="How often a document may be seen.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="STEP=mixture.json: a later mixture (levanter).")] = None,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Write a mixture as another trainer's config, or as a training set."""
    from causalmix.export.formats import export, find_format
    from causalmix.export.request import ExportRequest, parse_stages
    from causalmix.pool.store import open_pool

    find_format(to)
    stages = parse_stages(stage or [])
    opened = open_pool(pool) if pool else None
    request = ExportRequest(mixture, data or "", opened, candidate, n_samples, repeats_max, stages, seed)
    facts = export(to, request, output)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    for line in [*facts["about"], *(f"wrote {path}" for path in facts["files"])]:
        typer.echo(line)
