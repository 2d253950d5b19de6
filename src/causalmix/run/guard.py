"""What a worker lets a run know from outside: when to stop, and how its record becomes the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.config import TrainConfig
from causalmix.run.record import Record, write_record


def never() -> bool:
    """Tell a run to go on."""
    return False


def tell_nobody(documents: NDArray[np.int64]) -> None:
    """Train alone."""


def no_facts() -> dict[str, Any]:
    """Add nothing to a record."""
    return {}


@dataclass(frozen=True)
class Guard:
    """A run's ties to its worker; the default has none.

    Attributes
    ----------
    should_stop : callable
        Asked between optimiser steps. True: write a checkpoint and end as preempted. What it raises ends the run
        without a record.
    publish : callable
        Makes a record the record of the folder; may raise where the run belongs to another worker by now.
    describe : callable
        Facts for the record's provenance, asked at its end.
    can_resume : bool
        Keep what is needed to go on from a checkpoint.
    announce : callable
        Told the documents of the run, in order, before it is trained: other ranks train them too.
    """

    should_stop: Callable[[], bool] = never
    publish: Callable[[Path, Record], None] = write_record
    describe: Callable[[], dict[str, Any]] = field(default=no_facts)
    can_resume: bool = False
    announce: Callable[[NDArray[np.int64]], None] = tell_nobody

    def find_checkpoints(self, train: TrainConfig, run_dir: Path) -> Path | None:
        """Name the folder of a run's checkpoints; None where it keeps none."""
        return run_dir / "checkpoint" if train.checkpoint_every or self.can_resume else None
