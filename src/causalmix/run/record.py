"""``record.json``: the truth about a run, written last and in one piece."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from causalmix.errors import OtherVersionError, RecordError
from causalmix.files import read_sealed, seal, write_text

FORMAT = 1
STATUSES = ("complete", "failed", "preempted", "timed_out")


@dataclass(frozen=True)
class Record:
    """What one run was and what came of it.

    Attributes
    ----------
    run_id : str
        Key of the run.
    status : str
        complete, failed, preempted or timed_out.
    cause : str or None
        Why a run that is not complete ended.
    row : dict
        The run's row of the runs table; flat names as ``outcome.math``. Empty unless complete.
    events : list of dict
        What happened, in order, with seconds since the start: shows that the state was measured
        before the mixture was drawn.
    identity : dict
        The settings that the result depends on (the id is their hash).
    provenance : dict
        Where and with what it ran; never part of the identity.
    """

    run_id: str
    status: str
    cause: str | None = None
    row: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    identity: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def write_record(run_dir: Path, record: Record) -> None:
    """Write ``record.json``, atomically; a complete record must hold every outcome as a finite number.

    Raises
    ------
    RecordError
        Where a complete run misses an outcome or one is not finite.
    """
    write_text(run_dir / "record.json", encode_record(record))


def encode_record(record: Record) -> str:
    """Write a record as the text of ``record.json``, after the same checks."""
    check_record(record)
    return json.dumps(seal(asdict(record)), indent=1, allow_nan=False) + "\n"


def check_record(record: Record) -> None:
    """Refuse a record that no reader could use.

    Raises
    ------
    RecordError
    """
    if record.status not in STATUSES:
        raise RecordError(f"run {record.run_id}: status '{record.status}' is not one of {', '.join(STATUSES)}")
    if record.status == "complete":
        check_outcomes(record)


def read_record(run_dir: Path) -> Record | None:
    """Read a run's record.

    Returns
    -------
    Record or None
        None where none was written: the run has not finished.

    Raises
    ------
    RecordError
        Where the file is damaged (to the last bit), belongs to another run or comes from another version.
    """
    path = run_dir / "record.json"
    if not path.exists():
        return None
    try:
        record = Record(**read_sealed(path, FORMAT))
    except TypeError as error:  # keys are missing or unknown
        raise RecordError(f"{path} is no record of this version ({error}); delete it and run again") from error
    if record.run_id != run_dir.name:
        raise RecordError(f"{path} is the record of run {record.run_id}, in the folder of run {run_dir.name}")
    return record


def is_complete(run_dir: Path) -> bool:
    """Tell whether a run needs no more work: its record says complete and every outcome is there.

    Raises
    ------
    OtherVersionError
        Doing such a run again would overwrite what this version cannot read.
    """
    try:
        record = read_record(run_dir)
        if record is None or record.status != "complete":
            return False
        check_outcomes(record)
    except OtherVersionError:
        raise
    except RecordError:
        return False  # a damaged record is redone; `causalmix status` names it
    return True


def check_outcomes(record: Record) -> None:
    """Refuse a complete record that misses an outcome or has one that is no finite number.

    Raises
    ------
    RecordError
    """
    outcomes = {name: value for name, value in record.row.items() if name.startswith("outcome.")}
    if "outcome.avg_dev" not in outcomes:
        raise RecordError(f"run {record.run_id} is called complete but has no outcome.avg_dev")
    wrong = [name for name, value in outcomes.items() if not (isinstance(value, int | float) and math.isfinite(value))]
    if wrong:
        raise RecordError(f"run {record.run_id} has outcomes that are not finite: {', '.join(wrong)}")
