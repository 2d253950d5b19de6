"""The ``causalmix`` command: pools, sweeps and tables, without a server."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from causalmix.errors import CausalMixError, ConfigError

app = typer.Typer(
    help="Pools, sweeps and runs tables of CausalMix. Settings are Hydra overrides, as in launch.py.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
pool_app = typer.Typer(help="Prepare and look at document pools.", no_args_is_help=True)
app.add_typer(pool_app, name="pool")

Overrides = Annotated[list[str] | None, typer.Argument(help="Hydra overrides: pool=jsonl pool.path=DIR ...")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def compose_config(overrides: list[str] | None) -> dict[str, Any]:
    """Compose ``conf/config.yaml`` with overrides, outside of launch.py.

    Raises
    ------
    ConfigError
        Where ``conf/`` is not found or an override is wrong.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.plugins import Plugins

    from causalmix.config import register_schemas, resolve
    from hydra_plugins.causalmix_sweeper.sweeper import CausalMixSweeper

    folder = find_conf()
    register_schemas()
    Plugins.instance().register(CausalMixSweeper)
    with initialize_config_dir(str(folder), version_base="1.3"):
        return resolve(compose("config", overrides=list(overrides or [])))


def compose_bare(overrides: list[str] | None) -> dict[str, Any]:
    """Compose a config whose mixture is not asked for: a policy's is not fitted."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("policy_weights", lambda: None, replace=True)
    return compose_config(overrides)


def find_conf() -> Path:
    """Find ``conf/``: in the working folder, else beside the source tree."""
    for folder in (Path.cwd() / "conf", Path(__file__).resolve().parents[2] / "conf"):
        if (folder / "config.yaml").exists():
            return folder
    raise ConfigError("no conf/config.yaml here; run the command in the project's folder")


@pool_app.command("prepare")
def prepare_pool(overrides: Overrides = None) -> None:
    """Ingest, tokenise and score a pool, once; typed again it only checks."""
    from causalmix.pool.prepare import prepare
    from causalmix.sweep.points import to_config

    plain = compose_config(overrides)
    typer.echo(prepare(to_config(plain).pool, Path(plain["outputs"])))


@pool_app.command("state")
def write_pool_state(
    output: Annotated[Path, typer.Argument(help="Where to write state.json.")], overrides: Overrides = None
) -> None:
    """Measure the state of a pool (all of it, or pool.candidate=...) for `python -m analysis`."""
    from causalmix.study.targets import measure_target
    from causalmix.sweep.points import Inputs

    plain = compose_config(["pool.candidate.kind=all", *(overrides or [])])
    typer.echo(measure_target(plain, Inputs(Path(plain["outputs"])), output))


@pool_app.command("describe")
def describe_pool(
    overrides: Overrides = None,
    as_json: AsJson = False,
    n_samples: Annotated[int | None, typer.Option(help="Target size, for the repeats available.")] = None,
) -> None:
    """Print sizes, tokens, repeats available and the state of a pool."""
    from causalmix.pool.describe import describe_pool as describe
    from causalmix.pool.prepare import prepare
    from causalmix.pool.store import open_pool
    from causalmix.sweep.points import to_config

    plain = compose_config(overrides)
    config = to_config(plain)
    pool = open_pool(prepare(config.pool, Path(plain["outputs"])))
    facts = describe(pool, config.pool.candidate, n_samples=n_samples or config.train.n_samples)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    print_rows(
        [{"domain": domain, **values} for domain, values in facts["domains"].items()],
        f"{facts['name']}: {facts['n_documents']} documents, {facts['n_tokens']} tokens",
    )
    state = facts["state"]["state"]
    features = [name for name in state if "." not in name]
    rows = [
        {"state of a candidate pool": name, "all": state[name]}
        | {domain: state[f"{name}.{domain}"] for domain in facts["domains"]}
        for name in features
    ]
    print_rows(rows, "means of the normalised scores")


@app.command("status")
def show_status(
    sweep: Path,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every five seconds until nothing is left.")] = False,
) -> None:
    """Count a sweep's runs, their rate and time left, and group failures by cause; needs no server."""
    from causalmix.sweep.status import read_status

    while True:
        status = read_status(sweep)
        typer.echo(json.dumps(status.to_dict(), indent=1) if as_json else status.render())
        if not watch or status.by_status.get("complete", 0) >= status.asked:
            return
        time.sleep(5)


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


@app.command("table")
def write_runs_table(
    runs: Annotated[str, typer.Argument(help="Sweep folder or table; with --outcomes the table of mixtures.")],
    output: Path,
    outcomes: Annotated[Path | None, typer.Option(help="Second table of a RegMix pair or an olmix swarm.")] = None,
    higher_is_better: Annotated[bool, typer.Option(help="--outcomes holds scores, not losses.")] = False,
    columns: Annotated[list[str] | None, typer.Option("--map", help="OLD=NEW, OLD=-NEW for losses, or a YAML.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the runs table of a sweep (or of several sources) as CSV or Parquet, by the ending."""
    from causalmix.table.foreign import load_foreign
    from causalmix.table.runs import load_runs, write_table

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


def print_rows(rows: list[dict[str, Any]], title: str) -> None:
    """Print a list of equal dictionaries as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)


def main() -> None:
    """Run the command; a user's mistake ends as one message and exit status 2."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from causalmix.entry import explain_hydra_error, find_cause

    try:
        app()
    except CausalMixError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {explain_hydra_error(str(error), str(find_cause(error)))}", file=sys.stderr)
        sys.exit(ConfigError.exit_status)


if __name__ == "__main__":
    main()
