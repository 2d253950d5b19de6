"""Attention of short sequences as dense products, with its gradient written out, for a CPU.

Up to a hundred-odd tokens torch's own kernel takes longer: its blocks are for long sequences. Scores are made of all
keys, also of those that a query does not see. Heads that share keys stand below each other in one product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

DENSE = 128  # keys up to which this pays


@dataclass(frozen=True)
class Dense:
    """What attention found, and what its gradient needs.

    Attributes
    ----------
    query, key, value, shares, found : Tensor, shape (n * key heads, rows, ...)
        Queries of the heads that share keys lie end to end.
    scale : float
    n, n_queries : int
        Sequences, and queries of each head of them.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    shares: torch.Tensor
    found: torch.Tensor
    scale: float
    n: int
    n_queries: int

    @property
    def mixed(self) -> torch.Tensor:
        """What attention found, shape (n, n_queries, heads, size)."""
        return unfold_heads(self.found, self.n, self.n_queries)

    def find_gradients(self, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Go back from ``grad``, shape (n, n_queries, heads, size), to queries, keys and values, each of its shape."""
        n, n_keys = self.n, self.key.shape[1]
        of_mixed = fold_heads(grad, len(self.key) // n)
        of_value = torch.bmm(self.shares.transpose(1, 2), of_mixed)
        along = torch.linalg.vecdot(of_mixed, self.found).unsqueeze(-1)
        slopes = torch.baddbmm(along, of_mixed, self.value.transpose(1, 2), beta=-self.scale, alpha=self.scale)
        slopes.mul_(self.shares)
        of_query = torch.bmm(slopes, self.key)
        of_key = torch.bmm(slopes.transpose(1, 2), self.query)
        return (
            unfold_heads(of_query, n, self.n_queries),
            unfold_heads(of_key, n, n_keys),
            unfold_heads(of_value, n, n_keys),
        )


def attend_dense(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> Dense:
    """Attend within each of several sequences.

    Parameters
    ----------
    query : Tensor, shape (n, n_queries, heads, size)
    key, value : Tensor, shape (n, n_keys, key heads, size)
    mask : Tensor, shape (n, n_queries, n_keys), or None
        Added to the scores, 0 or minus infinity; None where there is a query a key, in order, which sees those before.
    scale : float
        Of the scores.
    """
    n_key_heads, n_copies = key.shape[2], query.shape[2] // key.shape[2]
    queries, keys, values = (fold_heads(part, n_key_heads) for part in (query, key, value))
    if mask is None:
        mask = find_mask(key.shape[1], n_copies, key.dtype)
    else:
        mask = mask.to(key.dtype)[:, None].expand(-1, query.shape[2], -1, -1).reshape(keys.shape[0], -1, key.shape[1])
    shares = torch.baddbmm(mask, queries, keys.transpose(1, 2), alpha=scale).softmax(-1)
    return Dense(queries, keys, values, shares, torch.bmm(shares, values), scale, *query.shape[:2])


@lru_cache(maxsize=2 * DENSE)
def find_mask(length: int, n_copies: int, dtype: torch.dtype) -> torch.Tensor:
    """Let a query see keys up to its own place, for as many heads as share keys; shape (n_copies * length, length)."""
    return torch.full((length, length), -torch.inf, dtype=dtype).triu(1).repeat(n_copies, 1)


def fold_heads(rows: torch.Tensor, n_key_heads: int) -> torch.Tensor:
    """Lay shape (n, n_rows, heads, size) out as (n * key heads, heads / key heads * n_rows, size)."""
    return rows.transpose(1, 2).reshape(rows.shape[0] * n_key_heads, -1, rows.shape[-1])


def unfold_heads(folded: torch.Tensor, n: int, n_rows: int) -> torch.Tensor:
    """Undo :func:`fold_heads`, without a copy."""
    return folded.view(n, -1, n_rows, folded.shape[-1]).transpose(1, 2)
