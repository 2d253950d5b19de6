"""What happened in a run, in order."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any


class Diary:
    """What happened in a run, in order, with seconds since its start."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.start = time.perf_counter()
        self.events: list[dict[str, Any]] = []
        self.others_s = 0.0  # seconds since the start that other runs of the same process took

    def note(self, event: str, **details: Any) -> None:
        """Add an event."""
        self.events.append({"event": event, "at_s": round(time.perf_counter() - self.start, 4), **details})
