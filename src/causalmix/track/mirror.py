"""The Weights & Biases mirror of one run: same names as the runs table, never in the way of the run."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalmix.config import TrackerConfig
from causalmix.track.session import Session, open_session

logger = logging.getLogger(__name__)

GRACE_S = 3.0

Action = Callable[[Session], None]


@dataclass(frozen=True)
class MirroredRun:
    """What W&B is told about a run.

    Attributes
    ----------
    run_id : str
        W&B's id and name of the run: a run that is resumed, or done again, is the same W&B run.
    group, cohort : str
        Sweep id and cohort: W&B's group and job type.
    folder : Path
        Where W&B keeps its files.
    """

    run_id: str
    group: str
    cohort: str
    folder: Path


class Mirror:
    """Mirror one run to W&B; whatever W&B does, the run goes on.

    Everything that touches W&B happens in a thread of the mirror's own: the run only leaves messages.
    So a server that hangs costs a run nothing while it works, and at its end at most ``2 * wait_s`` for a
    start and an upload that W&B both drags out (and ``jitter_s``, where the run is over before its turn to
    start came, and ``GRACE_S`` for a client that does not keep to its limits).

    Parameters
    ----------
    config : TrackerConfig
        Mode (offline, online, disabled), project, entity, limits. The key comes from the environment.
    run : MirroredRun
    """

    def __init__(self, config: TrackerConfig, run: MirroredRun) -> None:
        self.failure: str | None = None
        self.config = config
        self.run = run
        self._messages: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if config.mode != "disabled":
            self._thread = threading.Thread(target=self._work, name=f"mirror-{run.run_id}", daemon=True)
            self._thread.start()

    def update_config(self, row: Mapping[str, Any]) -> None:
        """Mirror the settings among a row's columns: what was chosen or measured before training."""
        values = dict(row)
        self._leave(lambda session: session.update_config(values))

    def log(self, values: Mapping[str, Any]) -> None:
        """Mirror one step's metrics."""
        metrics = dict(values)
        self._leave(lambda session: session.log(metrics))

    def finish(self, row: Mapping[str, Any], status: str, cause: str | None = None) -> None:
        """Mirror the row and how the run ended, and close the W&B run; waits a bounded time.

        Parameters
        ----------
        row : mapping
            The run's row of the runs table; empty where the run is not complete.
        status, cause : str
            As in the record.
        """
        ending = {**row, "status": status, **({"cause": cause} if cause else {})}
        self._end(lambda session: session.finish(ending))

    def abandon(self) -> None:
        """Close the W&B run without a word on how it ended: another worker has it now, and says that."""
        self._end(lambda session: session.close(1))

    def _end(self, action: Action) -> None:
        self._leave(action)
        if self._thread is None:
            return
        self._messages.put(None)
        limit_s = self.config.jitter_s + 2 * self.config.wait_s + GRACE_S
        self._thread.join(limit_s)
        if self._thread.is_alive():
            self._give_up(TimeoutError(f"W&B did not come back within {limit_s:g} s"))

    def _leave(self, action: Action) -> None:
        if self._thread is not None:
            self._messages.put(action)

    def _work(self) -> None:
        try:
            session = open_session(self.config, self.run)
            while (action := self._messages.get()) is not None:
                action(session)
            self.failure = session.failure
        except Exception as error:  # W&B may fail in any way; the record does not depend on it
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.failure = f"{type(error).__name__}: {error}"
        logger.warning("W&B mirror stopped (%s); the run goes on, its record is the truth", self.failure)
