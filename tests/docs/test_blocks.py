"""What the pages tell people to type works, and what they link to is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / "benchmarks" / "README.md", ROOT / "slurm" / "README.md"]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *READMES])
BLOCK = re.compile(r"<!-- run -->\n```(\w+)\n(.*?)```", re.S)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def name_page(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def list_runnable() -> list[Path]:
    return [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


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
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", list_runnable(), ids=name_page)
def test_what_a_page_says_to_type_works(page, tmp_path):
    environment, folder = make_environment(tmp_path), tmp_path / "work"
    folder.mkdir()
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
        ended = subprocess.run(
            [*command, block], cwd=folder, env=environment, capture_output=True, text=True, timeout=250
        )
        assert ended.returncode == 0, f"{block}\n{ended.stderr}"
    if page.name == "start.md":
        assert {"checks.json", "mixture.json", "report.html"} == {path.name for path in (folder / "out").iterdir()}


def test_there_is_something_to_run():
    assert ROOT / "docs" / "start.md" in list_runnable()
    assert shutil.which("bash")


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_lead_somewhere(page):
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
