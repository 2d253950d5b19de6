"""From a packed batch to its loss: the decoder over documents end to end, and the head where a label is.

Evaluation calls the same decoder, so both see the same model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from causalmix.train.attention import Layout, choose_attention, lay_out
from causalmix.train.decoder import Decoding, run_decoder
from causalmix.train.flat import Flat, flatten
from causalmix.train.head import sum_cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from causalmix.train.reader import Batch

HEAD_BUDGET_MIB = 512


@dataclass(frozen=True)
class Prepared:
    """A batch on its device, ready for the decoder."""

    flat: Flat
    layout: Layout


def prepare(batch: Batch, device: torch.device, attention: str = "documents") -> Prepared:
    """Flatten a batch, move it and prepare its attention."""
    flat = flatten(batch).to(device)
    return Prepared(flat, lay_out(flat, attention))


def label_states(model: PreTrainedModel, batch: Prepared, how: Decoding | None = None) -> torch.Tensor:
    """States at the labelled positions, after the last norm and before the head; shape (n_targets, hidden)."""
    return run_decoder(model, batch.flat, batch.layout, how)


def sum_loss(
    model: PreTrainedModel,
    batch: Prepared,
    how: Decoding | None = None,
    head_budget_mib: int = HEAD_BUDGET_MIB,
) -> torch.Tensor:
    """Negative log-likelihood of all targets of a batch, in nats, summed.

    Returns
    -------
    Tensor, shape ()
        Float32 at least, whatever the model's dtype.
    """
    states = label_states(model, batch, how)
    return sum_cross_entropy(model.get_output_embeddings(), states, batch.flat.targets, head_budget_mib)


__all__ = ["Decoding", "Prepared", "choose_attention", "label_states", "prepare", "sum_loss"]
