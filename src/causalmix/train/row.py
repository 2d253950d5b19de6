"""The trained weights of a model end to end, matrices first: one tensor to clip and to update, not dozens."""

from __future__ import annotations

import torch


class Row:
    """Where each trained parameter stands in a row.

    Parameters
    ----------
    parameters : dict
        Name -> trained parameter.

    Attributes
    ----------
    shapes : dict
        Name -> shape, in the order of the row.
    n_matrices : int
        Numbers of the matrices, which stand first.
    """

    def __init__(self, parameters: dict[str, torch.nn.Parameter]) -> None:
        names = sorted(parameters, key=lambda name: parameters[name].ndim < 2)
        self.shapes = {name: parameters[name].shape for name in names}
        self.n_matrices = sum(shape.numel() for shape in self.shapes.values() if len(shape) >= 2)

    def join(self, parts: dict[str, torch.Tensor]) -> torch.Tensor:
        """Lay a tensor a parameter end to end; shape (n + m,)."""
        return torch.cat([parts[name].flatten() for name in self.shapes])

    def name(self, rows: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
        """Cut rows of shape (..., n + m) into the parameters in them."""
        parts = torch.split(rows, [shape.numel() for shape in self.shapes.values()], dim=-1)
        return [(name, part.view(*part.shape[:-1], *shape)) for (name, shape), part in zip(self.shapes.items(), parts)]
