"""A batch without its padding: the tokens that matter, end to end, and where each document starts.

Three things of a packed batch touch no loss and are left out: padding, documents without a label, and the
tokens of a document after its last labelled position, which nothing predicts from and nothing attends to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from causalmix.train.reader import Batch


@dataclass(frozen=True)
class Flat:
    """Documents end to end.

    Attributes
    ----------
    input_ids, position_ids : Tensor of int64, shape (n_tokens,)
        Positions restart at 0 with each document.
    boundaries : Tensor of int32, shape (n_documents + 1,)
        Document ``i`` is ``boundaries[i]`` to ``boundaries[i + 1]``; a padded one has empty documents at its end.
    lengths : ndarray of int64, shape (n_documents,)
        The same as tokens of each document, on the CPU whatever the device.
    where, targets : Tensor of int64, shape (n_targets,)
        Positions that carry a label, rising, and the token to predict there.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    boundaries: torch.Tensor
    lengths: NDArray[np.int64]
    where: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> Flat:
        """Return the same on a device; to a GPU the copy runs beside what it computes."""
        if device.type == "cpu":
            return self
        names = ("input_ids", "position_ids", "boundaries", "where", "targets")
        return replace(self, **{name: getattr(self, name).pin_memory().to(device, non_blocking=True) for name in names})


def flatten(batch: Batch) -> Flat:
    """Leave out of a batch on the CPU what no loss depends on."""
    arrays = (part.numpy() for part in (batch.input_ids, batch.position_ids, batch.labels, batch.boundaries))
    return flatten_rows(*arrays)


def flatten_rows(
    input_ids: NDArray[np.int64],
    position_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    boundaries: NDArray[np.int32],
) -> Flat:
    """Flatten packed rows, see :class:`~causalmix.train.reader.Batch` for their rules.

    Parameters
    ----------
    input_ids, position_ids, labels : ndarray of int64, shape (rows, length)
    boundaries : ndarray of int32, shape (segments + 1,)
        Where documents and paddings start in the rows end to end, and where the last one ends.

    Returns
    -------
    Flat
        Labels and documents in row order.
    """
    flat_labels = labels.ravel()
    starts = boundaries[:-1].astype(np.int64)
    where = np.flatnonzero(flat_labels >= 0)
    owners = np.searchsorted(starts, where, side="right") - 1
    stops = starts.copy()
    stops[owners] = where + 1  # the last of a document's labels stays
    kept = stops > starts
    lengths = (stops - starts)[kept]
    laid_out = np.concatenate([[0], np.cumsum(lengths)])
    shifts = starts[kept] - laid_out[:-1]
    index = np.arange(laid_out[-1]) + np.repeat(shifts, lengths)
    places = where - shifts[np.cumsum(kept)[owners] - 1]
    return Flat(
        input_ids=torch.from_numpy(input_ids.ravel()[index]),
        position_ids=torch.from_numpy(position_ids.ravel()[index]),
        boundaries=torch.from_numpy(laid_out.astype(np.int32)),
        lengths=lengths,
        where=torch.from_numpy(places),
        targets=torch.from_numpy(flat_labels[where]),
    )


def pad_flat(flat: Flat, n_tokens: int, longest: int) -> Flat:
    """Fill up to a number of tokens, so that compiled code sees few shapes.

    Parameters
    ----------
    flat : Flat
        On the CPU.
    n_tokens : int
        At least the tokens there are.
    longest : int
        Tokens of a document at most, also of those that fill up.

    Returns
    -------
    Flat
        With ``n_tokens`` tokens, and boundaries for a power of two of documents, the last of them empty.
    """
    missing = n_tokens - len(flat.input_ids)
    pieces = np.array([min(longest, missing - at) for at in range(0, missing, longest)], dtype=np.int64)
    lengths = np.concatenate([flat.lengths, pieces])
    n_documents = 1 << (max(len(lengths), 1) - 1).bit_length()
    boundaries = np.full(n_documents + 1, n_tokens, dtype=np.int32)
    boundaries[: len(lengths) + 1] = np.concatenate([[0], np.cumsum(lengths)])
    filling = np.concatenate([np.arange(piece) for piece in pieces]) if missing else np.zeros(0, dtype=np.int64)
    return replace(
        flat,
        input_ids=torch.nn.functional.pad(flat.input_ids, (0, missing)),
        position_ids=torch.cat([flat.position_ids, torch.from_numpy(filling)]),
        boundaries=torch.from_numpy(boundaries),
        lengths=lengths,
    )
