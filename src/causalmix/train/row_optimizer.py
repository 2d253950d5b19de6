"""AdamW over a row of weights: two tensors instead of dozens, and a checkpoint as of parameters one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from causalmix.config import TrainConfig
from causalmix.train.checkpoint import Snapshot, load_checkpoint, take_snapshot
from causalmix.train.row import Row

MOMENTS = ("exp_avg", "exp_avg_sq")


class RowOptimizer:
    """AdamW on the weights of one training, each computed as one by one.

    Parameters
    ----------
    row : Row
    weights : Tensor, shape (n + m,)
        Of the training; see :meth:`follow`.
    parameters : dict
        Name -> parameter, a view of its part of the weights.
    cfg : TrainConfig
    """

    def __init__(
        self, row: Row, weights: torch.Tensor, parameters: dict[str, torch.nn.Parameter], cfg: TrainConfig
    ) -> None:
        self.row, self.parameters = row, parameters
        self.halves = {key: torch.nn.Parameter(part) for key, part in row.halve(weights)}
        self.adamw = make_adamw(self.halves, cfg)
        self.named = make_adamw(parameters, cfg)  # its state alone is used: checkpoints name every parameter

    def follow(self, weights: torch.Tensor) -> None:
        """Go on with weights that stand elsewhere now, and let the parameters be views of them."""
        for name, part in self.row.name(weights):
            self.parameters[name].data = part
        for key, part in self.row.halve(weights):
            self.halves[key].data = part

    def step(self, gradient: torch.Tensor, lr: float) -> None:
        """Change the weights by a gradient of shape (n + m,)."""
        for key, part in self.row.halve(gradient):
            self.halves[key].grad = part
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()

    def load(self, folder: Path, identity: str) -> dict[str, Any] | None:
        """Restore a run's newest checkpoint; see :func:`~causalmix.train.checkpoint.load_checkpoint`."""
        saved = load_checkpoint(folder, self.parameters, self.named, identity)
        if saved is not None:
            state = {name: self.named.state[parameter] for name, parameter in self.parameters.items()}
            for moment in MOMENTS:
                row = self.row.join({name: of[moment] for name, of in state.items()})
                for key, part in self.row.halve(row):
                    self.adamw.state[self.halves[key]][moment] = part.clone()
            step = next(iter(state.values()))["step"]
            for half in self.halves.values():
                self.adamw.state[half]["step"] = step.clone()
        return saved

    def take_snapshot(self, state: dict[str, Any]) -> Snapshot:
        """Copy what a checkpoint holds; see :func:`~causalmix.train.checkpoint.take_snapshot`."""
        states = [self.adamw.state[half] for half in self.halves.values()]
        rows = {moment: torch.cat([state[moment].flatten() for state in states]) for moment in MOMENTS}
        parts = {moment: dict(self.row.name(row)) for moment, row in rows.items()}
        for name, parameter in self.parameters.items():
            moments = {moment: parts[moment][name] for moment in MOMENTS}
            self.named.state[parameter] = {"step": states[0]["step"], **moments}
        return take_snapshot(self.parameters, self.named, state)


def make_adamw(parameters: dict[str, torch.nn.Parameter], cfg: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the trained parameters; weight decay on matrices alone, not on biases and norms."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": cfg.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    return torch.optim.AdamW(kept, lr=cfg.lr_peak, betas=(cfg.beta1, cfg.beta2), fused=True)
