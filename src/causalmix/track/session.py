"""One open W&B run: how it is opened, what goes where in it, and how it ends, each with a limit on the time."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalmix.config import TrackerConfig
from causalmix.table.from_wandb.log import read_log

if TYPE_CHECKING:
    from causalmix.track.mirror import MirroredRun

logger = logging.getLogger(__name__)

SETTINGS = ("run_id", "sweep_id", "cohort", "seed", "replicate", "mixture.", "state.", "design.", "pool.", "model.")
"""Columns, and families of columns, that are W&B's config; the rest of a row is W&B's summary."""

UPLOADED = ".synced"
"""Ending of the mark beside a W&B file that is uploaded; W&B's own, so `wandb sync` knows it too."""

REST_S = 600.0
"""After W&B could not be reached, so long runs of this process go straight to disk and ask nobody."""

_lock = threading.Lock()
_process: dict[str, float] = {}  # when this process first asked W&B, and until when it asks no more


class Session:
    """A W&B run that is open.

    Attributes
    ----------
    failure : str or None
        Why the run is not, or not wholly, at W&B; its files are on disk and ``causalmix sync`` uploads them.
    """

    def __init__(self, run: Any, wait_s: float, *, is_online: bool, failure: str | None = None) -> None:
        self.run = run
        self.wait_s = wait_s
        self.is_online = is_online
        self.failure = failure
        # Metrics of a run that was interrupted come twice; drawn over the training's own steps they coincide.
        run.define_metric("training/step", summary="none")
        run.define_metric("training/*", step_metric="training/step", summary="none")

    def update_config(self, row: Mapping[str, Any]) -> None:
        """Add the settings among a row's columns to W&B's config."""
        self.run.config.update(_select(row, is_setting), allow_val_change=True)

    def log(self, values: Mapping[str, Any]) -> None:
        """Log one step's metrics, in a section of their own: a loop's wall_s is not the run's."""
        self.run.log({f"training/{name}": value for name, value in values.items()})

    def finish(self, row: Mapping[str, Any]) -> None:
        """Write the rest of the row as W&B's summary and close the run."""
        self.update_config(row)
        self.run.summary.update(_select(row, lambda name: not is_setting(name)))
        self.close(int(row["status"] != "complete"))

    def close(self, exit_code: int) -> None:
        """Close the run; what W&B does not take in time stays on disk."""
        file = Path(self.run.settings.sync_file)
        try:
            self.run.finish(exit_code=exit_code)
        except TimeoutError:
            self.failure = "W&B did not take everything in time; `causalmix sync` uploads it"
            _rest()
            return
        # W&B's process writes the last records after it has answered: killed now, the row would be lost to the file.
        if not _wait_until(lambda: _has_end(file), self.wait_s):
            self.failure = f"{file} has no end on disk; `causalmix sync` writes one from the record"
        elif self.is_online:
            mark_uploaded(file)


def _select(row: Mapping[str, Any], is_wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Select columns that have a value: an empty cell is a cell that is not there."""
    return {name: value for name, value in row.items() if value is not None and is_wanted(name)}


def is_setting(column: str) -> bool:
    """Say whether a column of the runs table stands in W&B's config; else it stands in the summary."""
    return any(column.startswith(name) if name.endswith(".") else column == name for name in SETTINGS)


def _has_end(file: Path) -> bool:
    return file.exists() and any(record.WhichOneof("record_type") == "exit" for record in read_log(file))


def _wait_until(condition: Callable[[], bool], wait_s: float) -> bool:
    deadline, pause_s = time.monotonic() + wait_s, 0.01
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s *= 2
    return True


def mark_uploaded(file: Path) -> None:
    """Put the mark beside a W&B file that says that W&B has it."""
    file.with_name(file.name + UPLOADED).touch()


def is_uploaded(file: Path) -> bool:
    """Say whether a W&B file has the mark."""
    return file.with_name(file.name + UPLOADED).exists()


def open_session(config: TrackerConfig, run: MirroredRun) -> Session:
    """Open a W&B run; online, with a few attempts, and on disk alone where they fail.

    Raises
    ------
    Exception
        Whatever W&B raises where it cannot even write to disk.
    """
    if config.mode != "online":
        return Session(_open_run(config, run, "offline", config.wait_s), config.wait_s, is_online=False)
    failure = "W&B did not answer an earlier run of this process"
    if _may_ask():
        _wait_for_turn(config, run.run_id)
        deadline = time.monotonic() + config.wait_s
        for attempt in range(config.attempts):
            if attempt:
                time.sleep(_spread(run.run_id, attempt) * 2.0**attempt)
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            try:
                return Session(_open_run(config, run, "online", left_s), config.wait_s, is_online=True)
            except Exception as error:  # no network, no key, no such entity: all the same to the run
                failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
                _forget_client()
        _rest()
        logger.warning("W&B cannot be reached (%s): runs go to disk, `causalmix sync` uploads them", failure)
    failure = f"not online ({failure}); `causalmix sync` uploads it"
    return Session(_open_run(config, run, "offline", config.wait_s), config.wait_s, is_online=False, failure=failure)


def _may_ask() -> bool:
    with _lock:
        return time.monotonic() >= _process.get("rests_until", 0.0)


def _rest() -> None:
    with _lock:
        _process["rests_until"] = time.monotonic() + REST_S


def _wait_for_turn(config: TrackerConfig, run_id: str) -> None:
    """Spread the first calls of many workers that start together; the run itself does not wait for this."""
    with _lock:
        is_first = "asked_at" not in _process
        _process.setdefault("asked_at", time.monotonic())
    if is_first:
        time.sleep(_spread(run_id, 0) * config.jitter_s)


def _spread(run_id: str, attempt: int) -> float:
    """Return a number in [0, 1) that differs from run to run, and is the same each time."""
    digest = hashlib.sha256(f"{run_id}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32


def _forget_client() -> None:
    """End the client's own process: after a start that failed it holds the run's id and refuses it to the next."""
    import wandb

    wandb.teardown()


def _open_run(config: TrackerConfig, run: MirroredRun, mode: str, wait_s: float) -> Any:
    import wandb

    run.folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        mode=mode,
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        disable_job_creation=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        x_transaction_log_flush_interval=0.5,  # the default keeps 15 s in memory: a killed run would lose its config
        init_timeout=wait_s,
        finish_timeout=config.wait_s,
        finish_timeout_raises=True,
        login_timeout=0.0,  # nobody sits at a worker to be asked for a key
        x_graphql_timeout_seconds=config.wait_s,
        x_graphql_retry_max=2,
        x_graphql_retry_wait_min_seconds=0.5,
        x_graphql_retry_wait_max_seconds=max(0.5, config.wait_s / 4),
    )
    wandb.setup(wandb.Settings(silent=True))  # a log-in speaks before a run's own settings are heard
    return wandb.init(
        project=config.project,
        entity=config.entity,
        id=run.run_id,
        name=run.run_id,
        group=run.group,
        job_type=run.cohort,
        resume="allow",
        dir=str(run.folder),
        settings=settings,
        reinit="create_new",  # a run that W&B holds up must not be finished by the next one
    )
