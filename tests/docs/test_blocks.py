"""What the pages tell people to type works, or would be understood; what they link to is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import INDENTED, OUTPUT, PAGES, ROOT, Block, list_calls, name_page, read_blocks
from tests.docs.calls import check_call, compose_settings
from tests.docs.sandbox import SANDBOXES, make_names

LINKING = sorted({*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *PAGES})
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(?:\$ )?(?:python|causalmix|make|sbatch|pip|eval) ", re.M)


def list_pages(kind: str) -> list[Path]:
    return [page for page in PAGES if any(block.says(kind) is not None for block in read_blocks(page))]


@pytest.fixture(scope="module")
def own_conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config files that the pages tell a reader to write, and a site's."""
    folder = tmp_path_factory.mktemp("conf")
    for page in PAGES:
        for block in read_blocks(page):
            if name := block.says("composed"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / f"{name}.yaml").write_text(block.text)
    (folder / "cluster").mkdir()
    shutil.copy(ROOT / "conf" / "cluster" / "site_example.yaml", folder / "cluster" / "my_site.yaml")
    return folder


# --- every block says what a test does with it -----------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_no_block_is_left_out(page: Path) -> None:
    assert not INDENTED.findall(page.read_text(encoding="utf-8")), "indented code is not seen: fence it"
    for block in read_blocks(page):
        if block.language == "text":
            assert block.marker or not COMMAND.search(block.text), f"{block.name}: commands in a block of text"
            continue
        allowed = {"bash": ("run", "parsed"), "python": ("run",), "yaml": ("composed",)}[block.language]
        said = [block.says(kind) for kind in allowed]
        assert any(text is not None for text in said), f"{block.name}: <!-- {' | '.join(allowed)} --> is missing"
        assert block.says("parsed") != "", f"{block.name}: why is it not run?"


def test_no_command_is_only_parsed_without_being_there(tmp_path: Path) -> None:
    """Blocks that are only parsed hold commands: bash has seen at least one call in each."""
    for page in list_pages("parsed"):
        for block in read_blocks(page):
            if block.says("parsed"):
                assert list_calls(block, tmp_path), block.name


# --- commands are understood, settings compose -------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.language == "bash" for b in read_blocks(page))], ids=name_page
)
def test_commands_would_be_understood(page: Path, own_conf: Path, tmp_path: Path) -> None:
    for block in read_blocks(page):
        if block.language != "bash":
            continue
        for call in list_calls(block, tmp_path):
            if call[:2] != ["python", "-c"]:  # of a block that is run
                try:
                    check_call(call, own_conf)
                except BaseException as error:
                    raise AssertionError(f"{block.name}: {' '.join(call)}: {type(error).__name__}: {error}") from error


def test_what_is_renamed_is_noticed(own_conf: Path) -> None:
    for call in (
        ["python", "launch.py", "train.n_sample=4"],
        ["python", "launch.py", "seed=range(4)"],
        ["python", "launch.py", "-m", "experiment=demos"],
        ["python", "-m", "analysis", "target.states={hes: 1}"],
        ["causalmix", "status", "SWEEP", "--watched"],
        ["causalmix", "pool", "described", "pool=demo"],
        ["causalmix", "export", "a.json", "--to", "torchtuna"],
        ["python", "benchmarks/designs.py", "--fully"],
        ["make", "demos"],
        ["sbatch", "--wrap", "causalmix pool score --shards 2"],
        ["slurm/upward"],
    ):
        with pytest.raises(BaseException):  # noqa: B017  -- argparse leaves by SystemExit
            check_call(call, own_conf)


@pytest.mark.parametrize("page", list_pages("composed"), ids=name_page)
def test_files_to_write_compose(page: Path, own_conf: Path) -> None:
    for block in read_blocks(page):
        if name := block.says("composed"):
            group, _, choice = name.partition("/")
            assert compose_settings("config", [f"{group}={choice}"], own_conf)


# --- what is cheap is run ----------------------------------------------------------------------------------


def make_environment(folder: Path) -> dict[str, str]:
    """This tree's packages and commands, as if it were installed."""
    commands = folder / "bin"
    commands.mkdir()
    for name, target in (("python", ""), ("causalmix", "-m causalmix.cli ")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {target}"$@"\n')
        (commands / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def run_block(block: Block, folder: Path, environment: dict[str, str]) -> str:
    if block.language == "python":
        names = make_names() if block.says("run") else {}
        assert set(str(block.says("run")).split(", ")) - {""} <= set(names), block.name
        exec(compile(block.text.replace('"runs.csv"', repr(str(folder / "runs.csv"))), block.name, "exec"), names)
        return ""
    command = ["bash", "-euo", "pipefail", "-c", block.text]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, f"{block.name}: {block.text}\n{ended.stderr}"
    return ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", list_pages("run"), ids=name_page)
def test_what_a_page_says_to_type_works(page: Path, tmp_path: Path) -> None:
    environment, folder = make_environment(tmp_path), tmp_path / "work"
    folder.mkdir()
    SANDBOXES.get(page.name, lambda _: None)(folder)
    printed = ""
    for block in read_blocks(page):
        if block.says("run") is not None:
            printed = run_block(block, folder, environment)
        elif block.marker == OUTPUT:
            assert printed.split() == block.text.split(), block.name
    if page.name == "start.md":
        assert {"checks.json", "mixture.json", "report.html"} == {path.name for path in (folder / "out").iterdir()}


def test_there_is_something_to_run() -> None:
    assert ROOT / "docs" / "start.md" in list_pages("run")
    assert shutil.which("bash")


# --- links -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", LINKING, ids=name_page)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    for link in LINK.findall(text):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} in {page.name}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert heading in {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}, link
