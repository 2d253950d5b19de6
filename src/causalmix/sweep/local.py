"""Local execution: a few warm worker processes, fed one run at a time, or several that are trained together."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from causalmix.config import ResourcesConfig
from causalmix.errors import SweepError
from causalmix.run.record import Record, is_complete, write_record
from causalmix.sweep.folder import SweepFolder

WORKER = [sys.executable, "-m", "causalmix.sweep.worker"]
ATTEMPTS = 2  # a run whose worker died is tried once more: the next death is the run's own


STILLBORN = 6  # so many deaths before any run was complete are a broken installation, not a broken run


@dataclass
class Outcome:
    """What a pass over the missing runs came to."""

    complete: list[str]
    failed: dict[str, str]  # run_id -> cause


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    log: IO[str]
    run_ids: list[str] = field(default_factory=list)  # that it has not ended yet
    half_line: bytes = b""
    since: float = 0.0
    limit_s: float = 0.0


class LocalExecutor:
    """Run points in worker processes on this machine.

    Parameters
    ----------
    folder : SweepFolder
    points : Path
        Table of points that the workers read.
    resources : ResourcesConfig
        Number of workers, threads a worker, minutes a run.
    lock : int
        File descriptor of the sweep's lock; workers inherit it.
    """

    def __init__(self, folder: SweepFolder, points: Path, resources: ResourcesConfig, lock: int) -> None:
        self.folder = folder
        self.points = points
        self.resources = resources
        self.lock = lock
        self.pending: deque[list[str]] = deque()
        self.attempts: dict[str, int] = {}
        self.outcome = Outcome([], {})
        self.workers: list[_Worker] = []
        self.selector = selectors.DefaultSelector()
        self.started = 0
        self.deaths = 0

    def run(self, run_ids: list[str], groups: list[list[str]] | None = None) -> Outcome:
        """Execute every run once, with a bar of counts, rate and time left.

        Parameters
        ----------
        run_ids : list of str
        groups : list of list of str, optional
            The same runs, those together that are trained together; None trains each alone.
        """
        self.pending.extend(groups or [[run_id] for run_id in run_ids])
        n_workers = min(count_workers(self.resources), len(self.pending))
        interval_s = 0.5 if sys.stderr.isatty() else 30.0  # a log wants a line now and then
        bar = tqdm(
            total=len(run_ids),
            desc="runs",
            unit="run",
            smoothing=0.1,
            mininterval=interval_s,
            maxinterval=max(10.0, interval_s),
        )
        try:
            for _ in range(n_workers):
                self._start_worker()
            while self._is_busy():
                for key, _ in self.selector.select(timeout=1.0):
                    self._hear(key.data, bar)
                self._stop_overdue(bar)
        finally:
            bar.close()
            self._stop_all()
        return self.outcome

    def _is_busy(self) -> bool:
        return bool(self.pending) or any(worker.run_ids for worker in self.workers)

    def _start_worker(self) -> None:
        logs = self.folder.path / "log"
        logs.mkdir(exist_ok=True)
        log = (logs / f"worker-{os.getpid()}-{self.started}.txt").open("w", encoding="utf-8")
        self.started += 1
        threads = str(self.resources.threads_per_worker)
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            pass_fds=(self.lock,),
        )
        worker = _Worker(process, log)
        self.workers.append(worker)
        assert process.stdout is not None
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        self._tell(
            worker,
            {
                "sweep": str(self.folder.path),
                "sweep_id": self.folder.sweep_id,
                "points": str(self.points),
                "threads": self.resources.threads_per_worker,
            },
        )
        self._give_next(worker)

    def _tell(self, worker: _Worker, order: dict[str, Any]) -> None:
        assert worker.process.stdin is not None
        try:
            worker.process.stdin.write(json.dumps(order) + "\n")
            worker.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; its closed stdout is heard next and tells so

    def _give_next(self, worker: _Worker) -> None:
        worker.run_ids = list(self.pending.popleft()) if self.pending else []
        worker.since = time.monotonic()
        worker.limit_s = self.resources.timeout_min * 60 * len(worker.run_ids)
        for run_id in worker.run_ids:
            self.attempts[run_id] = self.attempts.get(run_id, 0) + 1
        if worker.run_ids:
            self._tell(worker, {"run_ids": worker.run_ids})

    def _hear(self, worker: _Worker, bar: Any) -> None:
        assert worker.process.stdout is not None
        # Not readline: of two answers at once it would keep one that select knows nothing of.
        said = os.read(worker.process.stdout.fileno(), 2**16)
        if not said:
            self._bury(worker, f"its worker died ({_describe_exit(worker.process.wait())})", bar)
            return
        *lines, worker.half_line = (worker.half_line + said).split(b"\n")
        for answer in map(json.loads, lines):
            self._settle(answer["run_id"], answer["status"], answer["cause"], bar)
            worker.run_ids.remove(answer["run_id"])
        if lines and not worker.run_ids:
            self._give_next(worker)

    def _settle(self, run_id: str, status: str, cause: str | None, bar: Any) -> None:
        if status == "complete":
            self.outcome.complete.append(run_id)
        else:
            self.outcome.failed[run_id] = cause or status
        bar.update(1)
        if self.outcome.failed:
            bar.set_postfix_str(f"{len(self.outcome.failed)} failed")

    def _bury(self, worker: _Worker, cause: str, bar: Any, status: str = "failed") -> None:
        """Take a dead worker out; its runs are tried once more, each alone, then recorded as what they were."""
        assert worker.process.stdout is not None
        self.selector.unregister(worker.process.stdout)
        self.workers.remove(worker)
        _close(worker)
        self.deaths += 1
        if self.deaths >= STILLBORN and not self.outcome.complete:
            raise SweepError(
                f"{self.deaths} workers died and no run ended: the last one, {cause}. "
                f"Nothing is lost; what they said stands in {worker.log.name}"
            )
        for run_id in reversed(worker.run_ids):
            run_dir = self.folder.run_dir(run_id)
            if is_complete(run_dir):  # it died between its record and its answer
                self._settle(run_id, "complete", None, bar)
            elif self.attempts[run_id] < ATTEMPTS and (status == "failed" or len(worker.run_ids) > 1):
                self.pending.appendleft([run_id])
            else:
                write_record(run_dir, Record(run_id=run_id, status=status, cause=f"{cause}; see {worker.log.name}"))
                self._settle(run_id, status, cause, bar)
        if self.pending:
            self._start_worker()

    def _stop_overdue(self, bar: Any) -> None:
        for worker in list(self.workers):
            if worker.run_ids and time.monotonic() - worker.since > worker.limit_s:
                worker.process.kill()
                worker.process.wait()
                cause = f"longer than resources.timeout_min={self.resources.timeout_min}"
                self._bury(worker, cause, bar, status="timed_out")

    def _stop_all(self) -> None:
        for worker in self.workers:
            _close(worker)
        self.workers.clear()
        self.selector.close()


def count_workers(resources: ResourcesConfig) -> int:
    """Count the processes that this machine has for runs."""
    return resources.n_workers or os.cpu_count() or 1


def _close(worker: _Worker) -> None:
    assert worker.process.stdin is not None
    assert worker.process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        worker.process.stdin.close()  # the worker exits when it sees this
    try:
        worker.process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.wait()
    worker.process.stdout.close()
    worker.log.close()


def _describe_exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
