"""Causal attention inside each of many documents that lie end to end.

Three ways that give the same numbers. ``documents`` gathers documents of like length beside each other for
torch's scaled_dot_product_attention: everywhere, and the fastest on a CPU. ``varlen`` is torch's FlashAttention
over boundaries: on an NVIDIA GPU from Ampere on, in half precision. ``flex`` is torch's flex attention with a
block mask, where there is a GPU without the former. None attends over padding or from one document to another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from causalmix.errors import TrainError, nearest_name
from causalmix.train.device import keep_compiled
from causalmix.train.flat import Flat

KINDS = ("documents", "varlen", "flex")
SHORT = 64  # documents up to this many tokens are gathered together: below it a call costs more than padding
MASKED = 2**22  # pairs of a label and a token, for which a mask is made, at most
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Gathering:
    """Rows of documents of like length beside each other, each document filled up to its group's longest.

    Attributes
    ----------
    gather : Tensor of int64, shape (n_gathered,)
        Position -> row, group after group, document after document; what fills one up is any row of it.
    scatter : Tensor of int64, shape (n_rows,)
        Row -> position.
    groups : tuple of (n_documents, length)
        The shapes in ``gather``.
    """

    gather: torch.Tensor
    scatter: torch.Tensor
    groups: tuple[tuple[int, int], ...]

    def to(self, device: torch.device) -> Gathering:
        """Return the same on a device."""
        if device.type == "cpu":
            return self
        return replace(self, gather=self.gather.to(device), scatter=self.scatter.to(device))

    def cut(self, gathered: torch.Tensor) -> list[torch.Tensor]:
        """Cut gathered rows into groups of shape (n_documents, length, ...)."""
        rest = gathered.shape[1:]
        if len(self.groups) == 1:
            return [gathered.view(*self.groups[0], *rest)]
        parts = gathered.split_with_sizes([n_documents * length for n_documents, length in self.groups])
        return [part.view(*shape, *rest) for part, shape in zip(parts, self.groups)]


@dataclass(frozen=True)
class Layout:
    """What one way needs to know of a batch, made once for all layers.

    Attributes
    ----------
    kind : str
        One of ``KINDS``.
    boundaries : Tensor of int32, shape (n_documents + 1,)
    longest : int
        Tokens of the longest document, or a bound that does not change from batch to batch.
    whole : Gathering
        ``documents``: of all tokens. What fills a document up follows it, so causal attention never looks at it.
    asked : Gathering or None
        ``documents``: of the tokens that carry a label, in groups of the same documents; None where one has none or
        where they are many.
    masks : tuple of Tensor, shape (n_documents, n_queries, n_keys)
        ``documents``: what each of these sees of its document, 0 or minus infinity.
    block_mask : BlockMask
        ``flex``.
    """

    kind: str
    boundaries: torch.Tensor
    longest: int
    whole: Gathering | None = None
    asked: Gathering | None = None
    masks: tuple[torch.Tensor, ...] = ()
    block_mask: Any = None


def choose_attention(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """Turn ``auto`` into the best of the ways that a device and dtype have.

    Raises
    ------
    TrainError
        For a name that is none of them, or one that needs another device or dtype.
    """
    if name not in ("auto", *KINDS):
        raise TrainError(
            f"train.attention={name!r} is not one of auto, {', '.join(KINDS)}{nearest_name(name, [*KINDS])}."
        )
    is_half = dtype in (torch.bfloat16, torch.float16)
    has_varlen = device.type == "cuda" and is_half and torch.cuda.get_device_capability(device) >= (8, 0)
    if name == "auto":
        return "varlen" if has_varlen else "flex" if device.type == "cuda" and is_half else "documents"
    if name == "varlen" and not has_varlen:
        raise TrainError(
            f"train.attention=varlen needs an NVIDIA GPU from Ampere on and model.dtype=bfloat16; here it is {device} "
            f"with {dtype}: use train.attention=auto."
        )
    if name == "flex" and device.type == "cpu":
        raise TrainError("train.attention=flex has no gradients on a CPU: use train.attention=auto.")
    return name


def lay_out(flat: Flat, kind: str, longest: int = 0) -> Layout:
    """Prepare a batch for one way of attention.

    Parameters
    ----------
    flat : Flat
        On its device.
    kind : str
        From :func:`choose_attention`.
    longest : int
        A bound on a document's tokens; 0 takes the batch's own.
    """
    longest = longest or int(flat.lengths.max())
    if kind == "documents":
        return _gather_documents(flat, longest)
    if kind == "flex":
        return Layout(kind, flat.boundaries, longest, block_mask=make_block_mask(flat.boundaries, len(flat.input_ids)))
    return Layout(kind, flat.boundaries, longest)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float) -> torch.Tensor:
    """Attend within documents.

    Parameters
    ----------
    query : Tensor, shape (n_tokens, n_heads, size)
    key, value : Tensor, shape (n_tokens, n_kv_heads, size)
    layout : Layout
    scale : float
        Of the scores.

    Returns
    -------
    Tensor, shape (n_tokens, n_heads * size)
    """
    if layout.kind == "documents":
        return torch.as_tensor(_attend_documents(query, key, value, layout, scale))
    if layout.kind == "varlen":
        from torch.nn.attention.varlen import varlen_attn

        bounds = (layout.boundaries, layout.boundaries, layout.longest, layout.longest)
        out = varlen_attn(query, key, value, *bounds, scale=scale, window_size=(-1, 0), enable_gqa=True)
        return torch.as_tensor(out).flatten(1)
    query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
    out = _flex_attention(query.device.type)(
        query, key, value, block_mask=layout.block_mask, scale=scale, enable_gqa=True
    )
    return torch.as_tensor(out)[0].transpose(0, 1).flatten(1)


def make_block_mask(boundaries: torch.Tensor, n_tokens: int) -> Any:
    """Build flex attention's mask: a token sees the earlier ones of its own document."""
    from torch.nn.attention.flex_attention import create_block_mask

    document = document_of(boundaries, n_tokens)

    def sees(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (document[query] == document[key]) & (query >= key)

    return create_block_mask(sees, None, None, n_tokens, n_tokens, device=str(boundaries.device))


def document_of(boundaries: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """Number the document of each token, shape (n_tokens,); empty documents at the end have none."""
    tokens = torch.arange(n_tokens, device=boundaries.device, dtype=boundaries.dtype)
    return torch.searchsorted(boundaries, tokens, right=True)


class Regroup(torch.autograd.Function):
    """Move rows by an index, and their gradients by the inverse index: a copy each, nothing added up."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, forth: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        """Take ``rows[forth]``; rows that ``back`` does not name again get no gradient."""
        ctx.save_for_backward(forth, back)
        return rows.index_select(0, forth)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Take the gradient's rows back."""
        forth, back = ctx.saved_tensors
        if len(forth) >= len(back):
            return grads[0].index_select(0, back), None, None
        filled = grads[0].new_zeros(len(back), *grads[0].shape[1:])
        return filled.index_copy_(0, forth, grads[0]), None, None


def _gather_documents(flat: Flat, longest: int) -> Layout:
    device = flat.input_ids.device
    groups = _group_lengths(flat.lengths)
    whole = _gather(flat.lengths, groups)
    layout = Layout("documents", flat.boundaries, longest, whole=whole.to(device))
    where = flat.where.numpy(force=True)
    owners = np.searchsorted(np.cumsum(flat.lengths), where, side="right")
    counts = np.bincount(owners, minlength=len(flat.lengths))
    if not counts.all() or (owners[1:] < owners[:-1]).any():
        return layout
    asked = _gather(counts, groups)
    pairs, all_pairs = (
        sum(n * own * longest for (n, own), (_, longest) in zip(way.groups, whole.groups)) for way in (asked, whole)
    )
    if pairs > min(MASKED, all_pairs // 2):
        return layout
    places = torch.from_numpy(flat.position_ids.numpy(force=True)[where])[asked.gather]
    shapes = zip(asked.cut(places), whole.groups)
    masks = tuple(_hide_later(place.numpy(), length).to(device) for place, (_, length) in shapes)
    return replace(layout, asked=asked.to(device), masks=masks)


def _group_lengths(lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Put documents together that are at most twice as long as each other, and all short ones."""
    if lengths.max() <= SHORT:
        return [np.arange(len(lengths))]
    classes = np.ceil(np.log2(np.maximum(lengths, SHORT)))
    return [np.flatnonzero(classes == size) for size in np.unique(classes)]


def _gather(counts: NDArray[np.int64], groups: list[NDArray[np.int64]]) -> Gathering:
    """Gather rows of documents, of which each has so many, on the CPU."""
    starts = np.cumsum(counts) - counts
    gather, scatter, shapes, at = [], np.empty(counts.sum(), dtype=np.int64), [], 0
    for chosen in groups:
        own = counts[chosen, None]
        columns = np.arange(own.max())
        rows = starts[chosen, None] + np.minimum(columns, own - 1)
        is_own = columns < own
        scatter[rows[is_own]] = at + np.flatnonzero(is_own)
        gather.append(rows.ravel())
        shapes.append(rows.shape)
        at += rows.size
    joined = gather[0] if len(gather) == 1 else np.concatenate(gather)
    return Gathering(torch.from_numpy(joined), torch.from_numpy(scatter), tuple(shapes))


def _hide_later(places: NDArray[np.int64], n_keys: int) -> torch.Tensor:
    return torch.from_numpy(np.where(np.arange(n_keys) > places[..., None], np.float32(-np.inf), np.float32(0.0)))


@torch.compiler.disable  # type: ignore[untyped-decorator]  # its shapes are another for every batch
def _attend_documents(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float
) -> torch.Tensor:
    way = layout.whole
    assert way is not None
    gathered = [Regroup.apply(part, way.gather, way.scatter) for part in (query, key, value)]  # type: ignore[no-untyped-call]
    outputs = []
    for group in zip(*map(way.cut, gathered)):
        queries, keys, values = (part.transpose(1, 2) for part in group)
        out = scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale, enable_gqa=True)
        outputs.append(out.transpose(1, 2).flatten(0, 1).flatten(1))
    whole = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return torch.as_tensor(Regroup.apply(whole, way.scatter, way.gather))  # type: ignore[no-untyped-call]


@lru_cache(maxsize=2)
def _flex_attention(device: str) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    keep_compiled()
    return torch.compile(flex_attention, dynamic=False)
