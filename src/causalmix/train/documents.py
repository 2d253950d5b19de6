"""Attention inside of documents for layers that are written out: forward, and back from its gradient."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from causalmix.train.attention import Gathering, Layout
from causalmix.train.dense import DENSE, Dense, attend_dense
from causalmix.train.heads import Tensors


class Documents:
    """One layer's attention over a batch.

    Parameters
    ----------
    layout : Layout
        Of the kind ``documents``.
    n_heads : int
        Of queries.
    scaling : float
        Of the scores.
    """

    def __init__(self, layout: Layout, n_heads: int, scaling: float) -> None:
        assert layout.whole is not None
        self.layout, self.n_heads, self.scaling = layout, n_heads, scaling
        self.whole: Gathering = layout.whole
        self.groups: list[Dense | Long] = []

    def run(self, made: list[torch.Tensor]) -> torch.Tensor:
        """Attend.

        Parameters
        ----------
        made : list of Tensor
            From :meth:`~causalmix.train.layer.Opening.run`.

        Returns
        -------
        Tensor, shape (n_queries, n_heads * size)
        """
        asked = self.layout.asked if len(made) == 2 else None
        self.ways = [self.whole] if asked is None else [asked, self.whole]  # how each of the made is gathered
        self.widths = [part.shape[1] for part in made]
        masks = self.layout.masks if asked is not None else [None] * len(self.whole.groups)
        gathered = [part.index_select(0, way.gather) for part, way in zip(made, self.ways)]
        for (query, key, value), mask in zip(self._cut(gathered), masks):
            attend = Long if key.shape[1] > DENSE else attend_dense
            self.groups.append(attend(query, key, value, mask, self.scaling))
        outputs = [group.mixed.reshape(-1, self.n_heads * made[0].shape[2]) for group in self.groups]
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return joined.detach().index_select(0, self.ways[0].scatter)

    def go_back(self, grad: torch.Tensor) -> list[torch.Tensor]:
        """Return the gradients of ``made`` from that of what :meth:`run` returned."""
        way, size = self.ways[0], grad.shape[1] // self.n_heads
        # What fills documents up asks for nothing, so the gradient there is none.
        filled = grad.new_zeros(len(way.gather), grad.shape[1]).index_copy_(0, way.scatter, grad)
        buffers = [grad.new_empty(len(way.gather), width, size) for way, width in zip(self.ways, self.widths)]
        of_mixed = way.cut(filled.view(len(filled), -1, size))
        for group, of_group, places in zip(self.groups, of_mixed, self._cut(buffers)):
            for place, found in zip(places, group.find_gradients(of_group)):
                place.copy_(found)
        return [part.index_select(0, way.scatter) for part, way in zip(buffers, self.ways)]

    def _cut(self, gathered: list[torch.Tensor]) -> list[Tensors]:
        """Cut into queries, keys and values of each group, of shape (n_documents, length, heads, size) each."""
        parts = [way.cut(part) for way, part in zip(self.ways, gathered)]
        if len(parts) == 2:
            return [(query, *pairs.chunk(2, dim=2)) for query, pairs in zip(*parts)]
        n_keys = (self.widths[0] - self.n_heads) // 2
        sizes = [self.n_heads, n_keys, n_keys]
        return [part.split_with_sizes(sizes, dim=2) for part in parts[0]]


class Long:
    """Attention of documents that are too long for dense products, by torch and with its gradient.

    Parameters
    ----------
    query, key, value, mask, scaling
        As of :func:`~causalmix.train.dense.attend_dense`.

    Attributes
    ----------
    mixed : Tensor, of the shape of ``query``
    """

    def __init__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
    ) -> None:
        self.inputs = [part.detach().requires_grad_() for part in (query, key, value)]
        mask = None if mask is None else mask.to(key.dtype)[:, None]
        with torch.enable_grad():
            queries, keys, values = (part.transpose(1, 2) for part in self.inputs)
            mixed = scaled_dot_product_attention(
                queries, keys, values, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
            )
            self.mixed = mixed.transpose(1, 2)

    def find_gradients(self, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Go back to queries, keys and values."""
        return torch.autograd.grad(self.mixed, self.inputs, grad)
