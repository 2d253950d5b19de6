"""``metrics.jsonl``: a line a logged step, also of a training that was resumed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from causalmix.files import write_text


class Metrics:
    """Write a training's metrics; what an interrupted attempt wrote before its checkpoint stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[str] | None = None

    def add(self, values: dict[str, Any]) -> None:
        """Add a line; the first one tells from which step on older lines are of work that is done again."""
        if self.file is None:
            write_text(self.path, "".join(f"{json.dumps(old)}\n" for old in self._read_before(values["step"])))
            self.file = self.path.open("a", encoding="utf-8")
        self.file.write(json.dumps(values) + "\n")
        self.file.flush()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file is not None:
            self.file.close()

    def _read_before(self, step: int) -> list[dict[str, Any]]:
        found = []
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # the last line of a killed process
                values = json.loads(line)
                if values["step"] < step:
                    found.append(values)
        return found
