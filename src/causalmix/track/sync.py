"""Uploading what a sweep's runs left on disk: each run once, in small bites, and never more than a record says."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from causalmix.errors import CausalMixError, RecordError, TrackerError
from causalmix.table.from_wandb.files import WandbFile, find_wandb_files, merge_files, read_wandb_files
from causalmix.table.from_wandb.log import cut_torn_tail
from causalmix.table.records import read_row
from causalmix.track.mirror import Mirror, MirroredRun
from causalmix.track.project import read_tracker
from causalmix.track.session import is_uploaded
from causalmix.track.upload import Upload, upload_files


@dataclass
class SyncReport:
    """What an upload did.

    Attributes
    ----------
    uploaded : list of str
        Runs of which something new is at W&B now.
    already : int
        Runs of which everything was there before.
    mended : list of str
        Runs whose W&B files lacked, or contradicted, part of their record: written anew from the record.
    waiting : list of str
        Runs that go on, or were killed and have no record: the next call looks at them again.
    failed : dict of str to str
        Runs that did not arrive, and why.
    """

    uploaded: list[str] = field(default_factory=list)
    already: int = 0
    mended: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        return asdict(self)

    def render(self, sweep: Path) -> str:
        """Write the report for a reader."""
        lines = [f"{sweep}: {len(self.uploaded)} runs uploaded, {self.already} were at W&B already"]
        if self.mended:
            lines.append(f"  {len(self.mended)} of them written from their records: their W&B files had lost something")
        if self.waiting:
            lines.append(f"  {len(self.waiting)} not over, or killed: uploaded by the next sync after they end")
        causes: dict[str, list[str]] = {}
        for run_id, cause in self.failed.items():
            causes.setdefault(cause, []).append(run_id)
        lines += [f"  {len(runs)} failed ({runs[0]} ...): {cause}" for cause, runs in causes.items()]
        return "\n".join(lines)


def sync_sweep(sweep: Path, how: Upload | None = None) -> SyncReport:
    """Upload what a sweep's runs have not brought to W&B; typed twice, the second call uploads nothing.

    A complete run whose W&B files lack part of its record (killed before the last records reached the
    disk, a tracker that failed or was disabled) gets a file that is written from the record first.
    A mark beside each file says that it arrived.

    Parameters
    ----------
    sweep : Path
        A sweep folder.
    how : Upload, optional
        Rate, sizes, limits.

    Returns
    -------
    SyncReport

    Raises
    ------
    TrackerError
        No sweep folder, or another sync works on it.
    """
    from tqdm import tqdm

    if not (sweep / "runs").is_dir():
        raise TrackerError(f"{sweep}: no sweep folder, for it has no folder 'runs'.")
    with _hold(sweep):
        report, pending = SyncReport(), {}
        run_dirs = sorted(path for path in (sweep / "runs").iterdir() if path.is_dir())
        for run_dir in tqdm(run_dirs, desc="W&B files against records", unit="run", disable=None):
            try:
                files = _choose_files(run_dir, report)
            except CausalMixError as error:
                report.failed[run_dir.name] = str(error)
                continue
            if files:
                pending[run_dir.name] = files
        arrived, failed = upload_files(pending, how or Upload())
        report.uploaded += arrived
        report.failed |= failed
        return report


def _choose_files(run_dir: Path, report: SyncReport) -> list[Path]:
    """Return the files of a run that are to be uploaded, oldest first; note in the report why there are none."""
    files = _read_files(run_dir)
    try:
        row = read_row(run_dir)
    except RecordError:
        row = None
    if row is not None and not _says(files, row):
        _write_from_record(run_dir, row, is_first=not files)
        report.mended.append(run_dir.name)
        files = _read_files(run_dir)
    if row is None and not (files and files[-1].has_end):
        report.waiting.append(run_dir.name)
        return []
    marks = [is_uploaded(file.path) for file in files]
    newest = max((i for i, mark in enumerate(marks) if mark), default=-1)
    pending = [file.path for file in files[newest + 1 :]]  # what is older than an uploaded file is superseded by it
    for file in files[newest + 1 :]:
        if not file.has_end:
            cut_torn_tail(file.path)  # its writer is dead: there is a record, or a later file
    report.already += not pending
    return pending


def _read_files(run_dir: Path) -> list[WandbFile]:
    files = read_wandb_files(find_wandb_files(run_dir / "log"))
    return [file for file in files if file.run.name == run_dir.name]


def _says(files: list[WandbFile], row: dict[str, Any]) -> bool:
    """Say whether W&B's files hold a row, to the last digit."""
    held = [run.to_row(known=False) for run in merge_files(files)]
    return bool(held) and all(held[0].get(name) == value for name, value in row.items() if value is not None)


def _write_from_record(run_dir: Path, row: dict[str, Any], *, is_first: bool) -> None:
    """Write a W&B file from a run's record; its metrics too, where no other file has them."""
    run = MirroredRun(run_dir.name, str(row.get("sweep_id", "")), str(row.get("cohort", "")), run_dir / "log")
    mirror = Mirror(read_tracker(run_dir), run)
    if is_first:
        for line in _read_lines(run_dir / "metrics.jsonl"):
            mirror.log(line)
    mirror.finish(row, "complete")
    if mirror.failure:
        raise TrackerError(f"no W&B file can be written from the record ({mirror.failure})")


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):  # the last line of a killed process
            yield json.loads(line)


@contextlib.contextmanager
def _hold(sweep: Path) -> Iterator[None]:
    """Keep a second sync of this machine away, which would upload the same runs."""
    with (sweep / "sync.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrackerError(f"{sweep}: another sync works on it; wait for it.") from None
        except OSError:  # file systems without locks: twice uploaded is the same run all the same
            pass
        yield
