"""Requests that begin alike, read as a tree: what they share is computed once for all of them.

The worked examples before a question, the question before its answers, the turns that a chat template opens with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from causalmix.train.branches import Branches, group_branches

Integers = NDArray[np.int64]
WORTH = 8  # a beginning is shared where it is more than an eighth of what would be read again


@dataclass(frozen=True)
class Tree:
    """Sequences whose shared beginnings stand once.

    Attributes
    ----------
    tokens, positions : ndarray of int64, shape (n_tokens,)
        Branch after branch; positions count from each path's first token.
    paths : list of ndarray of int64
        Sequence -> where each of its tokens stands.
    counts : ndarray of int64, shape (n_sequences,)
        Tokens that no earlier sequence has: those of its branch.
    """

    tokens: Integers
    positions: Integers
    paths: list[Integers]
    counts: Integers


@dataclass(frozen=True)
class Nodes:
    """A tree on a device, as the decoder reads it."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    where: torch.Tensor


def sort_sequences(sequences: Sequence[Integers]) -> list[int]:
    """Order sequences so that those that begin alike stand side by side, a beginning before what goes on from it."""
    return sorted(range(len(sequences)), key=lambda at: sequences[at].astype(">u4").tobytes())


def grow_tree(sequences: Sequence[Integers]) -> Tree:
    """Lay sequences out, each going on where it leaves the one before.

    Parameters
    ----------
    sequences : sequence of ndarray of int64
        Distinct, in the order of :func:`sort_sequences`.
    """
    own: list[Integers] = []
    paths: list[Integers] = []
    counts: list[int] = []
    n_tokens = 0
    for at, sequence in enumerate(sequences):
        n_shared = count_shared(sequences[at - 1], sequence) if at else 0
        n_shared = n_shared if n_shared * WORTH > len(sequence) else 0
        own.append(sequence[n_shared:])
        counts.append(len(own[-1]))
        branch = np.arange(n_tokens, n_tokens + counts[-1])
        paths.append(np.concatenate([paths[-1][:n_shared], branch]) if n_shared else branch)
        n_tokens += counts[-1]
    positions = [np.arange(len(path) - count, len(path)) for path, count in zip(paths, counts)]
    return Tree(np.concatenate(own), np.concatenate(positions), paths, np.array(counts, dtype=np.int64))


def count_shared(one: Integers, other: Integers) -> int:
    """Count the tokens with which two sequences begin alike."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length


def lay_out_tree(tree: Tree, where: Integers, device: torch.device) -> tuple[Nodes, Branches]:
    """Prepare a tree for the decoder.

    Parameters
    ----------
    tree : Tree
    where : ndarray of int64
        Tokens whose states are asked for, rising.
    device : device
    """
    layout = group_branches(tree.counts, tree.positions, tree.paths, device)
    asked = np.diff(np.searchsorted(where, np.concatenate([[0], np.cumsum(tree.counts)])))
    last = group_branches(asked, tree.positions[where], tree.paths, device)
    parts = (torch.from_numpy(part).to(device) for part in (tree.tokens, tree.positions, where))
    once = (torch.from_numpy(part).to(device) for part in np.unique(tree.tokens, return_inverse=True))
    return Nodes(*parts), Branches(layout.groups, layout.scatter, layout.longest, last, *once)
