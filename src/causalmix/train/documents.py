"""Attention inside of documents for layers that are written out: forward, and back from its gradient."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn.functional import scaled_dot_product_attention

from causalmix.train.attention import Layout
from causalmix.train.dense import DENSE, Dense, attend_dense


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
        self.layout, self.n_heads, self.scaling = layout, n_heads, scaling
        self.groups: list[Dense | Long] = []

    def run(self, heads: torch.Tensor) -> torch.Tensor:
        """Attend.

        Parameters
        ----------
        heads : Tensor, shape (n_tokens, heads, size)
            Of queries, of keys and of values, in this order.

        Returns
        -------
        Tensor, shape (n_tokens, n_heads * size)
        """
        assert self.layout.gather is not None and self.layout.scatter is not None
        self.n_key_heads = (heads.shape[1] - self.n_heads) // 2
        parts = self._cut(heads.index_select(0, self.layout.gather))
        outputs = [self._attend(part).flatten(2).flatten(0, 1) for part in parts]
        whole = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return whole.index_select(0, self.layout.scatter)

    def go_back(self, grad: torch.Tensor) -> torch.Tensor:
        """Return the gradient of ``heads`` from that of what :meth:`run` returned."""
        layout = self.layout
        assert layout.gather is not None and layout.scatter is not None
        n_all, size = self.n_heads + 2 * self.n_key_heads, grad.shape[1] // self.n_heads
        # What fills documents up is no query of anything, so the gradient there is none.
        filled = grad.new_zeros(len(layout.gather), grad.shape[1]).index_copy_(0, layout.scatter, grad)
        of_heads = grad.new_empty(len(layout.gather), n_all, size)
        ways = zip(self.groups, self._cut(filled.view(len(filled), -1, size)), self._cut(of_heads))
        for group, of_mixed, of_part in ways:
            places = of_part.split([self.n_heads, self.n_key_heads, self.n_key_heads], dim=2)
            for place, found in zip(places, group.find_gradients(of_mixed)):
                place.copy_(found)
        return of_heads.index_select(0, layout.scatter)

    def _cut(self, gathered: torch.Tensor) -> list[torch.Tensor]:
        """Cut into groups of shape (n_documents, length, heads, size)."""
        shapes = self.layout.groups
        parts = gathered.split([n_documents * length for n_documents, length in shapes])
        return [part.unflatten(0, shape) for part, shape in zip(parts, shapes)]

    def _attend(self, part: torch.Tensor) -> torch.Tensor:
        query, key, value = part.split([self.n_heads, self.n_key_heads, self.n_key_heads], dim=2)
        length = part.shape[1]
        if length > DENSE:
            group: Dense | Long = Long(query, key, value, self.scaling)
            self.groups.append(group)
            return group.mixed.detach()
        mask = find_mask(length, self.n_heads // self.n_key_heads, part.dtype)
        mixed, group = attend_dense(query, key, value, mask, self.scaling)
        self.groups.append(group)
        return mixed


class Long:
    """Attention of documents that are too long for dense products, by torch and with its gradient.

    Parameters
    ----------
    query, key, value : Tensor, shape (n, length, heads, size)
    scaling : float

    Attributes
    ----------
    mixed : Tensor, of the shape of ``query``
    """

    def __init__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> None:
        self.inputs = [part.detach().requires_grad_() for part in (query, key, value)]
        with torch.enable_grad():
            parts = [part.transpose(1, 2) for part in self.inputs]
            mixed = scaled_dot_product_attention(*parts, is_causal=True, scale=scaling, enable_gqa=True)
            self.mixed = mixed.transpose(1, 2)

    def find_gradients(self, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Go back to queries, keys and values."""
        return torch.autograd.grad(self.mixed, self.inputs, grad)


@lru_cache(maxsize=2 * DENSE)
def find_mask(length: int, n_copies: int, dtype: torch.dtype) -> torch.Tensor:
    """Let a query see keys up to its own place, for as many heads as share keys; see :func:`attend_dense`."""
    return torch.full((length, length), -torch.inf, dtype=dtype).triu(1).repeat(n_copies, 1)
