"""What has been trained so far: counters that a checkpoint carries, and steps whose loss is not read yet.

Reading a loss from a GPU waits for it, so there it is read when it is logged or saved, not every step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from causalmix.train.checks import check_finite

LOSS_WINDOW = 10  # steps behind loss_first and loss_last


@dataclass(frozen=True)
class Entry:
    """One step, still on its device.

    Attributes
    ----------
    step : int
        From 0.
    losses : list of Tensor, shape ()
        Of its passes; they add up to the step's mean.
    norm : Tensor, shape ()
        Of the gradient, before clipping.
    documents : list of int
    """

    step: int
    losses: list[torch.Tensor]
    norm: torch.Tensor
    documents: list[int]


class Ledger:
    """Count steps, tokens and losses.

    Attributes
    ----------
    state : dict
        ``step`` (steps done), ``n_tokens``, ``n_targets``, ``wall_s``, and the losses of the ``first`` and the
        ``last`` ten steps; JSON values.
    loss, norm : float
        Of the last step that was read.
    """

    def __init__(self, state: dict[str, Any] | None) -> None:
        fresh: dict[str, Any] = {"step": 0, "n_tokens": 0, "n_targets": 0, "wall_s": 0.0, "first": [], "last": []}
        self.state: dict[str, Any] = state if state is not None else dict(fresh)
        self.loss = self.norm = float("nan")
        self._started: float = time.perf_counter() - self.state["wall_s"]
        self._unread: list[Entry] = []

    def add(self, entry: Entry, n_tokens: int, n_targets: int) -> None:
        """Count a step that was just done."""
        self.state["step"] = entry.step + 1
        self.state["n_tokens"] += n_tokens
        self.state["n_targets"] += n_targets
        self._unread.append(entry)

    def read(self) -> None:
        """Read all losses that are not read yet.

        Raises
        ------
        TrainError
            For one that is not finite, naming its step's documents.
        """
        for entry in self._unread:
            self.loss, self.norm = sum(loss.item() for loss in entry.losses), entry.norm.item()
            check_finite(entry.step, self.loss, self.norm, entry.documents)
            self.state["first"] = (self.state["first"] + [self.loss])[:LOSS_WINDOW]
            self.state["last"] = (self.state["last"] + [self.loss])[-LOSS_WINDOW:]
        self._unread.clear()
        self.state["wall_s"] = self.wall_s()

    def describe(self, lr: float) -> dict[str, Any]:
        """Return the last step's line of metrics, read."""
        self.read()
        line = {"step": self.state["step"], "loss": self.loss, "lr": lr, "grad_norm": self.norm}
        return line | {"n_tokens": self.state["n_tokens"], "wall_s": self.state["wall_s"]}

    def freeze(self, steps: Any, identity: str) -> dict[str, Any]:
        """Return what a checkpoint says of the training: its counters, read, where its steps stand, whose it is."""
        self.read()
        return {**self.state, "steps": steps, "identity": identity}

    def wall_s(self) -> float:
        """Seconds since the training began, those before an interruption included up to its checkpoint."""
        return time.perf_counter() - self._started
