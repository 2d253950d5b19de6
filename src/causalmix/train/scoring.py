"""The layers of a decoder over branches, for evaluation on a CPU: nothing is kept and there is no gradient.

What a first layer makes of a token before its place counts is made once for each distinct token, the last layer asks
the queries that are asked for and no others, and a norm's weight goes into the matrices that read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import silu

from causalmix.train.branches import Branches, attend_branches
from causalmix.train.heads import Tensors, Turns, find_turns, join_maps, turn
from causalmix.train.layer import N_OPENING
from causalmix.train.products import multiply, normalise, scale
from causalmix.train.written import Plain

if TYPE_CHECKING:
    from causalmix.train.decoder import Tokens


@torch.no_grad()
def score_layers(plain: Plain, nodes: Tokens, branches: Branches) -> torch.Tensor:
    """Run all layers and the last norm, see :func:`~causalmix.train.decoder.run_decoder`."""
    n_layers = len(plain.layers)
    is_once = branches.distinct is not None and n_layers > 1
    rows = plain.embedding(branches.distinct if is_once else nodes.input_ids)
    turns = find_turns(plain.rotary, rows, nodes.position_ids, branches.longest)
    for at, weights in enumerate(plain.layers):
        unit, opening = normalise(rows, plain.epsilon)[0], weights[:N_OPENING]
        if at == n_layers - 1:
            rows = rows.index_select(0, nodes.where)
            mixed = ask(unit, opening, turns, nodes.where, branches, plain.scaling)
        else:
            spread = branches.spread if is_once and at == 0 else None
            query, key, value = open_rows(unit, opening, slice(0, 3), turns, spread)
            mixed = attend_branches(query, key, value, branches, plain.scaling)
            rows = rows if spread is None else rows.index_select(0, spread)
        rows = close_rows(rows, mixed, weights[N_OPENING:], plain.epsilon)
    return scale(normalise(rows, plain.epsilon)[0], plain.of_norm)


def ask(
    unit: torch.Tensor, weights: Tensors, turns: Turns, where: torch.Tensor, branches: Branches, scaling: float
) -> torch.Tensor:
    """Run the last layer's attention, for the tokens at ``where``."""
    if branches.last is None:
        query, key, value = open_rows(unit, weights, slice(0, 3), turns)
        return attend_branches(query, key, value, branches, scaling).index_select(0, where)
    (query,) = open_rows(unit.index_select(0, where), weights, slice(0, 1), turns.select(where))
    key, value = open_rows(unit, weights, slice(1, 3), turns)
    return attend_branches(query, key, value, branches.last, scaling)


def open_rows(
    unit: torch.Tensor, weights: Tensors, which: slice, turns: Turns, spread: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """Make some of queries, keys and values.

    Parameters
    ----------
    unit : Tensor, shape (n, hidden)
        Rows divided by their root mean square.
    weights : sequence of Tensor
        As of :class:`~causalmix.train.layer.Opening`.
    which : slice
        Of queries, keys and values.
    turns : Turns
    spread : Tensor of int64, shape (n_tokens,), optional
        Token -> its row, where rows are those of distinct tokens.

    Returns
    -------
    tuple of Tensor, shape (n_tokens, heads, size) each
    """
    matrices, biases, size = weights[1:4][which], weights[4:7][which], turns.size
    sizes = [matrix.shape[-2] // size for matrix in matrices]
    n_turned = sum(sizes[: 2 - which.start])  # values do not turn
    joined = join_maps(matrices, n_turned, size, -2) * weights[0].unsqueeze(-2)
    rows = multiply(unit, joined, join_maps(biases, n_turned, size, -1))
    rows = rows if spread is None else rows.index_select(0, spread)
    return torch.split(turn(rows.view(len(rows), -1, size), n_turned, turns.forth), sizes, dim=1)


def close_rows(rows: torch.Tensor, mixed: torch.Tensor, weights: Tensors, epsilon: float) -> torch.Tensor:
    """Do what comes after attention, see :class:`~causalmix.train.layer.Closing`; ``rows`` are changed."""
    out, of_norm, gating, rising, falling = weights
    gating, rising = (matrix * of_norm.unsqueeze(-2) for matrix in (gating, rising))
    rows.addmm_(mixed, out.T)
    unit = normalise(rows, epsilon)[0]
    gate, up = unit @ gating.T, unit @ rising.T
    return rows.addmm_(silu(gate, inplace=True).mul_(up), falling.T)
