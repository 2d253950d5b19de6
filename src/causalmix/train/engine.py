"""How a training computes on its device: precision, attention, shapes, the head's budget."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from causalmix.config import TrainConfig
from causalmix.train.attention import choose_attention, lay_out
from causalmix.train.decoder import Decoding, settle
from causalmix.train.device import choose_device
from causalmix.train.flat import flatten, pad_flat
from causalmix.train.forward import Prepared, sum_loss
from causalmix.train.reader import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Engine:
    """Batches in, losses out; the same for every step of a training.

    Attributes
    ----------
    device : device
    attention : str
        One of :data:`~causalmix.train.attention.KINDS`.
    decoding : Decoding
    head_budget_mib : int
    max_length : int
        Tokens of a document at most.
    n_rows : int
        Rows a pass; where ``has_fixed_shapes``, every pass is filled up to so many whole rows.
    has_fixed_shapes : bool
        Compiled code is compiled again for every new shape.
    is_half : bool
        Products in bfloat16 under autocast, with float32 weights.
    """

    device: torch.device
    attention: str
    decoding: Decoding
    head_budget_mib: int
    max_length: int
    n_rows: int
    has_fixed_shapes: bool
    is_half: bool

    def prepare(self, batch: Batch) -> Prepared:
        """Flatten a batch, fill it up where shapes are fixed, and move it to the device."""
        flat = flatten(batch)
        if not self.has_fixed_shapes:
            flat = flat.to(self.device)
            return Prepared(flat, lay_out(flat, self.attention))
        flat = pad_flat(flat, self.n_rows * self.max_length, self.max_length).to(self.device)
        return Prepared(flat, lay_out(flat, self.attention, self.max_length))

    def suit(self, model: PreTrainedModel) -> Engine:
        """Return the same for one model, as it is now: what every step would find out anew is found out once."""
        with self.autocast():
            return replace(self, decoding=settle(model, replace(self.decoding, is_settled=False)))

    def sum_loss(self, model: PreTrainedModel, batch: Prepared) -> torch.Tensor:
        """Negative log-likelihood of a pass's targets, in nats, summed."""
        with self.autocast():
            return sum_loss(model, batch, self.decoding, self.head_budget_mib)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of the forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.is_half else contextlib.nullcontext()


def make_engine(cfg: TrainConfig, dtype: torch.dtype) -> Engine:
    """Choose how a model of a dtype trains.

    Raises
    ------
    TrainError
        For a device or a way of attention that is not there.
    """
    device = choose_device(cfg.device)
    attention = choose_attention(cfg.attention, device, dtype)
    return Engine(
        device=device,
        attention=attention,
        decoding=Decoding(recompute=cfg.recompute, compile=cfg.compile),
        head_budget_mib=cfg.head_budget_mib,
        max_length=cfg.max_length,
        n_rows=cfg.rows_per_pass or cfg.batch_rows,
        has_fixed_shapes=attention == "flex" or (cfg.compile and attention == "varlen"),
        is_half=dtype == torch.bfloat16 and not cfg.half_weights,
    )
