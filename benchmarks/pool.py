"""The pool against named peers, in one run each, equal work checked by equal output.

    python benchmarks/pool.py ingest [--documents N] [--workers N] [--json FILE]
    python benchmarks/pool.py --help

Each question is a module of ``benchmarks/pool/`` with ``add_options(parser)`` and ``run(options) -> dict``; what
``run`` returns is printed, and written as JSON to ``benchmarks/results/pool_<name>.json``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# A script's folder stands first on the path: its files would hide packages of the same name.
sys.path = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "benchmarks")]


def list_questions() -> list[str]:
    """Names of the modules that answer one."""
    modules = sorted((ROOT / "benchmarks" / "pool").glob("*.py"))
    return [path.stem for path in modules if "def run(" in path.read_text(encoding="utf-8")]


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = parser.add_subparsers(dest="name", required=True)
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    for name in list_questions():
        sub = names.add_parser(name)
        sub.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / f"pool_{name}.json")
        if name == asked:
            importlib.import_module(f"benchmarks.pool.{name}").add_options(sub)
    options = parser.parse_args()
    result = importlib.import_module(f"benchmarks.pool.{options.name}").run(options)
    result = {"command": " ".join(["python", "benchmarks/pool.py", *sys.argv[1:]]), **describe_machine(), **result}
    print(json.dumps(result, indent=1))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def describe_machine() -> dict[str, Any]:
    """Say where and when: ratios carry over to other machines, seconds do not."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    main()
