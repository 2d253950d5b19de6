"""AdamW over a row of weights equals torch's own, a parameter at a time."""

from __future__ import annotations

import copy

import torch

from causalmix.config import TrainConfig
from causalmix.train.row import Row
from causalmix.train.row_optimizer import RowOptimizer, make_adamw
from tests.train.stores import make_model

torch.set_num_threads(1)


def test_a_row_is_updated_as_its_parameters_are() -> None:
    """Twenty steps with decay, on matrices alone, and another learning rate each."""
    cfg = TrainConfig(name="test", lr_peak=0.01, weight_decay=0.3)
    model = make_model(dtype=torch.float64)
    other = copy.deepcopy(model)
    parameters, others = dict(model.named_parameters()), dict(other.named_parameters())
    row = Row(parameters)
    weights = row.join({name: parameter.detach() for name, parameter in parameters.items()})
    optimizer, adamw = RowOptimizer(row, weights, parameters, cfg), make_adamw(others, cfg)
    optimizer.follow(weights)
    generator = torch.Generator().manual_seed(0)
    for step in range(20):
        gradient = torch.randn(len(weights), generator=generator, dtype=torch.float64)
        optimizer.step(gradient, lr := 0.01 / (step + 1))
        for name, part in row.name(gradient):
            others[name].grad = part
        adamw.param_groups[0]["lr"] = adamw.param_groups[1]["lr"] = lr
        adamw.step()
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter, others[name], rtol=1e-11, atol=1e-13)
