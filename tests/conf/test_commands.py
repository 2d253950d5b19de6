"""Every command: tables as JSON too, readers who leave, completion in the shell."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from causalmix import cli
from causalmix.cli import app
from causalmix.config import AnalysisConfig, CompareConfig, Config, SimulateConfig
from causalmix.entry import run_command
from tests.tiny import ROOT, make_environment

# They print a path, a sentence or the ends of logs.
WITHOUT_TABLE = {"pool prepare", "pool state", "pool verify", "cancel", "logs"}


def list_commands() -> dict[str, typer.core.TyperCommand]:
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {own}": each for own, each in inner.items()} if inner else {name: command}
    return found


def test_every_table_exists_as_json() -> None:
    commands = list_commands()
    with_json = {name for name, command in commands.items() if any("--json" in p.opts for p in command.params)}
    assert with_json == set(commands) - WITHOUT_TABLE
    for schema in (Config, AnalysisConfig, CompareConfig, SimulateConfig):  # --json of the entry points of Hydra
        assert schema.as_json is False


def start(words: list[str], **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, *words]
    return subprocess.Popen(command, cwd=ROOT, env=make_environment(), stderr=subprocess.PIPE, **options)


def test_effects_by_hand_as_json() -> None:
    words = ["-m", "analysis.policies.regions", "code=1", "math=2", "--json"]
    process = start(words, stdout=subprocess.PIPE)
    found = json.loads(process.communicate(timeout=100)[0])
    assert set(found) == {"reference", "off", "box", "kl", "reverse_kl", "aitchison", "l2"}
    assert found["off"]["weights"] == pytest.approx({"code": 1 / 3, "math": 2 / 3})
    assert found["kl"]["gain"] > 0


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "causalmix.cli", "--help"],
        ["-m", "causalmix.cli", "estimate", "experiment=causalmix_sft", "--json"],
        ["launch.py", "--cfg", "job"],
        ["-m", "analysis.policies.regions", "code=1", "math=2"],
    ],
    ids=" ".join,
)
def test_a_reader_may_leave(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # nobody will read: `| head -0`
    process = start(words, stdout=writing)
    os.close(writing)
    said = process.communicate(timeout=100)[1].decode()
    assert process.returncode in (1, 141)
    assert "BrokenPipe" not in said
    assert "Traceback" not in said


def complete(line: str) -> list[str]:
    """What bash is offered behind a line, by the protocol that the installed completion speaks."""
    words = line.split(" ")
    asked = {"_CAUSALMIX_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "from causalmix.cli import app; app(prog_name='causalmix')"
    environment = make_environment() | asked
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    return ended.stdout.split()


def test_bash_completes() -> None:
    assert {"table", "export", "sync"} <= set(complete("causalmix "))
    assert complete("causalmix dash") == ["dashboard"]
    assert complete("causalmix pool des") == ["describe"]
    assert "--higher-is-better" in complete("causalmix table runs.csv --h")


def test_completion_can_be_installed(tmp_path: Path) -> None:
    """In a home of its own: bash then knows a function for ``causalmix``."""
    code = "from causalmix.cli import app; app(['--install-completion', 'bash'], prog_name='causalmix')"
    environment = make_environment() | {"HOME": str(tmp_path), "SHELL": "/bin/bash"}
    typed = ["bash", "-c", f'"{sys.executable}" -c "$0"; exit $?', code]  # the shell is found among the parents
    subprocess.run(typed, env=environment, capture_output=True, timeout=100, check=True)
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert str(script) in (tmp_path / ".bashrc").read_text()
    shown = subprocess.run(
        ["bash", "-c", f"source {script}; complete -p causalmix"], capture_output=True, text=True, check=True
    )
    assert "causalmix" in shown.stdout


def test_a_full_disk_ends_any_command_with_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(number: int) -> None:
        raise OSError(number, os.strerror(number), "/shared/file")

    monkeypatch.setattr(sys, "argv", ["launch.py"])
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert run_command(lambda number=number: write(number), ["launch.py"]) == 2
        assert f"({os.strerror(number)}) while writing /shared/file; nothing that" in capsys.readouterr().err
    with pytest.raises(PermissionError):
        run_command(lambda: write(errno.EACCES), ["launch.py"])
    monkeypatch.setattr(cli, "app", lambda: write(errno.ENOSPC))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2


@pytest.mark.parametrize("module", ["analysis", "analysis.simulate"])
@pytest.mark.parametrize(("given", "held"), [(None, "1"), ("3", "3")])
def test_an_analysis_holds_linear_algebra_to_one_thread(module, given, held):
    code = (
        f"import os, runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('{module}', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(os.environ['OMP_NUM_THREADS'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": given} if given else {}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == held, done.stderr
