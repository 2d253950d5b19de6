"""The two parts of a Qwen2 layer around its attention, with gradients written out, for a CPU: there calls count.

Each is one step of autograd instead of a dozen, keeps what its gradient needs and no more, and adds residuals inside
of matrix products. Weights may have a leading axis of runs (:mod:`~causalmix.train.stack`): rows of all runs lie end
to end then, the same number of each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from causalmix.train.kernels import swap_halves
from causalmix.train.stack import StackedLinear

Gradient = torch.Tensor | None
KNOWN = (
    torch.nn.Linear,
    StackedLinear,
)  # an adapter, or a matrix that ranks share, has more to its product than its weight


def is_written_out(layer: Any, rows: torch.Tensor) -> bool:
    """Tell whether this module computes a layer: a plain one, in full precision, on a CPU, not compiled."""
    attention, mlp = layer.self_attn, layer.mlp
    matrices = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    return (
        rows.device.type == "cpu"
        and rows.dtype in (torch.float32, torch.float64)
        and not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))
        and not hasattr(attention, "q_norm")
        and all(type(matrix) in KNOWN for matrix in (*matrices, mlp.gate_proj, mlp.up_proj, mlp.down_proj))
    )


class Opening(torch.autograd.Function):
    """What comes before attention: norm, queries, keys and values, rotary positions."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        asked: torch.Tensor | None,
        epsilon: float,
        *weights: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries (of ``asked`` rows alone, where given), keys and values, each of shape (n, heads, size)."""
        of_norm, q_weight, q_bias, k_weight, k_bias, v_weight, v_bias = weights
        unit, inverse = normalise(rows, epsilon)
        inputs = scale(unit, of_norm)
        asking, angles = inputs, (cos, sin)
        if asked is not None:
            asking, angles = (inputs[asked], (cos[asked], sin[asked]))
        shape = (-1, cos.shape[-1])
        query = turn(multiply(asking, q_weight, q_bias).unflatten(1, shape), *angles)
        key = turn(multiply(inputs, k_weight, k_bias).unflatten(1, shape), cos, sin)
        ctx.save_for_backward(unit, inverse, inputs, cos, sin, asked, of_norm, q_weight, k_weight, v_weight)
        return query, key, multiply(inputs, v_weight, v_bias).unflatten(1, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Gradient, ...]:
        """Turn back, and add up what the three say of the row."""
        unit, inverse, inputs, cos, sin, asked, of_norm, *matrices = ctx.saved_tensors
        needed = ctx.needs_input_grad[5:]
        asking, angles = inputs, (cos, sin)
        if asked is not None:
            asking, angles = inputs[asked], (cos[asked], sin[asked])
        parts = (turn_back(grads[0], *angles), turn_back(grads[1], cos, sin), grads[2])
        of_weights: list[Gradient] = []
        of_inputs = torch.empty(0)
        for at, (part, read, weight) in enumerate(zip(parts, (asking, inputs, inputs), matrices)):
            grad = part.flatten(1)
            of_weights.append(learn(grad, read, weight) if needed[1 + 2 * at] else None)
            of_weights.append(add_up(grad, weight) if needed[2 + 2 * at] else None)
        of_queries, of_keys, of_values = (part.flatten(1) for part in parts)
        of_inputs = pull(of_values, matrices[2], pull(of_keys, matrices[1]))
        if asked is None:
            of_inputs = pull(of_queries, matrices[0], of_inputs)
        else:
            of_inputs.index_add_(0, asked, pull(of_queries, matrices[0]))
        of_rows, of_scale = renormalise(of_inputs, unit, inverse, of_norm)
        return of_rows, None, None, None, None, of_scale, *of_weights


class Closing(torch.autograd.Function):
    """What comes after attention: output projection, norm and the gated feed-forward part, with both residuals."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, mixed: torch.Tensor, epsilon: float, *weights: torch.Tensor
    ) -> torch.Tensor:
        """Return the layer's output, of the shape of ``rows``."""
        out, of_norm, gating, rising, falling = weights
        rows = multiply(mixed, out, residual=rows)
        unit, inverse = normalise(rows, epsilon)
        inputs = scale(unit, of_norm)
        gate, up = multiply(inputs, gating), multiply(inputs, rising)
        if not any(ctx.needs_input_grad):
            return multiply(silu(gate).mul_(up), falling, residual=rows)
        opened = torch.sigmoid(gate)
        gate.mul_(opened)
        gated = gate * up
        ctx.save_for_backward(mixed, unit, inverse, inputs, opened, gate, up, gated, *weights)
        return multiply(gated, falling, residual=rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Gradient, ...]:
        """Go back through the gate, the norm and both residuals."""
        mixed, unit, inverse, inputs, opened, gate, up, gated, *weights = ctx.saved_tensors
        out, of_norm, gating, rising, falling = weights
        _, _, _, needs_out, _, needs_gating, needs_rising, needs_falling = ctx.needs_input_grad
        of_gated = pull(grads[0], falling)
        of_falling = learn(grads[0], gated, falling) if needs_falling else None
        of_up = of_gated * gate
        # The slope of z * s(z) is s + z * s * (1 - s).
        slope = torch.addcmul(opened + gate, opened, gate, value=-1)
        of_gate = of_gated.mul_(up).mul_(slope)
        of_inputs = pull(of_up, rising, pull(of_gate, gating))
        of_rows, of_scale = renormalise(of_inputs, unit, inverse, of_norm)
        of_rows += grads[0]
        return (
            of_rows,
            pull(of_rows, out),
            None,
            learn(of_rows, mixed, out) if needs_out else None,
            of_scale,
            learn(of_gate, inputs, gating) if needs_gating else None,
            learn(of_up, inputs, rising) if needs_rising else None,
            of_falling,
        )


def normalise(rows: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Divide rows by their root mean square; return them and its inverse."""
    inverse = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square_()
    inverse.div_(rows.shape[-1]).add_(epsilon).rsqrt_()
    return rows * inverse, inverse


def renormalise(
    grads: torch.Tensor, unit: torch.Tensor, inverse: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of a norm's rows and of its weight."""
    along = grads * unit
    of_weight = along.sum(0) if weight.ndim == 1 else along.view(len(weight), -1, weight.shape[-1]).sum(1)
    of_unit = scale(grads, weight)
    along = torch.linalg.vecdot(of_unit, unit).div_(unit.shape[-1]).unsqueeze(-1)
    return of_unit.addcmul_(unit, along, value=-1).mul_(inverse), of_weight


def scale(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply the columns of rows, of each run's rows by its own weight."""
    if weight.ndim == 1:
        return rows * weight
    return (rows.view(len(weight), -1, rows.shape[-1]) * weight[:, None]).view_as(rows)


def turn(rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Apply rotary positions to shape (n, heads, size), see :class:`~causalmix.train.kernels.Rotation`."""
    cos, sin = cos[:, : rows.shape[1]], sin[:, : rows.shape[1]]
    return (rows * cos).addcmul_(swap_halves(rows), sin)


def turn_back(rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Undo :func:`turn`."""
    cos, sin = cos[:, : rows.shape[1]], sin[:, : rows.shape[1]]
    return (rows * cos).addcmul_(swap_halves(rows), sin, value=-1)


def multiply(
    rows: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Map rows of shape (n, in) by a weight of shape (out, in), or (runs, out, in), and add one thing or none."""
    if weight.ndim == 2:
        added = bias if residual is None else residual
        return rows @ weight.T if added is None else torch.addmm(added, rows, weight.T)
    by_run, turned = rows.view(len(weight), -1, rows.shape[-1]), weight.transpose(1, 2)
    added = bias[:, None] if bias is not None else residual
    if added is None:
        return torch.bmm(by_run, turned).flatten(0, 1)
    added = added if bias is not None else added.view(len(weight), -1, added.shape[-1])
    return torch.baddbmm(added, by_run, turned).flatten(0, 1)


def pull(grads: torch.Tensor, weight: torch.Tensor, total: torch.Tensor | None = None) -> torch.Tensor:
    """Return the gradient of a product's rows, added to ``total``, which is changed."""
    if weight.ndim == 2:
        return grads @ weight if total is None else total.addmm_(grads, weight)
    by_run = grads.view(len(weight), -1, grads.shape[-1])
    if total is None:
        return torch.bmm(by_run, weight).flatten(0, 1)
    return total.view(len(weight), -1, total.shape[-1]).baddbmm_(by_run, weight).flatten(0, 1)


def learn(grads: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a product's weight."""
    if weight.ndim == 2:
        return grads.T @ rows
    n_runs = len(weight)
    return torch.bmm(grads.view(n_runs, -1, grads.shape[-1]).transpose(1, 2), rows.view(n_runs, -1, rows.shape[-1]))


def add_up(grads: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a product's bias."""
    return grads.sum(0) if weight.ndim == 2 else grads.view(len(weight), -1, grads.shape[-1]).sum(1)
