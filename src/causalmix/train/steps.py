"""What the loop trains on, step after step: a plan made before the first step, or rows chosen as it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from causalmix.config import TrainConfig
from causalmix.train.ranks import Ranks
from causalmix.train.reader import Rows
from causalmix.train.schedule import deal_rows, plan_steps


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    Attributes
    ----------
    passes : list of tuple
        Rows of each forward pass.
    position : int
        How much of the training is behind at its end, in the units of its :class:`Steps`.
    n_real : int
        How many of the passes count, from the first: see :func:`~causalmix.train.schedule.deal_rows`.
    """

    passes: list[Rows]
    position: int
    n_real: int


class Steps(Protocol):
    """Steps of a training, in order.

    Attributes
    ----------
    unit : str
        What is counted: steps of a plan, documents of a run that chooses them as it goes.
    size : int
        How many there are in all. The learning rate follows them.
    needs_losses : bool
        A step can be drawn only after the losses of the one before were observed.
    """

    unit: str
    size: int
    needs_losses: bool

    def draw(self, step: int) -> Step:
        """Return a step, from 0; asked for one after the other until ``size`` is reached."""

    def observe(self, losses: list[float], n_targets: list[int]) -> None:
        """Take the mean loss of each pass of the step, nats a target token, and its targets."""

    def report(self) -> dict[str, float]:
        """Return numbers for the log."""

    def list_seen(self) -> NDArray[np.int64]:
        """Return the documents of all steps, in order, repeats counted."""

    def describe(self) -> Any:
        """Return what tells these steps from others of the same documents, settings and seed, as JSON values."""

    def state(self) -> Any:
        """Return what :meth:`restore` needs beside the number of steps, as JSON values."""

    def restore(self, step: int, state: Any) -> int:
        """Go on after ``step`` steps; return the position."""


class PlannedSteps:
    """Every step's rows, known before the first step, and dealt to the ranks."""

    unit = "step"
    needs_losses = False

    def __init__(
        self,
        lengths: NDArray[np.int64],
        doc_ids: NDArray[np.int64],
        cfg: TrainConfig,
        seed: int,
        n_steps: int | None,
        ranks: Ranks,
    ) -> None:
        self.plan = plan_steps(lengths, doc_ids, cfg, seed, n_steps)
        self.rows_per_pass, self.ranks = cfg.rows_per_pass, ranks
        self.size = len(self.plan)

    def draw(self, step: int) -> Step:
        """Return this rank's rows of a step, in passes."""
        passes, n_real = deal_rows(self.plan[step], self.rows_per_pass, self.ranks)
        return Step(passes, step + 1, n_real)

    def observe(self, losses: list[float], n_targets: list[int]) -> None:
        """Nothing depends on them."""

    def report(self) -> dict[str, float]:
        """Nothing to add."""
        return {}

    def list_seen(self) -> NDArray[np.int64]:
        """Return the documents of all steps."""
        return np.array([document for rows in self.plan for row in rows for document in row], dtype=np.int64)

    def describe(self) -> int:
        """Return how many steps there are."""
        return self.size

    def state(self) -> None:
        """The number of steps says it all."""

    def restore(self, step: int, state: Any) -> int:
        """Go on after ``step`` steps."""
        return step
