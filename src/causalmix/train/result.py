"""What one training did, told from its ledger and its steps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from causalmix.config import TrainConfig
from causalmix.train.ledger import Ledger
from causalmix.train.steps import PlannedSteps, Steps


@dataclass(frozen=True)
class TrainResult:
    """What one training did.

    Attributes
    ----------
    n_steps : int
        Optimiser steps.
    n_samples, n_truncated, n_untargeted, n_dropped : int
        Documents seen or left out, repeats counted; those cut to ``max_length``; those that the cut left
        without a target token, which are left out; those that ``too_long=drop`` left out.
    n_tokens, n_target_tokens : int
        Tokens seen, cut ones, padding and skipped documents apart; those among them that were learned.
    loss_first, loss_last : float
        Mean loss of the first and of the last ten steps, in nats per target token.
    wall_s : float
        Seconds, those before an interruption included up to its checkpoint.
    device_s : float
        Seconds of this process that went into it now: with others in one computation, its share of them.
    documents : ndarray of int64
        The documents seen, in order.
    report : dict
        Name -> number, of an online run: by domain its last weight, its share, what it may still give.
    """

    n_steps: int
    n_samples: int
    n_tokens: int
    n_target_tokens: int
    n_truncated: int
    n_untargeted: int
    n_dropped: int
    loss_first: float
    loss_last: float
    wall_s: float
    device_s: float
    documents: NDArray[np.int64] = field(repr=False, compare=False)
    report: dict[str, float]


def summarise(
    ledger: Ledger,
    steps: Steps,
    lengths: NDArray[np.int64],
    doc_ids: NDArray[np.int64],
    cfg: TrainConfig,
    *,
    n_kept: int,
    device_s: float,
) -> TrainResult:
    """Say what a training did, from its ledger and its steps.

    Parameters
    ----------
    lengths : ndarray of int64
        Tokens of each document of the store.
    doc_ids : ndarray of int64, shape (n,)
        As the training was given them; ``n_kept`` of them have something to learn.
    device_s : float
        Of :class:`TrainResult`.
    """
    seen = steps.list_seen()
    is_planned = isinstance(steps, PlannedSteps)  # others draw: what is left out was not asked for
    n_left_out = round(len(seen) / n_kept * (len(doc_ids) - n_kept)) if is_planned else 0
    is_cut = cfg.too_long == "truncate"  # otherwise those left out are the long ones
    return TrainResult(
        n_steps=ledger.state["step"],
        n_samples=len(seen) + n_left_out,
        n_tokens=ledger.state["n_tokens"],
        n_target_tokens=ledger.state["n_targets"],
        n_truncated=int(np.sum(lengths[seen] > cfg.max_length)) + n_left_out * is_cut,
        n_untargeted=n_left_out * is_cut,
        n_dropped=n_left_out * (not is_cut),
        loss_first=float(np.mean(ledger.state["first"])),
        loss_last=float(np.mean(ledger.state["last"])),
        wall_s=ledger.wall_s(),
        device_s=device_s,
        documents=seen,
        report=steps.report(),
    )
