"""The code blocks of the pages: what each says of itself, and what its commands are, as bash reads them."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "benchmarks" / "README.md", ROOT / "slurm" / "README.md"]
OUTPUT = "the output of the command above; a test compares them"
BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)```", re.S)
INDENTED = re.compile(r"\n\n {4}(?:python|causalmix|make|sbatch|pip) [^\n]*\n")
RECORDER = """#!/bin/sh
printf '%s\\0' "${0##*/here/}" "$@" >> "$CALLS"
printf '\\1\\0' >> "$CALLS"
"""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    ``marker`` is the comment above it: ``run`` (``run with a, b``: names that a test gives), ``parsed: why it is not
    run``, ``composed: group/name`` of a YAML file, or ``OUTPUT``.
    """

    page: Path
    number: int
    marker: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """Where it stands, for messages."""
        return f"{name_page(self.page)}, block {self.number}"

    def says(self, word: str) -> str | None:
        """Return what follows ``word`` in the marker; None where the marker is another."""
        found = re.fullmatch(rf"{word}(?: with |: |$)(.*)", self.marker)
        return found and found[1]


def name_page(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read_blocks(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(page, number, *parts) for number, parts in enumerate(found, 1)]


def list_calls(block: Block, folder: Path) -> list[list[str]]:
    """Let bash read a block whose commands only write down how they were called."""
    here = folder / "here"
    for name in ("python", "causalmix", "make", "sbatch", "slurm/install", "slurm/up", "slurm/down"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(RECORDER)
        (here / name).chmod(0o755)
    calls = folder / "calls"
    calls.write_bytes(b"")
    environment = {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "CALLS": str(calls)}
    is_run = block.says("run") is not None  # what is run may read what an earlier command wrote
    command = ["bash", "-uo" if is_run else "-euo", "pipefail", "-c", block.text]
    ended = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0 or is_run, f"{block.name}: {ended.stderr}"
    words = calls.read_bytes().decode().split("\0")[:-1]
    split: list[list[str]] = [[]]
    for word in words:
        if word == "\1":
            split.append([])
        else:
            split[-1].append(word)
    return split[:-1]
