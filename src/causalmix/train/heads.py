"""Queries, keys and values of a layer that is written out: in one product, columns that turn together side by side.

Products of queries and keys do not see the order of a head's columns, so weights are put in it and nothing else is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch

Tensors = Sequence[torch.Tensor]
_TURNS: WeakKeyDictionary[torch.nn.Module, Turns] = WeakKeyDictionary()


@dataclass(frozen=True)
class Turns:
    """Rotary angles of tokens at their places, as numbers on the unit circle, and their inverse.

    Attributes
    ----------
    forth, back : complex Tensor, shape (n_tokens, size / 2)
    """

    forth: torch.Tensor
    back: torch.Tensor

    @property
    def size(self) -> int:
        """Columns of a head."""
        return 2 * self.forth.shape[-1]

    def select(self, tokens: torch.Tensor) -> Turns:
        """Return those of some tokens."""
        return Turns(self.forth.index_select(0, tokens), self.back.index_select(0, tokens))


def find_turns(rotary: Any, rows: torch.Tensor, position_ids: torch.Tensor, longest: int) -> Turns:
    """Ask a model for the rotary angles of every position there is, and hand them to the tokens.

    Those of a usual model are kept for the next batch, since none depends on how many there are.
    """
    known = _TURNS.get(rotary)
    if known is None or len(known.forth) < longest or known.forth.dtype.to_real() != rows.dtype:
        is_usual = getattr(rotary, "rope_type", None) == "default"
        longest = 1 << (longest - 1).bit_length() if is_usual else longest
        cos, sin = (part[0, :, : part.shape[-1] // 2] for part in rotary(rows, torch.arange(longest)[None]))
        known = Turns(torch.complex(cos.contiguous(), sin.contiguous()), torch.complex(cos.contiguous(), -sin))
        if is_usual:
            _TURNS[rotary] = known
    return known.select(position_ids)


def turn(heads: torch.Tensor, n_turned: int, turns: torch.Tensor) -> torch.Tensor:
    """Turn the first heads of shape (n, heads, size) in place."""
    pairs = torch.view_as_complex(heads.view(*heads.shape[:-1], -1, 2))
    pairs[:, :n_turned].mul_(turns[:, None])
    return heads


def join_maps(parts: Tensors, n_turned: int, size: int, axis: int) -> torch.Tensor:
    """Join weights (``axis`` -2) or biases (-1) of queries, keys or values, columns in their order."""
    joined = torch.cat([*parts], dim=axis)
    return joined.index_select(axis, find_order(n_turned, joined.shape[axis] // size, size)[0])


def split_maps(joined: torch.Tensor, like: Tensors, n_turned: int, size: int, axis: int) -> Tensors:
    """Undo :func:`join_maps` for a gradient."""
    order = find_order(n_turned, joined.shape[axis] // size, size)[1]
    return torch.split(joined.index_select(axis, order), [part.shape[axis] for part in like], dim=axis)


@lru_cache(maxsize=64)
def find_order(n_turned: int, n_heads: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Say which column comes to each place, and back; the heads that turn stand first."""
    places = torch.arange(n_heads * size).view(n_heads, size)
    turned = places[:n_turned].view(n_turned, 2, -1).transpose(1, 2).reshape(n_turned, size)
    order = torch.cat([turned, places[n_turned:]]).flatten()
    return order, order.argsort()
