"""Held-out documents: JSON lines, checked once and grouped by task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalmix.errors import EvaluateError, name_some


@dataclass(frozen=True)
class Heldout:
    """One held-out document.

    Attributes
    ----------
    id, ability, task : str
    messages : tuple of dict
        ``role`` and ``content`` of each turn before the answer, at least one.
    answer : str
        The last assistant turn, not empty.
    """

    id: str
    ability: str
    task: str
    messages: tuple[dict[str, str], ...]
    answer: str


def read_heldout(path: Path) -> dict[str, list[Heldout]]:
    """Read and check a held-out file.

    Parameters
    ----------
    path : Path
        JSON lines with ``id``, ``ability``, ``task`` and ``messages``; the last assistant turn is the answer,
        what follows it is left out.

    Returns
    -------
    dict
        Task -> its documents, in the order of the file.

    Raises
    ------
    EvaluateError
        For a missing or empty file, and naming every line that cannot be used.
    """
    if not path.is_file():
        raise EvaluateError(f"There is no held-out file {path}: set pool.heldout_path and prepare the pool again.")
    tasks: dict[str, list[Heldout]] = {}
    problems: list[str] = []
    seen: set[tuple[str, str]] = set()
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                document = _parse(json.loads(line))
                if (document.task, document.id) in seen:
                    raise ValueError(f"id {document.id!r} stands there twice")
            except (ValueError, KeyError, TypeError) as error:
                problems.append(f"line {number} ({_explain(error)})")
                continue
            seen.add((document.task, document.id))
            tasks.setdefault(document.task, []).append(document)
    if problems:
        raise EvaluateError(f"{path} has lines that cannot be evaluated: {name_some(problems)}.")
    if not tasks:
        raise EvaluateError(f"{path} holds no document.")
    return tasks


def _parse(record: dict[str, Any]) -> Heldout:
    messages = [{"role": str(m["role"]), "content": m["content"]} for m in record["messages"]]
    turns = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns or turns[-1] == 0:
        raise ValueError("there is no assistant turn after a question")
    answer = messages[turns[-1]]["content"]
    if not isinstance(answer, str) or not answer:
        raise ValueError("the last assistant turn is empty")
    return Heldout(
        id=str(record["id"]),
        ability=str(record["ability"]),
        task=str(record["task"]),
        messages=tuple(messages[: turns[-1]]),
        answer=answer,
    )


def _explain(error: Exception) -> str:
    return f"no field {error}" if isinstance(error, KeyError) else str(error)
