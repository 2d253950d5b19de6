"""AdamW over a row of weights: one tensor instead of dozens, and a checkpoint as of parameters one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.optim.adamw import adamw

from causalmix.config import TrainConfig
from causalmix.train.checkpoint import Snapshot, load_checkpoint, take_snapshot
from causalmix.train.row import Row

MOMENTS = ("exp_avg", "exp_avg_sq")
EPSILON = 1e-8  # torch's own


class RowOptimizer:
    """AdamW on the weights of one training.

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
        self.row, self.weights, self.parameters, self.cfg = row, weights, parameters, cfg
        self.moments = {moment: torch.zeros_like(weights) for moment in MOMENTS}
        self.n_done = torch.zeros((), device=weights.device)
        self.named = make_adamw(parameters, cfg)  # its state alone is used: checkpoints name every parameter

    def follow(self, weights: torch.Tensor) -> None:
        """Go on with weights that stand elsewhere now, and let the parameters be views of them."""
        self.weights = weights
        for name, part in self.row.name(weights):
            self.parameters[name].data = part

    def step(self, gradient: torch.Tensor, lr: float) -> None:
        """Change the weights by a gradient of shape (n + m,); its decay shrinks matrices alone, and before the rest."""
        self.weights[: self.row.n_matrices].mul_(1.0 - lr * self.cfg.weight_decay)
        first, second = (self.moments[moment] for moment in MOMENTS)
        adamw(
            [self.weights],
            [gradient],
            [first],
            [second],
            [],
            [self.n_done],
            fused=True,
            amsgrad=False,
            beta1=self.cfg.beta1,
            beta2=self.cfg.beta2,
            lr=lr,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def load(self, folder: Path, identity: str) -> dict[str, Any] | None:
        """Restore a run's newest checkpoint; see :func:`~causalmix.train.checkpoint.load_checkpoint`."""
        saved = load_checkpoint(folder, self.parameters, self.named, identity)
        if saved is not None:
            state = {name: self.named.state[parameter] for name, parameter in self.parameters.items()}
            for moment in MOMENTS:
                self.moments[moment] = self.row.join({name: of[moment] for name, of in state.items()})
            self.n_done.copy_(next(iter(state.values()))["step"])
        return saved

    def take_snapshot(self, state: dict[str, Any]) -> Snapshot:
        """Copy what a checkpoint holds; see :func:`~causalmix.train.checkpoint.take_snapshot`."""
        parts = {moment: dict(self.row.name(row)) for moment, row in self.moments.items()}
        for name, parameter in self.parameters.items():
            moments = {moment: parts[moment][name] for moment in MOMENTS}
            self.named.state[parameter] = {"step": self.n_done, **moments}
        return take_snapshot(self.parameters, self.named, state)


def make_adamw(parameters: dict[str, torch.nn.Parameter], cfg: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the trained parameters; weight decay on matrices alone, not on biases and norms."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": cfg.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    return torch.optim.AdamW(kept, lr=cfg.lr_peak, betas=(cfg.beta1, cfg.beta2), eps=EPSILON, fused=True)
