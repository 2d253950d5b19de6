"""One pass of several runs, end to end: the same number of tokens and of labels of each, what is missing filled up.

What fills a run's tokens up are documents without labels, which no other document attends to; what fills its labels up
is ignored by the loss. So neither changes a loss or a gradient, beyond the order in which numbers are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from causalmix.train.attention import SHORT, lay_out
from causalmix.train.flat import Flat, flatten
from causalmix.train.forward import Prepared, label_states
from causalmix.train.reader import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from causalmix.train.engine import Engine
    from causalmix.train.reader import BatchReader, Rows


@dataclass(frozen=True)
class SideBySide:
    """A pass of several runs on its device.

    Attributes
    ----------
    prepared : Prepared
        Of all runs; ``where`` and ``targets`` hold the same number of labels of each.
    documents : list of list of int
        Of each run, in row order; empty where a run has no such pass.
    n_tokens, n_targets : list of int
        Of each run, as in :class:`~causalmix.train.reader.Batch`.
    """

    prepared: Prepared
    documents: list[list[int]]
    n_tokens: list[int]
    n_targets: list[int]


def lay_side_by_side(reader: BatchReader, passes: list[Rows], engine: Engine) -> SideBySide:
    """Read a pass of each run and lay them end to end.

    Parameters
    ----------
    reader : BatchReader
    passes : list of Rows
        A run's rows each; none at all where a run has fewer passes than others. At least one run has some.
    engine : Engine
    """
    documents = [[document for row in rows for document in row] for rows in passes]
    batch = reader.read(tuple(row for rows in passes for row in rows))
    flat = flatten(batch)
    # Every document that is trained on has a label, so none is left out of the flat batch.
    assert len(flat.lengths) == len(batch.documents)
    sizes = np.minimum(np.diff(reader.offsets)[batch.documents], reader.max_length)
    owners = np.repeat(np.arange(len(passes)), [len(own) for own in documents])
    filled = fill_up(flat, owners, len(passes))
    n_targets = np.bincount(_owners_of_labels(flat, owners), minlength=len(passes))
    filled = filled.to(engine.device)
    return SideBySide(
        Prepared(filled, lay_out(filled, engine.attention)),
        documents,
        np.bincount(owners, weights=sizes, minlength=len(passes)).astype(int).tolist(),
        n_targets.tolist(),
    )


def fill_up(flat: Flat, owners: NDArray[np.int64], n_runs: int) -> Flat:
    """Give every run the same number of tokens and of labels.

    Parameters
    ----------
    flat : Flat
        Of all runs, run after run.
    owners : ndarray of int64, shape (n_documents,)
        The run of each document.
    n_runs : int

    Returns
    -------
    Flat
        With ``n_runs`` times the tokens and the labels of the run that has the most.
    """
    n_tokens = np.bincount(owners, weights=flat.lengths, minlength=n_runs).astype(np.int64)
    label_owners = _owners_of_labels(flat, owners)
    n_labels = np.bincount(label_owners, minlength=n_runs)
    width, depth = int(n_tokens.max()), int(n_labels.max())
    shifts = np.arange(n_runs) * width - (np.cumsum(n_tokens) - n_tokens)  # from the flat batch to the filled one

    places = np.arange(len(flat.input_ids)) + np.repeat(shifts, n_tokens)
    input_ids, position_ids = (np.zeros(n_runs * width, dtype=np.int64) for _ in range(2))
    input_ids[places], position_ids[places] = flat.input_ids.numpy(), flat.position_ids.numpy()
    for run, missing in enumerate((width - n_tokens).tolist()):
        position_ids[(run + 1) * width - missing : (run + 1) * width] = np.arange(missing) % SHORT
    pieces = [_cut(missing) for missing in (width - n_tokens).tolist()]
    ends = np.searchsorted(owners, np.arange(1, n_runs), side="left")
    lengths = np.concatenate([part for pair in zip(np.split(flat.lengths, ends), pieces) for part in pair])

    first_labels = np.cumsum(n_labels) - n_labels
    columns = np.arange(len(flat.where)) - first_labels[label_owners]
    where = np.repeat(np.arange(n_runs) * width, depth)  # any place of the run
    targets = np.full(n_runs * depth, IGNORED, dtype=np.int64)
    where[label_owners * depth + columns] = flat.where.numpy() + shifts[label_owners]
    targets[label_owners * depth + columns] = flat.targets.numpy()
    return Flat(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids),
        boundaries=torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)),
        lengths=lengths,
        where=torch.from_numpy(where),
        targets=torch.from_numpy(targets),
    )


def sum_losses(model: PreTrainedModel, batch: SideBySide, engine: Engine) -> torch.Tensor:
    """Negative log-likelihood of each run's targets, in nats, summed; shape (n_runs,).

    Parameters
    ----------
    model : PreTrainedModel
        Of a :class:`~causalmix.train.stack.Stack`.
    batch : SideBySide
    engine : Engine
    """
    with engine.autocast():
        states = label_states(model, batch.prepared, engine.decoding)
        logits = model.get_output_embeddings()(states)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        losses = cross_entropy(logits, batch.prepared.flat.targets, ignore_index=IGNORED, reduction="none")
    return losses.view(len(batch.documents), -1).sum(1)


def _owners_of_labels(flat: Flat, owners: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = owners[np.searchsorted(flat.boundaries.numpy(), flat.where.numpy(), side="right") - 1]
    return found


def _cut(n_tokens: int) -> NDArray[np.int64]:
    """Cut what fills up into documents that are gathered with the short ones."""
    n_whole, rest = divmod(n_tokens, SHORT)
    return np.array([SHORT] * n_whole + [rest] * (rest > 0), dtype=np.int64)
