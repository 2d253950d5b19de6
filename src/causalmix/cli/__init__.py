"""The ``causalmix`` command: pools, sweeps and tables, without a server."""

from __future__ import annotations

import sys

import typer

from causalmix.cli import pools, sweeps, tables
from causalmix.cli.compose import compose_bare, compose_config
from causalmix.errors import CausalMixError, ConfigError
from causalmix.track.commands import add_commands

INTERRUPTED = 130  # how typer ends on Ctrl-C

app = typer.Typer(
    help="Pools, sweeps and runs tables of CausalMix. Settings are Hydra overrides, as in launch.py.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.add_typer(pools.app, name="pool")
app.add_typer(sweeps.app)
app.add_typer(tables.app)
add_commands(app)


def main() -> None:
    """Run the command; a user's mistake ends as one message and exit status 2."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from causalmix.entry import end_with_reader, explain_full_disk, explain_hydra_error, find_cause

    try:
        with end_with_reader():
            app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("stopped; what is complete stays. The same command goes on from here.", file=sys.stderr)
        raise
    except CausalMixError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {explain_hydra_error(str(error), str(find_cause(error)))}", file=sys.stderr)
        sys.exit(ConfigError.exit_status)
    except OSError as error:
        print(f"error: {explain_full_disk(error)}", file=sys.stderr)
        sys.exit(CausalMixError.exit_status)


__all__ = ["app", "compose_bare", "compose_config", "main"]
