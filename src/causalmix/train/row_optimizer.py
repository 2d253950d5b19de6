"""A run's optimiser over its row of a stack: two tensors instead of dozens, and a checkpoint as a run alone has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from causalmix.config import TrainConfig
from causalmix.train.checkpoint import Snapshot, load_checkpoint, take_snapshot
from causalmix.train.loop import make_optimizer
from causalmix.train.stack import Stack

MOMENTS = ("exp_avg", "exp_avg_sq")


class RowOptimizer:
    """AdamW on the weights of one run, each computed as alone.

    Parameters
    ----------
    stack : Stack
    run : int
        Its place in the stack now; what it holds is followed when the stack gets smaller.
    cfg : TrainConfig
    """

    def __init__(self, stack: Stack, run: int, cfg: TrainConfig) -> None:
        self.stack = stack
        self.parameters, self.halves = stack.parameters[run], stack.halves[run]
        self.adamw = make_optimizer(self.halves, cfg)
        self.named = make_optimizer(self.parameters, cfg)  # its state alone is used: checkpoints name every parameter

    def step(self, gradient: torch.Tensor, lr: float) -> None:
        """Change the weights by a gradient of shape (n + m,)."""
        for key, part in self.stack.halve(gradient):
            self.halves[key].grad = part
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()

    def load(self, folder: Path, identity: str) -> dict[str, Any] | None:
        """Restore a run's newest checkpoint; see :func:`~causalmix.train.checkpoint.load_checkpoint`."""
        saved = load_checkpoint(folder, self.parameters, self.named, identity)
        if saved is not None:
            states = [self.named.state[parameter] for parameter in self.parameters.values()]
            rows = {moment: torch.cat([state[moment].flatten() for state in states]) for moment in MOMENTS}
            for moment, row in rows.items():
                for key, part in self.stack.halve(row):
                    self.adamw.state[self.halves[key]] |= {moment: part.clone(), "step": states[0]["step"].clone()}
        return saved

    def take_snapshot(self, state: dict[str, Any]) -> Snapshot:
        """Copy what a checkpoint holds; see :func:`~causalmix.train.checkpoint.take_snapshot`."""
        states = [self.adamw.state[half] for half in self.halves.values()]
        rows = {moment: torch.cat([state[moment].flatten() for state in states]) for moment in MOMENTS}
        parts = {moment: dict(self.stack.name(row)) for moment, row in rows.items()}
        for name, parameter in self.parameters.items():
            moments = {moment: parts[moment][name] for moment in MOMENTS}
            self.named.state[parameter] = {"step": states[0]["step"], **moments}
        return take_snapshot(self.parameters, self.named, state)
