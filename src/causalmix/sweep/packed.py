"""A worker on a cluster: one warm process that claims runs of its submission until none is left.

It is told to stop by SIGTERM or SIGUSR1 (preemption, the end of its time): the run in flight writes a checkpoint
and a record that says so, and the exit status asks the batch script to queue the task again.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from causalmix.config import ResourcesConfig
from causalmix.errors import CausalMixError, LostClaimError, RecordError, RunTimedOutError, SweepError
from causalmix.run.guard import Guard
from causalmix.run.record import Record, encode_record, is_complete, read_record
from causalmix.sweep.attempts import list_deaths, read_earlier
from causalmix.sweep.claims import Claim, Claims
from causalmix.sweep.company import try_group
from causalmix.sweep.crew import Crew, join_crew
from causalmix.sweep.folder import SweepFolder, read_points
from causalmix.sweep.groups import form_groups
from causalmix.sweep.heart import BEATS_A_LEASE, Heart
from causalmix.sweep.jobs import Submission, read_submission
from causalmix.sweep.place import Place, take_gpu
from causalmix.sweep.script import DISTURBED, STOPPED, count_workers
from causalmix.sweep.slurm import clean_environment

if TYPE_CHECKING:
    from causalmix.run.proxy import Point

GOLDEN = 0.6180339887498949


@dataclass
class Shift:
    """One worker's time on a submission."""

    folder: SweepFolder
    submission: Submission
    entries: dict[str, dict[str, Any]]
    place: Place
    told: bool = False  # to stop
    crew: Crew | None = None  # the ranks that train each run together
    settled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.lease_s = float(self.submission.resources["lease_s"])
        owner = {"job": self.place.job, "restart": self.place.restart, "submission": self.submission.name}
        self.claims = Claims(self.folder.path / "claims", owner, self.lease_s)
        self.workshop: Any = None

    def work(self) -> int:
        """Claim and do runs until every run has ended or is in living hands; return the exit status."""
        order = self.order_runs()
        while True:
            held = []
            for group in form_groups(order, self.entries, self.count_workers()):
                if self.told:
                    break
                held += try_group(self, group)
            if self.told:
                return 0 if self.is_all_settled(order) else STOPPED
            # A holder that is seen to live keeps its run; one that is silent is watched for as long as a lease.
            order = [run_id for run_id in held if not self.claims.is_seen_alive(run_id)]
            if not order:
                return 0
            time.sleep(self.lease_s / BEATS_A_LEASE)

    def order_runs(self) -> list[str]:
        """Start every worker at another run, so that they seldom ask for the same one."""
        run_ids = list(self.entries)
        n_workers = count_workers(ResourcesConfig(**self.submission.resources))
        worker = self.place.task * n_workers + (self.place.local if n_workers > 1 else 0)
        first = worker * len(run_ids) // max(1, self.count_workers()) % len(run_ids)
        return run_ids[first:] + run_ids[:first]

    def count_workers(self) -> int:
        """Count the workers of all tasks."""
        n_tasks: int = sum(array["n_tasks"] for array in self.submission.arrays)
        return n_tasks * count_workers(ResourcesConfig(**self.submission.resources))

    def is_all_settled(self, run_ids: list[str]) -> bool:
        """Tell whether nothing is left to come back for."""
        return all(self.is_settled(run_id) for run_id in run_ids)

    def is_settled(self, run_id: str) -> bool:
        """Tell whether a run is complete, or has failed in this very submission."""
        if run_id in self.settled:
            return True
        run_dir = self.folder.run_dir(run_id)
        if not is_complete(run_dir):
            try:
                record = read_record(run_dir)
            except RecordError:
                return False  # damaged: done again
            if record is None or record.status not in ("failed", "timed_out"):
                return False
            if record.provenance.get("submission") != self.submission.name:
                return False
        self.settled.add(run_id)
        return True

    def try_run(self, run_id: str) -> bool:
        """Do a run if nobody else does; False where another worker holds it."""
        if self.is_settled(run_id):
            return True
        claim = self.claims.take(run_id)
        if claim is None:
            return False
        if self.is_settled(run_id):  # published between the look and the claim
            claim.end("settled before")
            return True
        try:
            with Heart(claim, self.lease_s) as heart:
                record = self.do_run(run_id, claim, heart)
        except LostClaimError as error:
            self.drop(error)
            return False
        except BaseException as error:
            claim.end(f"{type(error).__name__}: {error}")
            raise
        self.end(claim, record)
        return True

    def end(self, claim: Claim, record: Record) -> None:
        """Say how a run ended."""
        claim.end(record.status)
        say(f"run {claim.run_id}: {record.status}{f' ({record.cause})' if record.cause else ''}")

    def drop(self, error: LostClaimError) -> None:
        """Say that another worker has the run."""
        say(f"{error}; its work is dropped")

    def do_run(self, run_id: str, claim: Claim, heart: Heart) -> Record:
        """Do a claimed run, or give it up where too many workers died of it."""
        deaths = list_deaths(self.claims, run_id, self.submission.name, claim.number)
        if len(deaths) >= self.submission.resources["max_deaths"]:
            where = ", ".join(str(attempt.get("job")) for attempt in deaths)
            cause = f"its worker died {len(deaths)} times without a word (tasks {where}); too little memory?"
            record = Record(run_id=run_id, status="failed", cause=cause, provenance=self.describe(run_id, claim))
            self.publish(claim, self.folder.run_dir(run_id), record)
            return record
        return self.execute(run_id, self.make_guard(run_id, claim, heart))

    def make_guard(self, run_id: str, claim: Claim, heart: Heart, n_runs: int = 1) -> Guard:
        """Tie a run to its claim; ``n_runs`` that are trained together have their time together."""
        started = time.monotonic()
        limit_min = self.submission.resources["timeout_min"] * n_runs

        def should_stop() -> bool:
            heart.check()
            if time.monotonic() - started > limit_min * 60:
                raise RunTimedOutError(f"longer than resources.timeout_min={limit_min / n_runs:g}{of_each}")
            return self.told

        of_each = f" for each of {n_runs} runs together" if n_runs > 1 else ""
        earlier_s = read_earlier(self.folder.run_dir(run_id))

        def describe() -> dict[str, Any]:
            return {**self.describe(run_id, claim), "earlier_s": earlier_s}

        return Guard(should_stop, partial(self.publish, claim), describe, can_resume=True)

    def execute(self, run_id: str, guard: Guard) -> Record:
        """Train and evaluate one run."""
        from causalmix.run.proxy import run_proxy

        point = self.make_point(run_id)
        guard = self.crew.lead(run_id, guard) if self.crew else guard
        status = ""
        try:
            record = run_proxy(point, self.folder.run_dir(run_id), self.workshop, guard)
            status = record.status
            return record
        finally:
            if self.crew and self.crew.announced == run_id and status != "complete":
                self.told = True  # the crew is dissolved

    def make_point(self, run_id: str) -> Point:
        """Restore a run from the table of points; the first one makes the workshop."""
        from causalmix.run.workshop import Workshop
        from causalmix.sweep.worker import make_point

        if self.workshop is None:
            import torch

            torch.set_num_threads(int(self.submission.resources["threads_per_worker"]))
            self.workshop = Workshop()
        return make_point(self.entries[run_id], self.folder.sweep_id)

    def publish(self, claim: Claim, run_dir: Path, record: Record) -> None:
        """Make a record the record, unless the claim was lost."""
        claim.publish(run_dir / "record.json", encode_record(record))

    def describe(self, run_id: str, claim: Claim) -> dict[str, Any]:
        """Tell who did a run, and every attempt at it."""
        return {
            "submission": self.submission.name,
            "job": self.place.job,
            "claim": claim.number,
            "attempts": self.claims.history(run_id),
        }


def main() -> int:
    """Work for ``<sweep> <submission> <table of points>``."""
    place = Place.from_environment(dict(os.environ))
    for key in set(os.environ) - set(clean_environment(os.environ)):
        del os.environ[key]  # libraries that see SLURM's variables think themselves distributed
    take_gpu(place.local)
    sweep, name, points = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    try:
        if not sweep.is_dir():
            raise SweepError(f"{sweep} is not there on {platform.node()}: it must be shared (see `causalmix doctor`)")
        submission = read_submission(sweep / "jobs" / f"{name}.json")
        entries = read_points(sweep / "points" / points)
        shift = Shift(SweepFolder(sweep, submission.sweep_id), submission, entries, place)
        hear_signals(shift)
        time.sleep(place.task * GOLDEN % 1 * submission.jitter_s)  # evenly spread, the same every time
        shift.crew = join_crew(submission.resources, place.rank, place.n_ranks)
        if shift.crew is None:
            return shift.work()
        if not shift.crew.ranks.is_first:
            return shift.crew.follow(shift)
        status = shift.work()
        if shift.told:  # perhaps in the middle of a step: the others end with this one
            return STOPPED
        shift.crew.dismiss()
        return status
    except CausalMixError as error:
        say(f"error: {error}")
        return error.exit_status
    except OSError as error:  # of the file system; what was in flight is not recorded, so it is done again
        say(f"error: {error}")
        return DISTURBED


def hear_signals(shift: Shift) -> None:
    """Let SIGTERM and SIGUSR1 tell the worker to stop after the step it is in."""

    def tell(number: int, frame: FrameType | None) -> None:
        shift.told = True

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, tell)


def say(text: str) -> None:
    """Print a line into the task's log."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
