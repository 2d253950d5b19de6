"""What is known of one run: its record, every attempt at it, the ends of its logs."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path

from causalmix.errors import RecordError, SweepError, name_some
from causalmix.run.record import read_record
from causalmix.sweep.claims import Claims

LOG_LINES = 3  # shown of each group of failures


def find_run(run: str, outputs: Path) -> Path:
    """Find a run's folder by its path, or by its id or the beginning of it.

    Raises
    ------
    SweepError
        Where there is none, or more than one.
    """
    path = Path(run)
    if path.is_dir() and path.parent.name == "runs":
        return path
    if not run.isalnum():
        raise SweepError(f"'{run}' is neither a run's folder (SWEEP/runs/ID) nor a run's id")
    found = sorted(folder for folder in outputs.glob(f"sweeps/*/runs/{run}*") if folder.is_dir())
    if len(found) != 1:
        where = name_some(found) if found else "none"
        raise SweepError(f"{len(found)} runs under {outputs} begin with '{run}' ({where}); give one run's folder or id")
    return found[0]


def describe_run(run_dir: Path, n_lines: int) -> str:
    """Describe a run for a reader."""
    sweep = run_dir.parent.parent
    attempts = Claims(sweep / "claims").history(run_dir.name)
    try:
        record = read_record(run_dir)
        said = f"{record.status}{f': {record.cause}' if record.cause else ''}" if record else "no record yet"
    except RecordError as error:
        said = str(error)
    lines = [f"{run_dir}: {said}"]
    for attempt in attempts:
        lines.append(
            f"  attempt {attempt['claim']}: since {attempt['started_at']}, host {attempt['host']}, "
            f"task {attempt.get('job', 'none')}: {attempt['ended'] or 'no word of its end'}"
        )
    for log in list_logs(run_dir):
        lines += ["", f"--- {log}", *read_end(log, n_lines)]
    return "\n".join(lines)


def list_logs(run_dir: Path) -> list[Path]:
    """List the logs of a run's last attempt: its own words on its failure first, then its task's."""
    sweep = run_dir.parent.parent
    logs = [run_dir / "log" / "failure.txt", run_dir / "log" / "tracker.txt"]
    attempts = Claims(sweep / "claims").history(run_dir.name)
    job = str(attempts[-1].get("job", "")) if attempts else ""
    if re.fullmatch(r"\w+", job):  # it stands in a file: never a path
        logs += sorted((sweep / "log").glob(f"*-{job}.txt"))
    return [log for log in logs if log.is_file()]


def read_end(path: Path, n_lines: int) -> list[str]:
    """Read the last lines of a text file."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=n_lines)]
