"""The pool against named peers, each in one run, equal work checked by equal output.

    python benchmarks/pool.py                   lists the questions
    python benchmarks/pool.py ingest [...]      asks one; what follows are its own options
    python benchmarks/pool.py all               asks all of them, as they stand

Each question is a script of its own, ``benchmarks/pool_<name>.py``.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def list_questions() -> dict[str, str]:
    """Scripts beside this one that have a ``main``: name -> first line of what they say they are."""
    questions = {}
    for path in sorted(HERE.glob("pool_*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in module.body):
            questions[path.stem.removeprefix("pool_")] = (ast.get_docstring(module) or "").splitlines()[0]
    return questions


def main(arguments: list[str]) -> int:
    """Ask one question, or all."""
    questions = list_questions()
    asked = list(questions) if arguments[:1] == ["all"] else arguments[:1]
    if not asked or asked[0] not in questions:
        print(__doc__, *(f"  {name:<10}{title}" for name, title in questions.items()), sep="\n")
        return 0 if not asked or asked[0] in ("-h", "--help") else 2
    for name in asked:
        ended = subprocess.run([sys.executable, str(HERE / f"pool_{name}.py"), *arguments[1:]], check=False)
        if ended.returncode:
            return ended.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
