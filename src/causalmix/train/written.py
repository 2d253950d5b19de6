"""The layers of a decoder as one step of autograd, forward and backward pass written out, for a CPU.

A step of a tiny model is hundreds of calls, each of which costs about what it computes. Here there are few, and
autograd sees one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from causalmix.train.attention import Layout
from causalmix.train.documents import Documents
from causalmix.train.heads import Tensors, Turns, find_turns
from causalmix.train.layer import N_OPENING, Closing, Opening, is_plain, list_weights
from causalmix.train.products import add_at, normalise, renormalise, scale

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from causalmix.train.decoder import Tokens


@dataclass(frozen=True)
class Plain:
    """A decoder whose layers are plain, and what every step would ask it for.

    Attributes
    ----------
    embedding, rotary : Module
        Of tokens and of places.
    layers : list of list of Tensor
        From :func:`~causalmix.train.layer.list_weights`.
    of_norm : Tensor
        Weight of the norm after them.
    epsilon : float
        Of all norms.
    n_heads : int
        Of queries.
    scaling : float
        Of attention's scores.
    """

    embedding: Any
    rotary: Any
    layers: list[list[torch.Tensor]]
    of_norm: torch.Tensor
    epsilon: float
    n_heads: int
    scaling: float


def find_plain(model: PreTrainedModel) -> Plain | None:
    """Look whether a model's layers can be computed here: plain ones, in full precision, on a CPU."""
    decoder = model.get_decoder()
    weight = decoder.embed_tokens.weight
    is_full = weight.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    if weight.device.type != "cpu" or not is_full or not all(map(is_plain, decoder.layers)):
        return None
    return Plain(
        embedding=decoder.embed_tokens,
        rotary=decoder.rotary_emb,
        layers=[list_weights(layer) for layer in decoder.layers],
        of_norm=decoder.norm.weight,
        epsilon=decoder.norm.variance_epsilon,
        n_heads=model.config.num_attention_heads,
        scaling=decoder.layers[0].self_attn.scaling,
    )


@dataclass(frozen=True)
class Course:
    """What every layer reads beside its rows and weights.

    Attributes
    ----------
    plain : Plain
    turns : Turns
    layout : Layout
        Of the kind ``documents``.
    where : Tensor of int64
        Tokens that the last layer goes on with after its attention.
    spread : Tensor of int64, shape (n_tokens,) or None
        Token -> its row of the first layer's, where those are of distinct tokens: what a layer makes of a token before
        its place counts is the same wherever it stands.
    """

    plain: Plain
    turns: Turns
    layout: Layout
    where: torch.Tensor
    spread: torch.Tensor | None


def run_layers(plain: Plain, flat: Tokens, layout: Layout, recompute: bool) -> torch.Tensor:
    """Run all layers and the last norm, see :func:`~causalmix.train.decoder.run_decoder`.

    With ``recompute`` a layer keeps its input alone, and computes the rest again on the way back.
    """
    ids, spread = flat.input_ids, None
    if plain.embedding.weight.ndim == 2 and len(plain.layers) > 1:  # in a stack each run has tokens of its own
        ids, spread = torch.unique(ids, return_inverse=True)
    rows = plain.embedding(ids)
    turns = find_turns(plain.rotary, rows, flat.position_ids, layout.longest)
    course = Course(plain, turns, layout, flat.where, spread)
    weights = chain.from_iterable(plain.layers)
    forgets = recompute or not torch.is_grad_enabled()
    return torch.as_tensor(Layers.apply(rows, course, forgets, plain.of_norm, *weights))  # type: ignore[no-untyped-call]


class Layer:
    """One layer over one batch.

    Parameters
    ----------
    weights : sequence of Tensor
        From :func:`~causalmix.train.layer.list_weights`.
    course : Course
    is_first, is_last : bool
    """

    def __init__(self, weights: Tensors, course: Course, is_first: bool, is_last: bool) -> None:
        self.weights, self.course, self.is_last = weights, course, is_last
        self.spread = course.spread if is_first else None
        self.asks = is_last and course.layout.asked is not None

    def run(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the output, in the last layer of the tokens at ``course.where`` alone."""
        course, plain = self.course, self.course.plain
        self.rows = rows
        self.opening = Opening(self.weights[:N_OPENING], course.turns, plain.epsilon)
        self.documents = Documents(course.layout, plain.n_heads, plain.scaling)
        self.closing = Closing(self.weights[N_OPENING:], plain.epsilon)
        self.has_run = True
        mixed = self.documents.run(self.opening.run(rows, self.spread, course.where if self.asks else None))
        rows = rows if self.spread is None else rows.index_select(0, self.spread)
        if self.is_last:
            rows = rows.index_select(0, course.where)
            mixed = mixed if self.asks else mixed.index_select(0, course.where)
        return self.closing.run(rows, mixed)

    def forget(self) -> None:
        """Keep the input alone."""
        del self.opening, self.documents, self.closing
        self.has_run = False

    def go_back(self, grad: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the gradients of rows and weights."""
        if not self.has_run:
            self.run(self.rows)
        of_rows, of_mixed, of_closing = self.closing.go_back(grad)
        if self.is_last:
            n_tokens = len(self.course.turns.forth)
            of_rows = add_at(of_rows, self.course.where, n_tokens)
            of_mixed = of_mixed if self.asks else add_at(of_mixed, self.course.where, n_tokens)
        of_rows = of_rows if self.spread is None else add_at(of_rows, self.spread, len(self.rows))
        more, of_opening = self.opening.go_back(self.documents.go_back(of_mixed))
        return of_rows.add_(more), of_opening + of_closing


class Layers(torch.autograd.Function):
    """All layers and the norm after them."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, course: Course, forgets: bool, of_norm: torch.Tensor, *weights: torch.Tensor
    ) -> torch.Tensor:
        """Return states at ``course.where``, before the head; ``weights`` are those of ``course.plain.layers``."""
        last = len(course.plain.layers) - 1
        layers = [Layer(own, course, at == 0, at == last) for at, own in enumerate(course.plain.layers)]
        for layer in layers:
            rows = layer.run(rows)
            if forgets:
                layer.forget()
        unit, inverse = normalise(rows, course.plain.epsilon)
        ctx.kept = layers, unit, inverse, of_norm
        return scale(unit, of_norm)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Go back through the norm and the layers, and let go of what each has kept."""
        layers, unit, inverse, of_norm = ctx.kept
        del ctx.kept  # not kept for a second time
        grad, of_scale = renormalise(grads[0], unit, inverse, of_norm)
        of_weights: list[torch.Tensor] = []
        while layers:
            grad, own = layers.pop().go_back(grad)
            of_weights = own + of_weights
        return grad, None, None, of_scale, *of_weights
