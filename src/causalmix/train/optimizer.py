"""AdamW over the parameters of a training: one by one, or end to end where calls cost more than arithmetic."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from causalmix.config import TrainConfig
from causalmix.train.checkpoint import CheckpointWriter, load_checkpoint, take_snapshot
from causalmix.train.ranks import Ranks
from causalmix.train.row import Row
from causalmix.train.row_optimizer import RowOptimizer, make_adamw
from causalmix.train.sharding import join
from causalmix.train.shards import load_shards, save_shards

Parameters = dict[str, torch.nn.Parameter]


class NamedOptimizer:
    """A tensor at a time, whole or a rank's part: on a GPU, and on several ranks.

    Parameters
    ----------
    parameters : dict
        Name -> trained parameter.
    cfg : TrainConfig
    n_ranks : int
    """

    def __init__(self, parameters: Parameters, cfg: TrainConfig, n_ranks: int) -> None:
        self.parameters, self.limit, self.n_ranks = parameters, cfg.grad_clip or math.inf, n_ranks
        self.adamw = make_adamw(parameters, cfg)

    def clip(self) -> torch.Tensor:
        """Scale the gradient down to its limit; return its length before."""
        return join(clip_grad_norm_(self.parameters.values(), self.limit, foreach=True))

    def step(self, lr: float) -> None:
        """Change the weights, and forget the gradient."""
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)

    def load(self, folder: Path, identity: str) -> dict[str, Any] | None:
        """Restore the newest checkpoint; None where there is none."""
        read = load_shards if self.n_ranks > 1 else load_checkpoint
        return read(folder, self.parameters, self.adamw, identity)

    def save(self, writer: CheckpointWriter, state: dict[str, Any]) -> None:
        """Write a checkpoint; every rank must call."""
        if self.n_ranks > 1:
            assert writer.folder is not None
            save_shards(writer.folder, self.parameters, self.adamw, state)
        else:
            writer.save(take_snapshot(self.parameters, self.adamw, state))

    def close(self) -> None:
        """Free what it holds: the model is about to take more room."""
        self.adamw.state.clear()


class EndToEnd:
    """One tensor of all trained weights, which the model's parameters are views of until :meth:`close`."""

    def __init__(self, parameters: Parameters, cfg: TrainConfig) -> None:
        self.parameters, self.limit, self.row = parameters, cfg.grad_clip or math.inf, Row(parameters)
        weights = self.row.join({name: parameter.detach() for name, parameter in parameters.items()})
        for name, part in self.row.name(weights):
            parameters[name].data = part
        self.rows = RowOptimizer(self.row, weights, parameters, cfg)

    def clip(self) -> torch.Tensor:
        """Scale the gradient down to its limit; return its length before."""
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        self.gradient = self.row.join(gradients)
        norm: torch.Tensor = torch.linalg.vector_norm(self.gradient)
        factor = self.limit / (norm.item() + 1e-6)
        if not factor >= 1.0:  # one that is no number shows in the gradient too
            self.gradient *= factor
        return norm

    def step(self, lr: float) -> None:
        """Change the weights by what was clipped, and forget it."""
        self.rows.step(self.gradient, lr)
        for parameter in self.parameters.values():
            parameter.grad = None

    def load(self, folder: Path, identity: str) -> dict[str, Any] | None:
        """Restore the newest checkpoint; None where there is none."""
        return self.rows.load(folder, identity)

    def save(self, writer: CheckpointWriter, state: dict[str, Any]) -> None:
        """Write a checkpoint, as of parameters one by one."""
        writer.save(self.rows.take_snapshot(state))

    def close(self) -> None:
        """Give every parameter its own memory again."""
        for parameter in self.parameters.values():
            parameter.data = parameter.data.clone()


def make_optimizer(
    parameters: Parameters, cfg: TrainConfig, ranks: Ranks, device: torch.device
) -> NamedOptimizer | EndToEnd:
    """Choose how a training's weights are changed."""
    if device.type == "cpu" and ranks.size == 1:
        return EndToEnd(parameters, cfg)
    return NamedOptimizer(parameters, cfg, ranks.size)
