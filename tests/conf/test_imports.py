"""Who may know whom, and what the light commands may import."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny import ROOT, make_environment

HEAVY = (
    "torch",
    "transformers",
    "lm_eval",
    "econml",
    "wandb",
    "lightgbm",
    "sklearn",
    "datasets",
    "matplotlib",
)

MAY_KNOW = {
    "config": set(),
    "errors": set(),
    "files": {"errors"},
    "entry": {"config", "errors", "files"},
    "mixture": {"config", "errors", "files"},
    "table": {"config", "errors", "files"},
    "train": {"config", "errors", "files", "mixture"},
    "pool": {"config", "errors", "files", "train", "mixture"},
    "evaluate": {"config", "errors", "files", "train", "pool"},
    "track": {"config", "errors", "files", "table"},
    "run": {"config", "errors", "files", "mixture", "train", "pool", "evaluate", "track"},
    "sweep": {"config", "errors", "files", "mixture", "train", "pool", "evaluate", "run"},
    "study": {"config", "errors", "files", "pool", "run", "sweep", "table"},
    "export": {"config", "errors", "files", "mixture", "pool"},
    "cli": {
        "config",
        "errors",
        "files",
        "entry",
        "pool",
        "run",
        "sweep",
        "study",
        "table",
        "track",
        "mixture",
        "export",
        "hydra_plugins",
    },
}
"""Room of src/causalmix -> rooms it may import; its own is always allowed. A new room needs a line."""

ANALYSIS_MAY_KNOW = {"mixture", "table", "config", "errors", "files", "entry"}
PLUGINS_MAY_KNOW = {"sweep", "config", "errors"}


def list_imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, inside functions and for type checks too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def list_rooms(path: Path) -> set[str]:
    """Name the rooms of this project that a file imports: rooms of causalmix, analysis, hydra_plugins."""
    rooms = set()
    for name in list_imports(path):
        top, _, rest = name.partition(".")
        if top == "causalmix":
            rooms.add(rest.split(".")[0])
        elif top in ("analysis", "hydra_plugins", "tests"):
            rooms.add(top)
    return rooms


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "causalmix").parts[0].removesuffix(".py")


SOURCES = sorted(path for path in (ROOT / "src" / "causalmix").rglob("*.py") if path.name != "__init__.py")


def test_every_room_has_its_line() -> None:
    assert {room_of(path) for path in SOURCES} == set(MAY_KNOW)


@pytest.mark.parametrize("room", sorted(MAY_KNOW))
def test_a_room_knows_only_the_rooms_below_it(room: str) -> None:
    for path in SOURCES:
        if room_of(path) == room:
            strangers = list_rooms(path) - MAY_KNOW[room] - {room}
            assert not strangers, f"{path.relative_to(ROOT)} imports {sorted(strangers)}"


def test_the_rules_have_no_circle() -> None:
    seen: set[str] = set()
    while len(seen) < len(MAY_KNOW):
        free = {room for room, known in MAY_KNOW.items() if known - {"hydra_plugins"} <= seen} - seen
        assert free, f"a circle among {sorted(set(MAY_KNOW) - seen)}"
        seen |= free


def test_analysis_knows_tables_and_mixtures_alone() -> None:
    for path in (ROOT / "analysis").rglob("*.py"):
        strangers = list_rooms(path) - ANALYSIS_MAY_KNOW - {"analysis"}
        assert not strangers, f"{path.relative_to(ROOT)} imports {sorted(strangers)}"


def test_plugins_know_sweeps_alone() -> None:
    for path in (ROOT / "src" / "hydra_plugins").rglob("*.py"):
        assert list_rooms(path) <= PLUGINS_MAY_KNOW | {"hydra_plugins"}, path


def test_only_launch_joins_causalmix_and_analysis() -> None:
    joins = [
        path.relative_to(ROOT).as_posix()
        for path in [*ROOT.glob("*.py"), *(ROOT / "src").rglob("*.py")]
        if "analysis" in list_rooms(path)
    ]
    assert joins == ["launch.py"]
    assert len((ROOT / "launch.py").read_text(encoding="utf-8").splitlines()) < 80


def test_nothing_unpickles() -> None:
    for path in [*SOURCES, *(ROOT / "analysis").rglob("*.py")]:
        names = set(list_imports(path))
        assert not {name for name in names if name.split(".")[0] in ("pickle", "dill", "cloudpickle", "joblib")}, path
        assert "torch.load(" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    "arguments",
    [["launch.py", "--help"], ["-m", "analysis", "--help"], ["-m", "causalmix.cli", "--help"]],
    ids=["launch", "analysis", "causalmix"],
)
def test_help_is_quick_and_imports_nothing_heavy(arguments: list[str]) -> None:
    start = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=ROOT,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    wall_s = time.perf_counter() - start
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in ended.stderr.splitlines() if "|" in line}
    assert "argparse" in imported or "typer" in imported  # the list is a list of imports
    assert not imported & set(HEAVY)
    assert "elp" in ended.stdout
    assert wall_s < 15  # about a second where nothing else runs; a bound that a busy machine keeps


def test_status_needs_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "causalmix.cli", "status", str(tmp_path), "--json"],
        cwd=ROOT,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in ended.stderr.splitlines() if "|" in line}
    assert not imported & set(HEAVY)
    assert '"asked": 0' in ended.stdout
