"""Every message that a user can be given, read off the ``raise`` statements of the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT / "src" / "causalmix", ROOT / "analysis")
ERRORS = ROOT / "src" / "causalmix" / "errors.py"
SHORTEST = 20  # what is shorter is put together elsewhere and says nothing by itself


@dataclass(frozen=True)
class Message:
    """A message with the place that gives it."""

    error: str
    text: str
    module: str


def write_errors() -> str:
    """Return the page's body: the messages by part of the project, the error's name before each."""
    parts: list[str] = []
    by_room: dict[str, list[Message]] = {}
    for message in list_messages():
        by_room.setdefault(name_room(message.module), []).append(message)
    for room, messages in sorted(by_room.items()):
        rows = [f"- **{m.error}**: {escape(m.text)} *({m.module})*" for m in messages]
        parts += [f"## {room}", "\n".join(rows)]
    return "\n\n".join(parts)


def list_messages() -> list[Message]:
    """List every message of the error family, in the order of the source."""
    family = list_family()
    found = []
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            module = path.relative_to(folder.parent).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for error, argument in find_raises(tree, family):
                text = " ".join(spell(argument).split())
                if len(text.replace("…", "")) >= SHORTEST:
                    found.append(Message(error, text, module))
    return found


def list_family() -> set[str]:
    """Return the names of the errors that a user can mend."""
    classes = [item for item in ast.parse(ERRORS.read_text(encoding="utf-8")).body if isinstance(item, ast.ClassDef)]
    return {c.name for c in classes if any(isinstance(b, ast.Name) and b.id == "CausalMixError" for b in c.bases)}


def find_raises(tree: ast.AST, family: set[str]) -> Iterator[tuple[str, ast.expr]]:
    """Yield the error and the message of each ``raise Error(message)``."""
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in family and call.args:
            yield call.func.id, call.args[0]


def spell(node: ast.expr) -> str:
    """Return a message with an ellipsis for whatever is only known when it is given."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(spell(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return spell(node.left) + spell(node.right)
    if isinstance(node, ast.IfExp):
        return spell(node.body)
    return "…"


def name_room(module: str) -> str:
    """Return the part of the project that a module belongs to."""
    parts = module.split("/")
    return parts[0] if parts[0] == "analysis" else parts[1].removesuffix(".py")


def escape(text: str) -> str:
    """Return text that Markdown leaves as it is."""
    for sign in ("\\", "`", "*", "_", "[", "]", "<", "{", "|"):
        text = text.replace(sign, "\\" + sign if sign != "<" else "&lt;")
    return text
