"""The two parts of a Qwen2 layer around its attention, forward and back, for a CPU: there calls count.

Each keeps what its gradient needs and no more, and adds residuals inside of matrix products. Weights may have a leading
axis of runs (:mod:`~causalmix.train.stack`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from causalmix.train.heads import join_maps, split_maps, turn
from causalmix.train.products import add_up, learn, multiply, normalise, pull, renormalise, scale
from causalmix.train.stack import StackedLinear

KNOWN = (torch.nn.Linear, StackedLinear)  # an adapter, or a matrix that ranks share, is more than its weight
N_OPENING = 7  # weights of the first part: norm, matrices, biases; those of the second follow
Tensors = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Places:
    """What a layer needs to know of its tokens' positions.

    Attributes
    ----------
    turns, back : complex Tensor, shape (n_tokens, size / 2)
        From :func:`~causalmix.train.heads.find_turns`, and their inverse.
    n_turned : int
        Heads of queries and keys.
    epsilon : float
        Of the norms.
    """

    turns: torch.Tensor
    back: torch.Tensor
    n_turned: int
    epsilon: float

    @property
    def size(self) -> int:
        """Columns of a head."""
        return 2 * self.turns.shape[-1]


def is_written_out(decoder: Any) -> bool:
    """Tell whether a decoder's layers are computed here: plain ones, in full precision, on a CPU."""
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


def list_weights(layer: Any) -> list[torch.Tensor]:
    """List a layer's weights: those of :class:`Opening`, then those of :class:`Closing`."""
    attention, mlp = layer.self_attn, layer.mlp
    maps = (attention.q_proj, attention.k_proj, attention.v_proj)
    closing = (attention.o_proj, layer.post_attention_layernorm, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    matrices, biases = (each.weight for each in maps), (each.bias for each in maps)
    return [layer.input_layernorm.weight, *matrices, *biases, *(each.weight for each in closing)]


class Opening:
    """What comes before attention: norm, queries, keys and values, rotary positions.

    Parameters
    ----------
    weights : sequence of Tensor
        Of the norm, of queries, keys and values, and their biases.
    places : Places
    """

    def __init__(self, weights: Tensors, places: Places) -> None:
        self.of_norm, self.places = weights[0], places
        self.matrices, self.biases = weights[1:4], weights[4:7]

    def run(self, rows: torch.Tensor) -> torch.Tensor:
        """Return queries, keys and values of shape (n_tokens, heads, size), heads in this order."""
        n_turned, size = self.places.n_turned, self.places.size
        self.unit, self.inverse = normalise(rows, self.places.epsilon)
        self.inputs = scale(self.unit, self.of_norm)
        self.joined = join_maps(self.matrices, n_turned, size, -2)
        made = multiply(self.inputs, self.joined, join_maps(self.biases, n_turned, size, -1))
        return turn(made.view(len(rows), -1, size), n_turned, self.places.turns)

    def go_back(self, grad: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the gradients of rows and weights; ``grad`` is changed."""
        n_turned, size = self.places.n_turned, self.places.size
        grad = turn(grad, n_turned, self.places.back).flatten(1)
        of_matrices = split_maps(learn(grad, self.inputs, self.joined), self.matrices, n_turned, size, -2)
        of_biases = split_maps(add_up(grad, self.joined), self.biases, n_turned, size, -1)
        of_rows, of_norm = renormalise(pull(grad, self.joined), self.unit, self.inverse, self.of_norm)
        return of_rows, [of_norm, *of_matrices, *of_biases]


class Closing:
    """What comes after attention: output projection, norm and the gated feed-forward part, with both residuals.

    Parameters
    ----------
    weights : sequence of Tensor
        Of the output projection, the norm, gate, rise and fall.
    epsilon : float
        Of the norm.
    """

    def __init__(self, weights: Tensors, epsilon: float) -> None:
        self.weights, self.epsilon = weights, epsilon

    def run(self, rows: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Return the layer's output from its input and what attention found."""
        out, of_norm, gating, rising, falling = self.weights
        rows = multiply(mixed, out, residual=rows)
        self.mixed = mixed
        self.unit, self.inverse = normalise(rows, self.epsilon)
        self.inputs = scale(self.unit, of_norm)
        self.gate, self.up = multiply(self.inputs, gating), multiply(self.inputs, rising)
        self.opened = torch.sigmoid(self.gate)
        self.gate.mul_(self.opened)
        self.gated = self.gate * self.up
        return multiply(self.gated, falling, residual=rows)

    def go_back(self, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Return the gradients of rows, of what attention found and of weights."""
        out, of_norm, gating, rising, falling = self.weights
        of_gated = pull(grad, falling)
        of_falling = learn(grad, self.gated, falling)
        of_up = of_gated * self.gate
        # The slope of z * s(z) is s + z * s * (1 - s).
        slope = self.opened.add(self.gate).addcmul_(self.opened, self.gate, value=-1)
        of_gate = of_gated.mul_(self.up).mul_(slope)
        of_inputs = pull(of_up, rising, pull(of_gate, gating))
        of_rows, of_scale = renormalise(of_inputs, self.unit, self.inverse, of_norm)
        of_rows += grad
        of_maps = [learn(of_gate, self.inputs, gating), learn(of_up, self.inputs, rising), of_falling]
        return of_rows, pull(of_rows, out), [learn(of_rows, self.mixed, out), of_scale, *of_maps]
