"""Would a command be understood? Options are parsed and settings composed; nothing is run."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from causalmix.config import register_schemas, resolve
from causalmix.entry import MULTIRUN, quote_runs, refuse_sweep_without_multirun, sort_flags
from causalmix.sweep.points import to_config
from tests.docs.blocks import ROOT

CONF = ROOT / "conf"
CONFIGS = {"analysis": "analysis", "analysis.compare": "compare", "analysis.simulate": "simulate"}
LEFT_OPEN = re.compile(r"(.*=)?\.\.\.")  # "pool=...": the reader's own


class Understood(Exception):  # noqa: N818  -- how a parser is left before anything is done
    """The options were right."""


def check_call(call: list[str], own_conf: Path) -> None:
    """Parse one command as it would be; a renamed option or key raises, as it would for a reader."""
    program, *words = (word for word in call if not LEFT_OPEN.fullmatch(word))
    if program == "python":
        check_python(words, own_conf)
    elif program == "causalmix":
        check_command(words, own_conf)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{re.escape(word)}:", makefile, re.M) for word in words), words
    elif program == "sbatch":
        check_call(shlex.split(words[words.index("--wrap") + 1]), own_conf)
    else:
        assert (ROOT / program).is_file(), f"no rule for {program}"


def check_python(words: list[str], own_conf: Path) -> None:
    if words[0] == "launch.py":
        to_config(compose_settings("config", words[1:], own_conf))
    elif words[0] == "-m" and words[1] in CONFIGS:
        given = ["as_json=true" if word == "--json" else word for word in words[2:]]
        compose_settings(CONFIGS[words[1]], given, own_conf)
    elif words[0] == "-m" and words[1] == "build":
        pytest.importorskip("build")
    else:
        check_script(words)


def check_script(words: list[str]) -> None:
    """Run a script until it has read its options."""

    def stop(parse: Callable[..., Any]) -> Callable[..., Any]:
        def parsed(*given: Any, **named: Any) -> Any:
            parse(*given, **named)
            raise Understood

        return parsed

    script, *arguments = words[1:] if words[0] == "-m" else words
    if script == "benchmarks/pool.py":  # hands over to the script of its first word
        script, arguments = f"benchmarks/pool_{arguments[0]}.py", arguments[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop(argparse.ArgumentParser.parse_args))
        patch.setattr(sys, "argv", [script, *arguments])
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        patch.delitem(sys.modules, f"{script}.__main__", raising=False)  # imported by another test: runpy would warn
        name, run = (script, runpy.run_module) if words[0] == "-m" else (str(ROOT / script), runpy.run_path)
        with pytest.raises(Understood):
            run(name, run_name="__main__")


def check_command(words: list[str], own_conf: Path) -> None:
    """Parse a call of ``causalmix`` down to the command, and compose the settings that it is given."""
    import typer

    from causalmix.cli import app
    from causalmix.export.formats import find_format

    command, name = typer.main.get_command(app), "causalmix"
    context = command.make_context(name, list(words), resilient_parsing="--install-completion" in words)
    while isinstance(command, typer.core.TyperGroup) and (rest := [*context._protected_args, *context.args]):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, list(rest), parent=context)
    if context.params.get("overrides"):
        compose_settings("config", list(context.params["overrides"]), own_conf)
    if "to" in context.params:
        find_format(context.params["to"])


def compose_settings(name: str, words: list[str], own_conf: Path) -> dict[str, Any]:
    """Compose the first point of what is asked for, with the files that the pages tell a reader to write."""
    given = [quote_runs(word, sweeps=bool({*MULTIRUN} & {*words})) for word in words]
    refuse_sweep_without_multirun(given)
    overrides = OverridesParser.create().parse_overrides([w for w in sort_flags(given) if w not in MULTIRUN])
    texts = [
        f"{each.get_key_element()}={next(iter(each.sweep_string_iterator()))}"
        if each.is_sweep_override()
        else str(each.input_line)
        for each in overrides
    ]
    texts = [text.replace("hydra/launcher=submitit_slurm", "hydra/launcher=basic") for text in texts]
    register_schemas()
    OmegaConf.register_new_resolver("policy_weights", lambda: {"math": 1.0}, replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return resolve(compose(name, overrides=[*texts, f"hydra.searchpath=[file://{own_conf}]"]))
