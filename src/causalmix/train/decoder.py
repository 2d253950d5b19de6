"""The decoder of Qwen2 and Qwen3 over documents that lie end to end.

It calls the layers of the transformers model itself, adapters included, and differs from its ``forward`` in
three ways: tokens have no rows and no padding, attention stays inside documents, and the last layer goes on
after its attention with the labelled positions alone, which are all that the head is asked about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils.checkpoint import checkpoint

from causalmix.train.attention import Layout, attend
from causalmix.train.branches import Branches, attend_branches
from causalmix.train.device import keep_compiled
from causalmix.train.kernels import Gate, RootMeanSquareNorm, Rotation, swap_halves
from causalmix.train.scoring import score_layers
from causalmix.train.written import Plain, find_plain, run_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Angles = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, shape (n_tokens, n_heads or 1, size)


@dataclass(frozen=True)
class Decoding:
    """How the decoder runs; nothing here changes more than rounding.

    Attributes
    ----------
    recompute : bool
        Compute a layer's activations again in the backward pass instead of keeping them.
    compile : bool
        Through torch.compile, one graph for all layers.
    plain : Plain, optional
        What :mod:`~causalmix.train.written` computes the layers from, where it can.
    is_settled : bool
        Whether it was looked for, which takes longer than a layer: see :func:`settle`.
    """

    recompute: bool = False
    compile: bool = False
    plain: Plain | None = None
    is_settled: bool = False


class Tokens(Protocol):
    """What is read of a batch: a :class:`~causalmix.train.flat.Flat`, or the tokens of branches."""

    @property
    def input_ids(self) -> torch.Tensor:
        """Tokens, end to end."""

    @property
    def position_ids(self) -> torch.Tensor:
        """Their places in their documents."""

    @property
    def where(self) -> torch.Tensor:
        """Those whose states are asked for, rising."""


def run_decoder(
    model: PreTrainedModel, flat: Tokens, layout: Layout | Branches, how: Decoding | None = None
) -> torch.Tensor:
    """Run all layers and the last norm.

    Parameters
    ----------
    model : PreTrainedModel
        Of a family that :func:`~causalmix.train.pretrained.check_family` lets through.
    flat : Tokens
    layout : Layout or Branches
        Of the same batch.
    how : Decoding, optional

    Returns
    -------
    Tensor, shape (n_targets, hidden)
        States at ``flat.where``, before the head.
    """
    how = settle(model, how or Decoding())
    if how.plain is not None:
        if isinstance(layout, Branches):
            return score_layers(how.plain, flat, layout)
        return run_layers(how.plain, flat, layout, how.recompute)
    decoder = model.get_decoder()
    mix, finish = (compile_part(mix_tokens), compile_part(finish_layer)) if how.compile else (mix_tokens, finish_layer)
    *layers, last = decoder.layers
    rows = decoder.embed_tokens(flat.input_ids)
    angles = find_angles(model, rows, flat.position_ids, layout.longest)
    for layer in layers:
        if how.recompute and torch.is_grad_enabled():
            run = _join(mix, finish)
            rows = checkpoint(run, layer, rows, angles, layout, use_reentrant=False)
        else:
            rows = finish(layer, rows, mix(layer, rows, angles, layout))
    if isinstance(layout, Branches) and layout.last is not None:
        mixed = mix(last, rows, angles, layout.last, flat.where)
    else:
        mixed = mix(last, rows, angles, layout).index_select(0, flat.where)
    return norm(decoder.norm, finish(last, rows.index_select(0, flat.where), mixed))


def settle(model: PreTrainedModel, how: Decoding) -> Decoding:
    """Find out once how a model's layers are computed; adapters or weights that are exchanged later change it."""
    if how.is_settled:
        return how
    return replace(how, plain=None if how.compile else find_plain(model), is_settled=True)


def find_angles(model: PreTrainedModel, rows: torch.Tensor, position_ids: torch.Tensor, longest: int) -> Angles:
    """Ask the model for the rotary angles of every position there is, and hand them to the tokens.

    The first half of the sines is negated, see :func:`rotate`. On a CPU they are laid out for every head: plain
    products of equal shapes run at full speed there.
    """
    places = torch.arange(longest, device=rows.device)[None]
    cos, sin = model.get_decoder().rotary_emb(rows, places)
    half = cos.shape[-1] // 2
    sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
    n_copies = model.config.num_attention_heads if rows.device.type == "cpu" else 1
    wide = [part[0, :, None].expand(-1, n_copies, -1).contiguous().index_select(0, position_ids) for part in (cos, sin)]
    return wide[0], wide[1]


def mix_tokens(
    layer: Any, rows: torch.Tensor, angles: Angles, layout: Layout | Branches, asked: torch.Tensor | None = None
) -> torch.Tensor:
    """Run a layer's attention, up to its output projection; shape (n_tokens or n_asked, heads * size)."""
    attention = layer.self_attn
    inputs = norm(layer.input_layernorm, rows)
    asking = inputs if asked is None else inputs.index_select(0, asked)
    turned = angles if asked is None else (angles[0].index_select(0, asked), angles[1].index_select(0, asked))
    shape = (len(rows), -1, attention.head_dim)
    query = attention.q_proj(asking).view(len(asking), -1, attention.head_dim)
    key, value = attention.k_proj(inputs).view(shape), attention.v_proj(inputs).view(shape)
    if hasattr(attention, "q_norm"):  # Qwen3
        query, key = norm(attention.q_norm, query), norm(attention.k_norm, key)
    query, key = rotate(query, turned).to(value.dtype), rotate(key, angles).to(value.dtype)
    return attend_rows(query, key, value, layout, attention.scaling)


def attend_rows(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout | Branches, scale: float
) -> torch.Tensor:
    """Attend in the way that a layout is for; shape (n_queries, heads * size)."""
    if isinstance(layout, Branches):
        return attend_branches(query, key, value, layout, scale)
    return attend(query, key, value, layout, scale)


def finish_layer(layer: Any, rows: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    """Add what attention found, then what the feed-forward part makes of it."""
    rows = rows + layer.self_attn.o_proj(mixed)
    inputs = norm(layer.post_attention_layernorm, rows)
    gate, up = layer.mlp.gate_proj(inputs), layer.mlp.up_proj(inputs)
    is_cpu = gate.device.type == "cpu"
    gated = Gate.apply(gate, up) if is_cpu else layer.mlp.act_fn(gate) * up  # type: ignore[no-untyped-call]
    return torch.as_tensor(rows + layer.mlp.down_proj(gated))


def norm(module: Any, rows: torch.Tensor) -> torch.Tensor:
    """Apply a model's RMSNorm."""
    is_plain = module.weight.ndim == 1  # a stack of several models' has a norm of its own
    if rows.device.type != "cpu" or rows.dtype == torch.bfloat16 or not is_plain:  # the module goes through float32
        return torch.as_tensor(module(rows))
    return torch.as_tensor(RootMeanSquareNorm.apply(rows, module.weight, module.variance_epsilon))  # type: ignore[no-untyped-call]


def rotate(rows: torch.Tensor, angles: Angles) -> torch.Tensor:
    """Apply rotary positions to shape (n_tokens, heads, size)."""
    cos, sin = (part[:, : rows.shape[1]] for part in angles)
    if rows.device.type == "cpu" and rows.dtype == cos.dtype:
        return torch.as_tensor(Rotation.apply(rows, cos, sin))  # type: ignore[no-untyped-call]
    return torch.addcmul(rows * cos, swap_halves(rows), sin)


@lru_cache(maxsize=4)
def compile_part(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Compile a part of a layer once a process; torch keeps the result for the next one."""
    keep_compiled()
    return torch.compile(function)


def _join(mix: Callable[..., torch.Tensor], finish: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def run(layer: Any, rows: torch.Tensor, angles: Angles, layout: Layout | Branches) -> torch.Tensor:
        return finish(layer, rows, mix(layer, rows, angles, layout))

    return run
