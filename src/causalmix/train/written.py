"""The layers of a decoder as one step of autograd, forward and backward pass written out, for a CPU.

A step of a tiny model is hundreds of calls, each of which costs about what it computes. Here a layer is some seventy for
both passes, and autograd sees one for all layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from causalmix.train.attention import Layout
from causalmix.train.documents import Documents
from causalmix.train.heads import find_turns
from causalmix.train.layer import N_OPENING, Closing, Opening, Places, Tensors, list_weights
from causalmix.train.products import normalise, renormalise, scale

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from causalmix.train.flat import Flat


@dataclass(frozen=True)
class Course:
    """What every layer reads beside rows and weights.

    Attributes
    ----------
    places : Places
    layout : Layout
        Of the kind ``documents``.
    where : Tensor of int64
        Tokens that the last layer goes on with after its attention.
    n_heads : int
        Of queries.
    scaling : float
        Of attention's scores.
    recompute : bool
        Keep a layer's input alone, and compute the rest again on the way back.
    """

    places: Places
    layout: Layout
    where: torch.Tensor
    n_heads: int
    scaling: float
    recompute: bool


def run_layers(model: PreTrainedModel, flat: Flat, layout: Layout, recompute: bool) -> torch.Tensor:
    """Run all layers and the last norm; parameters and return value are those of
    :func:`~causalmix.train.decoder.run_decoder`.
    """
    decoder, config = model.get_decoder(), model.config
    rows = decoder.embed_tokens(flat.input_ids)
    turns = find_turns(model, rows, flat.position_ids, layout.longest)
    attention = decoder.layers[0].self_attn
    n_turned = config.num_attention_heads + config.num_key_value_heads
    places = Places(turns, torch.conj_physical(turns), n_turned, decoder.norm.variance_epsilon)
    course = Course(places, layout, flat.where, config.num_attention_heads, attention.scaling, recompute)
    weights = [weight for layer in decoder.layers for weight in list_weights(layer)]
    return torch.as_tensor(Layers.apply(rows, course, decoder.norm.weight, *weights))  # type: ignore[no-untyped-call]


class Layer:
    """One layer over one batch.

    Parameters
    ----------
    weights : sequence of Tensor
        From :func:`~causalmix.train.layer.list_weights`.
    course : Course
    is_last : bool
    """

    def __init__(self, weights: Tensors, course: Course, is_last: bool) -> None:
        self.weights, self.course, self.is_last = weights, course, is_last

    def run(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the output, in the last layer of the tokens at ``course.where`` alone."""
        course = self.course
        self.rows = rows
        self.opening = Opening(self.weights[:N_OPENING], course.places)
        self.documents = Documents(course.layout, course.n_heads, course.scaling)
        self.closing = Closing(self.weights[N_OPENING:], course.places.epsilon)
        self.has_run = True
        mixed = self.documents.run(self.opening.run(rows))
        if self.is_last:
            rows, mixed = (part.index_select(0, course.where) for part in (rows, mixed))
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
        if self.is_last:  # labels that fill a stack's run up name any place, again and again
            nothing = torch.zeros_like(self.rows), self.rows.new_zeros(len(self.rows), of_mixed.shape[1])
            of_rows, of_mixed = (
                none.index_add_(0, self.course.where, part) for none, part in zip(nothing, (of_rows, of_mixed))
            )
        more, of_opening = self.opening.go_back(self.documents.go_back(of_mixed))
        return of_rows.add_(more), of_opening + of_closing


class Layers(torch.autograd.Function):
    """All layers and the norm after them."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, course: Course, of_norm: torch.Tensor, *weights: torch.Tensor
    ) -> torch.Tensor:
        """Return states at ``course.where``, before the head."""
        n_each = N_OPENING + 5
        starts = range(0, len(weights), n_each)
        layers = [Layer(weights[at : at + n_each], course, at == starts[-1]) for at in starts]
        for layer in layers:
            rows = layer.run(rows)
            if course.recompute:
                layer.forget()
        unit, inverse = normalise(rows, course.places.epsilon)
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
        return grad, None, of_scale, *of_weights
