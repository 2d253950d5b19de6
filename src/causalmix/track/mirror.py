"""The Weights & Biases mirror of one run: same names as the runs table, never in the way of the run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from causalmix.config import TrackerConfig

logger = logging.getLogger(__name__)


class Mirror:
    """Mirror one run to W&B; whatever W&B does, the run goes on.

    Parameters
    ----------
    config : TrackerConfig
        Mode (offline, online, disabled), project and entity. The key comes from the environment.
    run_id : str
        W&B id of the run, so that a resumed run is the same W&B run.
    group, cohort : str
        Sweep id and cohort: W&B's group and job type.
    folder : Path
        Where W&B keeps its files.
    """

    def __init__(self, config: TrackerConfig, *, run_id: str, group: str, cohort: str, folder: Path) -> None:
        self.failure: str | None = None
        self._run: Any = None
        if config.mode == "disabled":
            return
        try:
            self._run = _open_run(config, run_id, group, cohort, folder)
        except Exception as error:  # W&B may fail in any way; the record does not depend on it
            self._give_up(error)

    def update_config(self, values: dict[str, Any]) -> None:
        """Add to the run's config: the columns of the runs table that are settings or measured before training."""
        self._attempt(lambda: self._run.config.update(values, allow_val_change=True))

    def log(self, values: dict[str, Any]) -> None:
        """Log one step's metrics."""
        self._attempt(lambda: self._run.log(values))

    def finish(self, summary: dict[str, Any], *, failed: bool = False) -> None:
        """Write the summary and close the W&B run."""
        self._attempt(lambda: self._run.summary.update(summary))
        self._attempt(lambda: self._run.finish(exit_code=int(failed)))

    def _attempt(self, action: Any) -> None:
        if self._run is None:
            return
        try:
            action()
        except Exception as error:  # as above
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.failure = f"{type(error).__name__}: {error}"
        self._run = None
        logger.warning("W&B mirror stopped (%s); the run goes on, its record is the truth", self.failure)


def _open_run(config: TrackerConfig, run_id: str, group: str, cohort: str, folder: Path) -> Any:
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        mode=config.mode,
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        disable_job_creation=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_transaction_log_flush_interval=0.5,  # the default keeps 15 s in memory: a killed run would lose its config
    )
    return wandb.init(
        project=config.project,
        entity=config.entity,
        id=run_id,
        name=run_id,
        group=group,
        job_type=cohort,
        resume="allow" if config.mode == "online" else None,
        dir=str(folder),
        settings=settings,
        reinit="finish_previous",
    )
