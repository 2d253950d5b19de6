"""`causalmix pool`: prepare pools, score them, look at them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from causalmix.cli.compose import compose_config
from causalmix.cli.printing import AsJson, Overrides, print_rows

app = typer.Typer(help="Prepare and look at document pools.", no_args_is_help=True)


@app.command("prepare")
def prepare_pool(overrides: Overrides = None) -> None:
    """Ingest, tokenise and score a pool, once; typed again it only checks."""
    from causalmix.pool.prepare import prepare
    from causalmix.sweep.points import to_config

    plain = compose_config(overrides)
    typer.echo(prepare(to_config(plain).pool, Path(plain["outputs"])))


@app.command("score")
def score_pool(
    overrides: Overrides = None,
    shard: Annotated[int | None, typer.Option(help="Which part, from 0; in a SLURM array: the task's.")] = None,
    of: Annotated[int | None, typer.Option(help="Parts in all.")] = None,
    before: Annotated[bool, typer.Option("--before", help="Only make what comes before the scores.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score a pool, or one part of it; the part that ends last finishes the store."""
    from causalmix.pool.prepare import score_pool as score
    from causalmix.pool.score_work import find_shard
    from causalmix.sweep.points import to_config

    part = None if before else find_shard(shard, of, os.environ)
    plain = compose_config(overrides)
    facts = score(to_config(plain).pool, Path(plain["outputs"]), part)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    rate = f", {facts['n_scored'] / facts['wall_s']:.0f} a second" if facts["n_scored"] and facts["wall_s"] else ""
    n_left, n_blocks = facts["blocks_left"], facts["n_blocks"]
    left = "the store is finished" if facts["finished"] else f"{n_left} of {n_blocks} blocks left"
    typer.echo(f"{facts['path']}: scored {facts['n_scored']} documents{rate}; {left}")


@app.command("state")
def write_pool_state(
    output: Annotated[Path, typer.Argument(help="Where to write state.json.")], overrides: Overrides = None
) -> None:
    """Measure the state of a pool (all of it, or pool.candidate=...) for `python -m analysis`."""
    from causalmix.study.targets import measure_target
    from causalmix.sweep.points import Inputs

    plain = compose_config(["pool.candidate.kind=all", *(overrides or [])])
    typer.echo(measure_target(plain, Inputs(Path(plain["outputs"])), output))


@app.command("describe")
def describe_pool(
    overrides: Overrides = None,
    as_json: AsJson = False,
    n_samples: Annotated[int | None, typer.Option(help="Target size, for the repeats available.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures here.")] = None,
) -> None:
    """Print sizes, tokens, repeats available and the state of a pool."""
    from causalmix.pool.describe import describe_pool as describe
    from causalmix.pool.pictures import tabulate_state, write_page
    from causalmix.pool.prepare import prepare
    from causalmix.pool.store import open_pool
    from causalmix.sweep.points import to_config

    plain = compose_config(overrides)
    config = to_config(plain)
    pool = open_pool(prepare(config.pool, Path(plain["outputs"])))
    facts = describe(pool, config.pool.candidate, n_samples=n_samples or config.train.n_samples)
    if html:
        write_page(html, facts)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    typer.echo(f"{facts['path']} (fingerprint {facts['fingerprint']})")
    in_a_run = ("in_a_run", "repeats_equal", "repeats_natural", "share_max")
    print_rows(
        _list_domains(facts, lambda name: name not in in_a_run),
        f"{facts['name']}: {facts['n_documents']:,} documents, {facts['n_tokens']:,} tokens, "
        f"{facts['n_target_tokens']:,} of them learnt",
    )
    print_rows(
        _list_domains(facts, lambda name: name in in_a_run),
        f"for a run of {facts['n_samples']:,} documents: repeats at equal and natural shares, largest share without",
    )
    if facts["n_truncated"]:
        share = facts["n_truncated"] / facts["n_documents"]
        typer.echo(f"{facts['n_truncated']:,} documents ({share:.1%}) are cut at the longest length")
    for feature, count in facts["truncated_scores"].items():
        typer.echo(f"{feature}: {count:,} texts ({count / facts['n_documents']:.1%}) were longer than what it reads")
    state = [{"state": name, **values} for name, values in tabulate_state(facts).items()]
    print_rows(state, "a candidate pool: means and quantiles of the normalised scores")
    for cause, counts in facts["left_out"].items():
        typer.echo(f"left out as {cause}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    for domain, shares in facts["languages"].get("shares", {}).items():
        largest = sorted(shares.items(), key=lambda entry: -entry[1])[:5]
        typer.echo(f"languages of {domain}: " + ", ".join(f"{name} {share:.1%}" for name, share in largest))
    if html:
        typer.echo(f"wrote {html}")


def _list_domains(facts: dict[str, Any], is_wanted: Callable[[str], bool]) -> list[dict[str, Any]]:
    """List some values of each domain, named by words, between which a heading can be broken."""
    return [
        {"domain": domain, **{name.replace("_", " "): value for name, value in values.items() if is_wanted(name)}}
        for domain, values in facts["domains"].items()
    ]


@app.command("verify")
def verify_pool(folder: Annotated[Path, typer.Argument(help="A prepared pool.")]) -> None:
    """Read every byte of a prepared pool and compare it with what was written."""
    from causalmix.pool.store import open_pool

    pool = open_pool(folder, verify=True)
    n_bytes = sum(file["bytes"] for file in pool.facts["files"].values())
    typer.echo(f"{folder}: {len(pool.facts['files'])} files, {n_bytes} bytes, all as they were written")
