"""Norm, rotation and gate with gradients written out, for a CPU, where a call costs more than its arithmetic.

Each equals transformers' own formula and its gradient to rounding, in about half the operations. On a GPU the
plain formulas stand, which torch.compile fuses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import silu

Gradient = torch.Tensor | None


class RootMeanSquareNorm(torch.autograd.Function):
    """Divide rows by their root mean square and scale their columns (Zhang and Sennrich, 2019)."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Normalise the last axis."""
        inverse = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square_()
        inverse.div_(rows.shape[-1]).add_(epsilon).rsqrt_()
        unit = rows * inverse
        ctx.save_for_backward(unit, inverse, weight)
        return torch.as_tensor(unit * weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Gradient, ...]:
        """Project the gradient off the row's direction."""
        unit, inverse, weight = ctx.saved_tensors
        of_weight = (grads[0] * unit).sum_to_size(weight.shape) if ctx.needs_input_grad[1] else None
        of_unit = grads[0] * weight
        along = (of_unit * unit).mean(-1, keepdim=True)
        return torch.addcmul(of_unit, unit, along, value=-1).mul_(inverse), of_weight, None


class Gate(torch.autograd.Function):
    """``silu(gate) * up``, without keeping the product's parts."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Gradient, ...]:
        """Compute the gate again."""
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grads[0] * up, gate), grads[0] * silu(gate)


class Rotation(torch.autograd.Function):
    """Rotary positions: pairs of columns turned by an angle each; the gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Turn columns ``i`` and ``i + half``; all three of shape (n, heads, size)."""
        ctx.save_for_backward(cos, sin)
        return (rows * cos).addcmul_(swap_halves(rows), sin)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Gradient, ...]:
        """Turn back."""
        cos, sin = ctx.saved_tensors
        return (grads[0] * cos).addcmul_(swap_halves(grads[0]), sin, value=-1), None, None


def swap_halves(rows: torch.Tensor) -> torch.Tensor:
    """Exchange the two halves of the last axis."""
    return torch.cat(rows.chunk(2, dim=-1)[::-1], dim=-1)
