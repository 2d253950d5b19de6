"""What both hunts count of a run: lost, done twice, corrupt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from causalmix.errors import RecordError
from causalmix.run.record import Record, read_record
from causalmix.sweep.claims import Claims


@dataclass
class Counts:
    """What came of sweeps under fire; the last three must be zero."""

    runs: int = 0
    kills: int = 0
    complete: int = 0
    attempts: int = 0
    lost: int = 0
    twice: int = 0
    corrupt: int = 0


def count_record(sweep: Path, run_id: str, counts: Counts) -> Record | None:
    """Count what a run's record and claims say; return the record of one that is complete.

    A record is corrupt that is not what was written, or that tells other attempts than the claims do.
    """
    attempts = Claims(sweep / "claims").history(run_id)
    counts.runs += 1
    counts.attempts += len(attempts)
    counts.twice += sum(attempt["ended"] == "complete" for attempt in attempts) > 1
    try:
        record = read_record(sweep / "runs" / run_id)
    except RecordError:
        counts.corrupt += 1
        return None
    if record is None or record.status != "complete":
        counts.lost += 1
        return None
    counts.complete += 1
    claim = record.provenance["claim"]
    told = [{**attempt, "ended": None} if attempt["claim"] == claim else attempt for attempt in attempts[:claim]]
    counts.corrupt += record.provenance["attempts"] != told
    return record
