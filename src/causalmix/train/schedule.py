"""Everything that is known before the first step: the rows of every step and its learning rate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from causalmix.config import TrainConfig
from causalmix.train.batches import plan_batches
from causalmix.train.ranks import Ranks
from causalmix.train.reader import Rows


def plan_steps(
    lengths: NDArray[np.int64], doc_ids: NDArray[np.int64], cfg: TrainConfig, seed: int, n_steps: int | None
) -> list[Rows]:
    """Plan the rows of every optimiser step, epoch after epoch, each with its own shuffle.

    Parameters
    ----------
    lengths, doc_ids : ndarray of int64, shape (n,)
        One epoch's documents, at least one.
    cfg : TrainConfig
    seed : int
    n_steps : int or None
        None plans ``cfg.n_epochs`` epochs; a number plans exactly so many steps.

    Returns
    -------
    list
        Step -> row -> document ids.
    """
    steps: list[Rows] = []
    epoch = 0
    while epoch < cfg.n_epochs if n_steps is None else len(steps) < n_steps:
        plan = plan_batches(
            lengths,
            doc_ids,
            max_length=cfg.max_length,
            batch_rows=cfg.batch_rows,
            seed=[seed, epoch],
            window=cfg.packing_window,
        )
        steps += plan.steps
        epoch += 1
    return steps[:n_steps]


def split_rows(rows: Rows, rows_per_pass: int) -> list[Rows]:
    """Split a step's rows into forward passes; 0 makes one pass of all."""
    size = rows_per_pass or max(1, len(rows))
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def deal_rows(rows: Rows, rows_per_pass: int, ranks: Ranks) -> tuple[list[Rows], int]:
    """Deal a step's rows to the ranks, so that the step is the same whatever their number.

    Every rank makes the same number of passes, because weights are brought together in each of them. A rank that has
    fewer rows repeats the step's first one, and its loss does not count.

    Returns
    -------
    passes : list
        This rank's rows of each forward pass.
    n_real : int
        How many of the passes count, from the first.
    """
    own = split_rows(rows[ranks.rank :: ranks.size], rows_per_pass)
    n_passes = len(split_rows(rows[:: ranks.size], rows_per_pass))  # the first rank has the most rows
    return own + [rows[:1]] * (n_passes - len(own)), len(own)


def learning_rate(cfg: TrainConfig, step: int, n_steps: int) -> float:
    """Linear warm-up to the peak, then a cosine down to ``lr_final_fraction`` of it.

    Parameters
    ----------
    cfg : TrainConfig
    step : int
        From 0. The first step already moves, the first step after the warm-up has the peak.
    n_steps : int
        Of the whole training.
    """
    n_warmup = math.ceil(cfg.warmup_fraction * n_steps)
    if step < n_warmup:
        return cfg.lr_peak * (step + 1) / (n_warmup + 1)
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    share = cfg.lr_final_fraction + (1 - cfg.lr_final_fraction) * 0.5 * (1 + math.cos(math.pi * done))
    return cfg.lr_peak * share
