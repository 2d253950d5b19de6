"""The two parts of a Qwen2 layer around its attention, with gradients written out, for a CPU: there calls count.

Each is one step of autograd instead of a dozen, keeps what its gradient needs and no more, and adds residuals inside
of matrix products. Weights may have a leading axis of runs (:mod:`~causalmix.train.stack`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from causalmix.train.products import add_up, learn, multiply, normalise, pull, renormalise, scale
from causalmix.train.stack import StackedLinear

Gradient = torch.Tensor | None
KNOWN = (torch.nn.Linear, StackedLinear)  # an adapter, or a matrix that ranks share, is more than its weight


@dataclass(frozen=True)
class Reading:
    """What the first part of a layer reads beside its rows and weights.

    Attributes
    ----------
    turns : complex Tensor, shape (n_tokens, size / 2)
        Rotary angles of every token's place, as numbers on the unit circle.
    epsilon : float
        Of the norm.
    spread : Tensor of int64, shape (n_tokens,) or None
        Token -> its row, where rows are those of distinct tokens: what a first layer makes of a token before its place
        counts is the same wherever it stands. For evaluation: it has no gradient.
    asked : Tensor of int64 or None
        The tokens that queries are asked of, rising; None for all.
    learns : bool
        Whether gradients follow; where none do, a norm's weight goes into the matrices that read it.
    """

    turns: torch.Tensor
    epsilon: float
    spread: torch.Tensor | None = None
    asked: torch.Tensor | None = None
    learns: bool = True

    def list_products(self, weights: Sequence[torch.Tensor]) -> list[Product]:
        """Say which of queries, keys and values are made in one product, and of which tokens."""
        sizes = [weight.shape[-2] for weight in weights]
        if self.asked is None:
            return [Product(slice(0, 3), sizes, self.turns, None)]
        turns = self.turns.index_select(0, self.asked)
        return [Product(slice(0, 1), sizes[:1], turns, self.asked), Product(slice(1, 3), sizes[1:], self.turns, None)]


@dataclass(frozen=True)
class Product:
    """Some of a layer's queries, keys and values (``which``, with as many columns as ``sizes`` say) of some tokens."""

    which: slice
    sizes: list[int]
    turns: torch.Tensor
    asked: torch.Tensor | None

    @property
    def width(self) -> int:
        """Columns of a head."""
        return 2 * self.turns.shape[-1]

    @property
    def n_turned(self) -> int:
        """Heads of queries and keys, which stand before those of values."""
        return sum(self.sizes[: 2 - self.which.start]) // self.width

    def order(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Put columns that turn together beside each other, and back; products of queries and keys do not see it."""
        return _order(self.n_turned, sum(self.sizes) // self.width, self.width)

    def turn(self, rows: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """Turn queries and keys in place; shape (n, heads, size)."""
        pairs = torch.view_as_complex(rows.view(len(rows), -1, self.width // 2, 2))
        pairs[:, : self.n_turned].mul_(turns[:, None])
        return rows.view(len(rows), -1, self.width)


@lru_cache(maxsize=64)
def _order(n_turned: int, n_heads: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    places = torch.arange(n_heads * width).view(n_heads, width)
    turned = places[:n_turned].view(n_turned, 2, -1).transpose(1, 2).reshape(n_turned, width)
    order = torch.cat([turned, places[n_turned:]]).flatten()
    return order, order.argsort()


def is_written_out(decoder: Any) -> bool:
    """Tell whether this module computes a decoder's layers: plain ones, in full precision, on a CPU."""
    weight = decoder.embed_tokens.weight
    is_full = weight.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return weight.device.type == "cpu" and is_full and all(map(is_plain, decoder.layers))


def is_plain(layer: Any) -> bool:
    """Tell whether a layer is of Qwen2 and has nothing beside its weights."""
    attention, mlp = layer.self_attn, layer.mlp
    biased = (attention.q_proj, attention.k_proj, attention.v_proj)
    plain = (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    return (
        not hasattr(attention, "q_norm")
        and all(type(matrix) in KNOWN for matrix in (*biased, *plain))
        and all(matrix.bias is not None for matrix in biased)
        and all(matrix.bias is None for matrix in plain)
    )


def open_layer(layer: Any, rows: torch.Tensor, reading: Reading) -> tuple[torch.Tensor, ...]:
    """Return queries, keys and values of a layer, each of shape (n, heads, size)."""
    attention = layer.self_attn
    maps = (attention.q_proj, attention.k_proj, attention.v_proj)
    weights = (layer.input_layernorm.weight, *(each.weight for each in maps), *(each.bias for each in maps))
    made: tuple[torch.Tensor, ...] = Opening.apply(rows, reading, *weights)  # type: ignore[no-untyped-call]
    return made


def close_layer(layer: Any, rows: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    """Return the output of a layer whose attention has found ``mixed``."""
    mlp, norm = layer.mlp, layer.post_attention_layernorm
    maps = (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    weights = (layer.self_attn.o_proj.weight, norm.weight, *(each.weight for each in maps))
    return torch.as_tensor(Closing.apply(rows, mixed, norm.variance_epsilon, torch.is_grad_enabled(), *weights))  # type: ignore[no-untyped-call]


class Opening(torch.autograd.Function):
    """What comes before attention: norm, queries, keys and values, rotary positions."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, reading: Reading, of_norm: torch.Tensor, *maps: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return queries, keys and values, see :func:`open_layer`."""
        unit, inverse = normalise(rows, reading.epsilon)
        inputs = scale(unit, of_norm) if reading.learns else unit
        made: list[torch.Tensor] = []
        kept: list[torch.Tensor] = []
        products = reading.list_products(maps[:3])
        for product in products:
            joined, bias = join_maps(maps, product)
            joined = joined if reading.learns else fold(joined, of_norm)
            read = inputs if product.asked is None else inputs.index_select(0, product.asked)
            rows = multiply(read, joined, bias)
            if reading.spread is not None and product.asked is None:
                rows = rows.index_select(0, reading.spread)
            heads = product.turn(rows, product.turns)
            kept += [joined, read]
            made += torch.split(heads, [size // product.width for size in product.sizes], dim=1)
        ctx.products = products
        ctx.save_for_backward(unit, inverse, of_norm, *kept)
        return tuple(made)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Gradient, ...]:
        """Turn back, and add up what the three say of a row."""
        unit, inverse, of_norm, *kept = ctx.saved_tensors
        of_weights: list[torch.Tensor] = []
        of_biases: list[torch.Tensor] = []
        of_inputs: Gradient = None
        for product, joined, read in zip(ctx.products, kept[::2], kept[1::2]):
            grad = torch.cat(grads[product.which], dim=1).flatten(1)
            product.turn(grad, product.turns.conj().resolve_conj())
            back = product.order()[1]
            of_weights += torch.split(learn(grad, read, joined).index_select(-2, back), product.sizes, dim=-2)
            of_biases += torch.split(add_up(grad, joined).index_select(-1, back), product.sizes, dim=-1)
            if product.asked is None:
                of_inputs = pull(grad, joined, of_inputs)
            else:
                of_inputs = torch.zeros_like(unit).index_copy_(0, product.asked, pull(grad, joined))
        assert of_inputs is not None
        of_rows, of_scale = renormalise(of_inputs, unit, inverse, of_norm)
        return of_rows, None, of_scale, *of_weights, *of_biases


class Closing(torch.autograd.Function):
    """What comes after attention: output projection, norm and the gated feed-forward part, with both residuals."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, mixed: torch.Tensor, epsilon: float, learns: bool, *weights: torch.Tensor
    ) -> torch.Tensor:
        """Return the layer's output, of the shape of ``rows``; see :func:`close_layer`."""
        out, of_norm, gating, rising, falling = weights
        rows = multiply(mixed, out, residual=rows)
        unit, inverse = normalise(rows, epsilon)
        if not learns:
            gate, up = multiply(unit, fold(gating, of_norm)), multiply(unit, fold(rising, of_norm))
            return multiply(silu(gate).mul_(up), falling, residual=rows)
        inputs = scale(unit, of_norm)
        gate, up = multiply(inputs, gating), multiply(inputs, rising)
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
        needs_out, _, needs_gating, needs_rising, needs_falling = ctx.needs_input_grad[4:]  # adapters leave some frozen
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
            None,
            learn(of_rows, mixed, out) if needs_out else None,
            of_scale,
            learn(of_gate, inputs, gating) if needs_gating else None,
            learn(of_up, inputs, rising) if needs_rising else None,
            of_falling,
        )


def fold(weight: torch.Tensor, of_norm: torch.Tensor) -> torch.Tensor:
    """Put a norm's weight into a matrix that reads it."""
    return weight * of_norm.unsqueeze(-2)


def join_maps(maps: Sequence[torch.Tensor], product: Product) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight and the bias of a product, columns in its order."""
    weights, biases = maps[:3][product.which], maps[3:][product.which]
    order = product.order()[0]
    return torch.cat([*weights], dim=-2).index_select(-2, order), torch.cat([*biases], dim=-1).index_select(-1, order)
