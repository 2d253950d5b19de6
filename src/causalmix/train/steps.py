"""What the loop trains on, step after step: a plan made before the first step, or rows chosen as it goes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from causalmix.config import TrainConfig
from causalmix.train.reader import Rows
from causalmix.train.schedule import plan_steps, split_rows


class Steps(Protocol):
    """Steps of a training, in order.

    Attributes
    ----------
    unit : str
        What is counted: steps of a plan, documents of a run that chooses them as it goes.
    size, position : int
        How many there are in all, and up to the end of the current step. The learning rate follows them.
    """

    unit: str
    size: int
    position: int

    def next_passes(self) -> list[Rows]:
        """Return the forward passes of the next step; none at the end."""

    def observe(self, losses: list[float], n_targets: list[int]) -> None:
        """Take the mean loss of each pass of the step, nats a target token, and its targets."""

    def report(self) -> dict[str, float]:
        """Return numbers for the log."""

    def list_seen(self) -> NDArray[np.int64]:
        """Return the documents of all steps so far, in order, repeats counted."""

    def describe(self) -> Any:
        """Return what tells its steps from others of the same documents, settings and seed, as JSON values."""

    def state(self) -> Any:
        """Return what :meth:`restore` needs beside the step, as JSON values."""

    def restore(self, step: int, state: Any) -> None:
        """Go on after ``step`` steps."""


class PlannedSteps:
    """Every step's rows, known before the first step."""

    unit = "step"

    def __init__(
        self, lengths: NDArray[np.int64], doc_ids: NDArray[np.int64], cfg: TrainConfig, seed: int, n_steps: int | None
    ) -> None:
        self.plan = plan_steps(lengths, doc_ids, cfg, seed, n_steps)
        self.rows_per_pass = cfg.rows_per_pass
        self.size = len(self.plan)
        self.position = 0

    def next_passes(self) -> list[Rows]:
        """Return the next step's rows, in passes."""
        if self.position == self.size:
            return []
        self.position += 1
        return split_rows(self.plan[self.position - 1], self.rows_per_pass)

    def observe(self, losses: list[float], n_targets: list[int]) -> None:
        """Nothing depends on them."""

    def report(self) -> dict[str, float]:
        """Nothing to add."""
        return {}

    def list_seen(self) -> NDArray[np.int64]:
        """Return the documents of the steps so far."""
        seen = [document for rows in self.plan[: self.position] for row in rows for document in row]
        return np.array(seen, dtype=np.int64)

    def describe(self) -> int:
        """Return how many steps there are."""
        return self.size

    def state(self) -> None:
        """The step says it all."""

    def restore(self, step: int, state: Any) -> None:
        """Go on after ``step`` steps."""
        self.position = step
