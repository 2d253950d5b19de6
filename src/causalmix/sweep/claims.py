"""Who works on a run: claims with a lease, a heartbeat and a fencing ticket, on a shared folder without locks.

``<sweep>/claims/<run_id>/`` holds for the n-th claim of a run:

- ``<n>.json``, who and when. It is made by link(2), which exactly one contender wins, and never removed: n only grows.
- ``ticket-<unique>``, which the holder fills and renames to ``record.json`` when it is done. Who takes the claim n + 1
  removes the tickets of all claims before it first; the file server lets either that or the rename happen. So a holder
  that slept through its lease can compute what it likes, it has nothing left to publish with.
- ``<n>.beat``, a number that the holder raises while it lives.
- ``<n>.end``, how it ended, where it had the time to say so.

A lease is over when the beat has stood still for ``lease_s`` by the watcher's own clock: clocks of machines are never
compared, and times of files are not looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from causalmix.errors import LostClaimError, SweepError
from causalmix.files import NO_SPACE, DiskFullError, sync
from causalmix.sweep.processes import Process, describe_process, is_gone


@dataclass
class Claim:
    """The right to publish one run's record, once."""

    run_id: str
    number: int
    folder: Path
    ticket: Path
    beats: int = 0

    def beat(self) -> None:
        """Show that the holder lives.

        Raises
        ------
        LostClaimError
        OSError
            Where the folder cannot be written for now; the lease runs on.
        """
        self.check()
        self.beats += 1
        (self.folder / f"{self.number}.beat").write_text(f"{self.beats}\n")

    def check(self) -> None:
        """Make sure that nobody has taken the run over; opening asks the file server, where a stat may be cached."""
        try:
            os.close(os.open(self.ticket, os.O_RDONLY))
        except FileNotFoundError:
            raise LostClaimError(f"run {self.run_id}: claim {self.number} was taken over") from None

    def publish(self, path: Path, text: str) -> None:
        """Make ``text`` the content of ``path`` in one step; works once.

        Raises
        ------
        LostClaimError
            Where a newer claim exists: ``path`` stays as it is.
        DiskFullError
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode()
        try:
            with self.ticket.open("r+b") as handle:
                handle.write(data)
                handle.truncate()
                handle.flush()
                os.fsync(handle.fileno())
            self.ticket.rename(path)
        except FileNotFoundError:
            # a network file system may repeat a rename whose answer was lost: then it did happen
            if not (path.exists() and path.read_bytes() == data):
                raise LostClaimError(f"run {self.run_id}: claim {self.number} was taken over") from None
        except OSError as error:
            if error.errno in NO_SPACE:
                raise DiskFullError(f"no space left ({error.strerror}) while writing {path}") from error
            raise
        sync(path.parent)

    def end(self, how: str) -> None:
        """Let go, saying how it ended, so that nobody has to wait for the lease."""
        with contextlib.suppress(OSError):
            _write_beside(self.folder / f"{self.number}.end", how)
        self.ticket.unlink(missing_ok=True)


@dataclass
class Claims:
    """The claims of a sweep, as one worker sees them.

    Attributes
    ----------
    root : Path
        ``<sweep>/claims``.
    owner : dict
        What a claim says about its holder beside the process: job, submission.
    lease_s : float
        Seconds without a heartbeat after which a holder counts as dead.
    clock : callable
        Seconds that never jump.
    """

    root: Path
    owner: dict[str, Any] = field(default_factory=dict)
    lease_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    process: Process = field(default_factory=describe_process)
    watched: dict[tuple[str, int], tuple[str, float]] = field(default_factory=dict)
    alive: set[tuple[str, int]] = field(default_factory=set)  # claims whose beat was seen to move

    def take(self, run_id: str) -> Claim | None:
        """Claim a run; None where another one holds it.

        Whoever gets a claim must look at the record once more: it may have been published just before.
        """
        folder = self.folder_of(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = list_numbers(folder)
        last = numbers[-1] if numbers else 0
        if last and not self.is_over(run_id, last):
            return None
        claim = self._win(run_id, folder, last + 1)
        if claim is not None:
            for number in range(1, last + 1):  # all: the holder of the last one may have died before it did this
                remove_ticket(folder, number)
        return claim

    def is_over(self, run_id: str, number: int) -> bool:
        """Tell whether a claim has ended, or its holder has not shown life for the whole lease."""
        folder = self.folder_of(run_id)
        content = read_claim(folder, number)
        if (folder / f"{number}.end").exists() or not has_ticket(folder, content):
            return True
        if content and is_gone(content["process"], self.process):
            return True
        try:
            beat = (folder / f"{number}.beat").read_text()
        except OSError:
            beat = ""
        key = (run_id, number)
        seen, since = self.watched.get(key, (None, 0.0))
        if seen != beat:
            if seen is not None:
                self.alive.add(key)
            self.watched[key] = (beat, self.clock())
            return False
        return self.clock() - since > self.lease_s

    def is_seen_alive(self, run_id: str) -> bool:
        """Tell whether the newest claim of a run was seen to beat: then there is no point in waiting for it."""
        numbers = list_numbers(self.folder_of(run_id))
        return bool(numbers) and (run_id, numbers[-1]) in self.alive

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """Tell every attempt: claim, when, where, and how it ended (None: no word of it)."""
        folder = self.folder_of(run_id)
        attempts = []
        for number in list_numbers(folder):
            content = read_claim(folder, number) or {}
            end = folder / f"{number}.end"
            attempts.append(
                {
                    "claim": number,
                    "started_at": content.get("started_at"),
                    "host": content.get("process", {}).get("host"),
                    **content.get("owner", {}),
                    "ended": end.read_text() if end.exists() else None,
                }
            )
        return attempts

    def folder_of(self, run_id: str) -> Path:
        """Folder of a run's claims."""
        if not run_id.isalnum():
            raise SweepError(f"'{run_id}' is not a run id: letters and digits only")
        return self.root / run_id

    def _win(self, run_id: str, folder: Path, number: int) -> Claim | None:
        ticket = folder / f"ticket-{uuid.uuid4().hex}"
        ticket.touch(exist_ok=False)  # before the claim: who sees a claim finds its ticket
        content = {
            "ticket": ticket.name,
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "lease_s": self.lease_s,
            "process": self.process,
            "owner": self.owner,
        }
        temporary = folder / f".{ticket.name}.tmp"
        path = folder / f"{number}.json"
        won = False
        try:
            with temporary.open("w", encoding="utf-8") as handle:
                handle.write(json.dumps(content))
                handle.flush()
                os.fsync(handle.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            won = temporary.stat().st_nlink == 2  # the count tells, also where link's answer was lost on its way
        finally:
            temporary.unlink(missing_ok=True)
            if not won:
                ticket.unlink(missing_ok=True)
        return Claim(run_id, number, folder, ticket) if won else None


def list_numbers(folder: Path) -> list[int]:
    """List the claims of a run, oldest first."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit())


def read_claim(folder: Path, number: int) -> dict[str, Any] | None:
    """Read a claim; None where its bytes are damaged, which costs the run no more than this claim's lease."""
    try:
        content = json.loads((folder / f"{number}.json").read_bytes())
        ticket, process, owner = content["ticket"], content["process"], content["owner"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    whole = isinstance(process, dict) and isinstance(owner, dict) and isinstance(ticket, str) and "/" not in ticket
    return dict(content) if whole and ticket.startswith("ticket-") else None


def has_ticket(folder: Path, content: dict[str, Any] | None) -> bool:
    """Tell whether a claim can still publish; of a damaged one nobody knows which ticket is its own."""
    if content is None:
        return any(folder.glob("ticket-*"))
    ticket: str = content["ticket"]
    return (folder / ticket).exists()


def remove_ticket(folder: Path, number: int) -> None:
    """Take away a claim's right to publish; for a damaged claim, that of every ticket nobody is known to hold."""
    content = read_claim(folder, number)
    if content is not None:
        (folder / content["ticket"]).unlink(missing_ok=True)
        return
    known = {claim["ticket"] for n in list_numbers(folder) if (claim := read_claim(folder, n))}
    for ticket in folder.glob("ticket-*"):
        if ticket.name not in known:
            ticket.unlink(missing_ok=True)


def _write_beside(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
