"""The forward pass over packed rows: block-diagonal attention, and the head where a label is.

Used by training and by evaluation, so that both see the same model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from causalmix.train.reader import IGNORED, Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def block_causal_mask(position_ids: torch.Tensor) -> torch.Tensor | None:
    """Say which token may attend to which in packed rows.

    Parameters
    ----------
    position_ids : Tensor of int64, shape (rows, length)
        Restarting at 0 with each document.

    Returns
    -------
    Tensor of bool, shape (rows, 1, length, length), or None
        True where the query (third axis) sees the key (fourth axis): the same document, not later.
        None where every row holds one document, for which plain causal attention says the same.
    """
    document = (position_ids == 0).cumsum(dim=1)
    if bool((document[:, -1] == 1).all()):
        return None
    same = document[:, None, :, None] == document[:, None, None, :]
    return same.tril_()


def hidden_states(model: PreTrainedModel, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
    """Run the decoder over packed rows.

    Returns
    -------
    Tensor, shape (rows, length, hidden)
        After the last norm, before the head.
    """
    # A mapping skips the mask construction of transformers, which takes longer than a tiny layer.
    mask = {"full_attention": block_causal_mask(position_ids)}
    decoder = model.get_decoder()
    output = decoder(input_ids=input_ids, position_ids=position_ids, attention_mask=mask, use_cache=False)
    states: torch.Tensor = output.last_hidden_state
    return states


def sum_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Negative log-likelihood of all targets of a batch, in nats, summed.

    Returns
    -------
    Tensor, shape ()
        Float32 at least, whatever the model's dtype.
    """
    states = hidden_states(model, batch.input_ids, batch.position_ids)
    where = batch.labels.flatten().ne(IGNORED).nonzero().squeeze(1)
    logits = model.get_output_embeddings()(states.flatten(0, 1).index_select(0, where))
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(logits, batch.labels.flatten().index_select(0, where), reduction="sum")
