"""Attention where documents share how they begin: each token is computed once, and sees its own document's path.

A question with four answers is one trunk and four branches. Queries are a branch's own tokens; keys are the whole path
from the first token on, gathered branch by branch. For evaluation: nothing here has a gradient of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

Integers = NDArray[np.int64]

SHORT = 32  # queries and keys up to so many are computed together: below it a call costs more than padding
AT_ONCE = 2**26  # pairs of a query and a key a call: what the mask takes in bytes
FEW = 8  # the same where queries are fewer than keys
LONG = 512  # keys from which on groups differ by powers of two
VECTOR = 16  # a CPU's kernel does so many keys at once, and a rest of more than five one by one takes longer
KEPT = 2**18  # pairs whose mask is kept for the next model; those of long documents are made again


@dataclass(frozen=True)
class Group:
    """Branches of like size.

    Attributes
    ----------
    rows : Tensor of int64, shape (n, n_queries)
        Rows of the queries, each branch's filled up with any.
    keys : Tensor of int64, shape (n, n_keys)
        Tokens of each path, filled up with any after its end.
    places : Tensor of int64, shape (n, 1, n_queries, 1) or None
        Position of each query: it sees as many keys and its own. None where every query is a key too, in order.
    kept : Tensor, shape (n, 1, n_queries, n_keys) or None
        The mask that follows from ``places``, where it is small: 0 or minus infinity, as kernels add it.
    """

    rows: torch.Tensor
    keys: torch.Tensor
    places: torch.Tensor | None
    kept: torch.Tensor | None

    def make_mask(self, dtype: torch.dtype) -> torch.Tensor | None:
        """Say which keys each query sees; None is torch's own causal mask."""
        if self.kept is not None:
            return self.kept.to(dtype)
        return None if self.places is None else find_seen(self.places, self.keys.shape[1])


@dataclass(frozen=True)
class Branches:
    """What attention needs to know of a batch.

    Attributes
    ----------
    groups : tuple of Group
    scatter : Tensor of int64, shape (n_rows,)
        Query -> its place in the groups' results end to end.
    longest : int
        Tokens of the longest path.
    last : Branches or None
        The same for the last layer, whose queries are the labelled tokens alone.
    distinct, spread : Tensor of int64 or None
        The tokens that there are, each once, and which of them each one is: tokens come again and again, and what the
        first layer makes of one before its place counts is the same wherever it stands.
    """

    groups: tuple[Group, ...]
    scatter: torch.Tensor
    longest: int
    last: Branches | None = None
    distinct: torch.Tensor | None = None
    spread: torch.Tensor | None = None


def group_branches(counts: Integers, positions: Integers, paths: Sequence[Integers], device: torch.device) -> Branches:
    """Group branches by their numbers of queries and keys.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_branches,)
        Queries of each; those of the first stand first.
    positions : ndarray of int64, shape (n_queries,)
        Place of each query in its path.
    paths : sequence of ndarray of int64
        Tokens from the first one to the branch's last.
    device : device
        Of the result.
    """
    starts = np.cumsum(counts) - counts
    lengths = np.array([len(path) for path in paths])
    ends = np.cumsum(lengths)
    laid_out = np.concatenate(list(paths))
    scatter = np.empty(len(positions), dtype=np.int64)
    groups: list[Group] = []
    at = 0
    for chosen in _split_alike(counts, lengths):
        within = np.minimum(np.arange(counts[chosen].max()), counts[chosen, None] - 1)
        rows = starts[chosen, None] + within
        along = np.minimum(np.arange(_widen(int(lengths[chosen].max()))), lengths[chosen, None] - 1)
        keys = laid_out[(ends - lengths)[chosen, None] + along]
        scatter[rows] = at + np.arange(len(chosen))[:, None] * rows.shape[1] + within
        at += rows.size
        is_whole = bool((counts[chosen] == lengths[chosen]).all())
        places = None if is_whole else torch.from_numpy(positions[rows])[:, None, :, None].to(device)
        is_small = rows.size * keys.shape[1] <= KEPT
        kept = None
        if places is not None and is_small:
            kept = torch.where(find_seen(places, keys.shape[1]), 0.0, -torch.inf)
        groups.append(Group(torch.from_numpy(rows).to(device), torch.from_numpy(keys).to(device), places, kept))
    return Branches(tuple(groups), torch.from_numpy(scatter).to(device), int(lengths.max()))


def attend_branches(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Branches, scale: float
) -> torch.Tensor:
    """Attend along paths; shapes as in :func:`~causalmix.train.attention.attend`."""
    is_cpu = query.device.type == "cpu"
    n_copies = 1 if is_cpu else query.shape[1] // key.shape[1]  # a GPU's kernel for masks wants a key a head
    outputs = []
    for group in layout.groups:
        queries = _take(query, group.rows, 1)
        keys, values = _take(key, group.keys, n_copies), _take(value, group.keys, n_copies)
        mask = group.make_mask(query.dtype)
        out = scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=is_cpu
        )
        outputs.append(out.transpose(1, 2).flatten(0, 1).flatten(1))
    return torch.cat(outputs).index_select(0, layout.scatter)


def find_seen(places: torch.Tensor, n_keys: int) -> torch.Tensor:
    """Let each query see the keys up to its own place."""
    return torch.arange(n_keys, device=places.device) <= places


def _take(rows: torch.Tensor, index: torch.Tensor, n_copies: int) -> torch.Tensor:
    taken = rows.index_select(0, index.flatten()).view(*index.shape, *rows.shape[1:]).transpose(1, 2)
    return taken if n_copies == 1 else taken.repeat_interleave(n_copies, dim=1)


def _widen(n_keys: int) -> int:
    return -(-n_keys // VECTOR) * VECTOR if n_keys % VECTOR > 5 else n_keys


def _split_alike(counts: Integers, lengths: Integers) -> list[Integers]:
    """Split the branches that have queries into those of like size, and so that no group's mask is too large.

    Like in queries is up to the next power of two, like in keys up to the next sixteen.
    """
    in_queries = np.ceil(np.log2(np.maximum(counts, FEW)))
    in_keys = np.ceil(np.minimum(lengths, LONG) / VECTOR) + np.ceil(np.log2(np.maximum(lengths, LONG) / LONG))
    kinds = in_queries * 1000 + in_keys * 2 + (counts == lengths) * (lengths > SHORT)
    split = []
    for kind in np.unique(kinds[counts > 0]):
        chosen = np.flatnonzero((kinds == kind) & (counts > 0))
        pairs = int(counts[chosen].max()) * int(lengths[chosen].max())
        size = max(1, AT_ONCE // pairs)
        split += [chosen[start : start + size] for start in range(0, len(chosen), size)]
    return split
