"""The two parts of a Qwen2 layer around its attention, forward and back, for a CPU: there calls count.

Each keeps what its gradient needs and no more, and adds residuals inside of matrix products. Weights may have a leading
axis of runs (:mod:`~causalmix.train.stack`).
"""

from __future__ import annotations

from typing import Any

import torch

from causalmix.train.heads import Tensors, Turns, join_maps, split_maps, turn
from causalmix.train.products import add_at, add_up, learn, multiply, normalise, pull, renormalise, scale
from causalmix.train.stack import StackedLinear

KNOWN = (torch.nn.Linear, StackedLinear)  # an adapter, or a matrix that ranks share, is more than its weight
N_OPENING = 7  # weights of the first part: norm, matrices, biases; those of the second follow


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


class Projection:
    """Some of queries, keys and values, in one product, and turned by their places.

    Parameters
    ----------
    weight, bias : Tensor
        From :func:`~causalmix.train.heads.join_maps`.
    turns : Turns
        Of the tokens that they are made of.
    n_turned : int
        Heads that turn, the first ones.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, turns: Turns, n_turned: int) -> None:
        self.weight, self.bias, self.turns, self.n_turned = weight, bias, turns, n_turned

    def run(self, inputs: torch.Tensor, spread: torch.Tensor | None) -> torch.Tensor:
        """Return shape (n_tokens, heads, size); ``spread`` says which of the inputs is each token's, if not its own."""
        self.inputs, self.spread = inputs, spread
        made = multiply(inputs, self.weight, self.bias)
        made = made if spread is None else made.index_select(0, spread)
        return turn(made.view(made.shape[0], -1, self.turns.size), self.n_turned, self.turns.forth)

    def go_back(self, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the gradients of inputs, weight and bias; ``grad`` is changed."""
        grad = turn(grad, self.n_turned, self.turns.back).flatten(1)
        grad = grad if self.spread is None else add_at(grad, self.spread, self.inputs.shape[0])
        return pull(grad, self.weight), learn(grad, self.inputs, self.weight), add_up(grad, self.weight)


class Opening:
    """What comes before attention: norm, queries, keys and values, rotary positions.

    Parameters
    ----------
    weights : sequence of Tensor
        Of the norm, of queries, keys and values, and their biases.
    turns : Turns
    epsilon : float
        Of the norm.
    """

    def __init__(self, weights: Tensors, turns: Turns, epsilon: float) -> None:
        self.of_norm, self.matrices, self.biases = weights[0], weights[1:4], weights[4:7]
        self.turns, self.epsilon = turns, epsilon
        # Queries and keys turn, values do not.
        self.n_query, self.n_key = (matrix.shape[-2] // turns.size for matrix in self.matrices[:2])

    def run(
        self, rows: torch.Tensor, spread: torch.Tensor | None = None, asked: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Return queries, keys and values, heads in this order, each of shape (n_tokens, heads, size).

        With ``asked`` they are two: queries of the tokens that are asked for, and keys and values of all.
        """
        self.unit, self.inverse = normalise(rows, self.epsilon)
        inputs, self.asked = scale(self.unit, self.of_norm), asked
        n_turned, size = self.n_query + self.n_key, self.turns.size
        weight, bias = join_maps(self.matrices, n_turned, size, -2), join_maps(self.biases, n_turned, size, -1)
        if asked is None:
            self.parts = [Projection(weight, bias, self.turns, n_turned)]
            return [self.parts[0].run(inputs, spread)]
        cut = self.n_query * size
        query = Projection(weight[..., :cut, :], bias[..., :cut], self.turns.select(asked), self.n_query)
        pairs = Projection(weight[..., cut:, :], bias[..., cut:], self.turns, self.n_key)
        self.parts = [query, pairs]
        return [query.run(inputs.index_select(0, asked), None), pairs.run(inputs, spread)]

    def go_back(self, grads: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the gradients of rows and weights; ``grads`` are changed."""
        inputs, weights, biases = zip(*(part.go_back(grad) for part, grad in zip(self.parts, grads)))
        of_inputs, of_weight, of_bias = inputs[-1], weights[0], biases[0]
        if self.asked is not None:
            of_inputs.index_add_(0, self.asked, inputs[0])
            of_weight, of_bias = torch.cat(weights, dim=-2), torch.cat(biases, dim=-1)
        n_turned, size = self.n_query + self.n_key, self.turns.size
        of_matrices = split_maps(of_weight, self.matrices, n_turned, size, -2)
        of_biases = split_maps(of_bias, self.biases, n_turned, size, -1)
        of_rows, of_norm = renormalise(of_inputs, self.unit, self.inverse, self.of_norm)
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
