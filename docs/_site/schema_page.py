"""The configuration reference, written from the dataclasses of ``src/causalmix/config`` and their comments."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

from causalmix import config
from causalmix.config.folder import find_conf

ROOTS = {
    "python launch.py": config.Config,
    "python -m analysis": config.AnalysisConfig,
    "python -m analysis.compare": config.CompareConfig,
    "python -m analysis.simulate": config.SimulateConfig,
}


@dataclasses.dataclass(frozen=True)
class Key:
    """One setting: its name, its type and default as the source spells them, and its comment."""

    name: str
    kind: str
    default: str
    comment: str


def write_schema() -> str:
    """Return the page's body: a section a command, in it a table a group."""
    parts, told = [], set()
    for command, root in ROOTS.items():
        parts += [f"## {command}", root.__doc__ or ""]
        own, groups = split_groups(root)
        parts.append(write_table(own))
        for name, node in groups:
            if node in told:
                parts.append(f"`{name}`: as above.")
                continue
            told.add(node)
            parts += [f"### {name}", node.__doc__ or "", *list_choices(name), write_table(list(list_keys(node, name)))]
    return "\n\n".join(parts)


def split_groups(root: type[Any]) -> tuple[list[Key], list[tuple[str, type[Any]]]]:
    """Return a root's own keys, and its groups by name."""
    hints = get_type_hints(root)
    groups = [(f.name, hints[f.name]) for f in dataclasses.fields(root) if dataclasses.is_dataclass(hints[f.name])]
    names = {name for name, _ in groups}
    return [key for key in read_keys(root) if key.name not in names], groups


def list_keys(node: type[Any], prefix: str) -> Iterator[Key]:
    """List the keys of a group, those of its parts after them."""
    hints, parts = get_type_hints(node), []
    for key in read_keys(node):
        if dataclasses.is_dataclass(hints[key.name]):
            parts.append((f"{prefix}.{key.name}", hints[key.name]))
        elif key.name != "name":
            yield dataclasses.replace(key, name=f"{prefix}.{key.name}")
    for name, part in parts:
        yield from list_keys(part, name)


def read_keys(node: type[Any]) -> list[Key]:
    """Read a dataclass's fields off its source: a comment stands behind its field, or in the lines above it."""
    source = Path(inspect.getsourcefile(sys.modules[node.__module__]) or "").read_text(encoding="utf-8")
    classes = [item for item in ast.parse(source).body if isinstance(item, ast.ClassDef)]
    (found,) = [item for item in classes if item.name == node.__name__]
    lines = source.splitlines()
    keys = []
    for item in found.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            default = ast.unparse(item.value) if item.value else ""
            comment = read_comment(lines, item.lineno - 1, item.end_lineno or item.lineno)
            keys.append(Key(item.target.id, ast.unparse(item.annotation), spell_default(default), comment))
    return keys


def read_comment(lines: list[str], first: int, end: int) -> str:
    """Return the comment of the field in ``lines[first:end]``."""
    above: list[str] = []
    while lines[first - len(above) - 1].strip().startswith("#"):
        above.insert(0, lines[first - len(above) - 1].strip())
    inside = [line[line.index("#") :] for line in lines[first:end] if "#" in line]
    return " ".join(part.lstrip("#").strip() for part in [*above, *inside])


def spell_default(text: str) -> str:
    """Return a default as a person types it."""
    if text.startswith("field("):
        factory = text.removeprefix("field(default_factory=").removesuffix(")")
        return {"list": "[]", "dict": "{}"}.get(factory, factory.removeprefix("lambda: "))
    return {"MISSING": "from the group's file", "None": "null", "True": "true", "False": "false"}.get(text, text)


def list_choices(group: str) -> list[str]:
    """List the files of a group with the line that says what each is."""
    files = sorted((find_conf() / group).glob("*.yaml"))
    if not files:
        return []
    rows = [f"| `{group}={path.stem}` | {escape(read_title(path))} |" for path in files]
    return ["\n".join(["| choice | what it is |", "|---|---|", *rows])]


def read_title(path: Path) -> str:
    """Return the first comment line of a YAML file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ") for line in lines if line.startswith("#")), "")


def write_table(keys: list[Key]) -> str:
    """Return a Markdown table of keys."""
    rows = [
        f"| `{key.name}` | `{escape(key.kind)}` | `{escape(key.default)}` | {escape(key.comment)} |" for key in keys
    ]
    return "\n".join(["| key | type | default | what it is |", "|---|---|---|---|", *rows])


def escape(text: str) -> str:
    """Return text that may stand in a cell."""
    text = text.replace("|", "\\|").replace("\n", " ")
    return text if "`" in text else text.replace("<", "&lt;")
