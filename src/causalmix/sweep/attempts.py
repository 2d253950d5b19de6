"""Earlier attempts at a run: which of them died, and what they cost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from causalmix.errors import RecordError
from causalmix.run.record import read_record
from causalmix.sweep.claims import Claims


def list_deaths(claims: Claims, run_id: str, submission: str, before: int = sys.maxsize) -> list[dict[str, Any]]:
    """List the attempts of a submission that ended without a word, of claims before a number."""
    return [
        attempt
        for attempt in claims.history(run_id)
        if attempt["ended"] is None and attempt["claim"] < before and attempt.get("submission") == submission
    ]


def read_earlier(run_dir: Path) -> float:
    """Read the seconds that attempts which were told to stop have spent; of a death nobody knows."""
    try:
        record = read_record(run_dir)
    except RecordError:
        return 0.0
    if record is None or record.status != "preempted":
        return 0.0
    return float(record.provenance.get("earlier_s", 0.0)) + float(record.provenance.get("wall_s", 0.0))
