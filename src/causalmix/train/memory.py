"""What to do when a training does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from causalmix.config import TrainConfig
from causalmix.errors import TrainError
from causalmix.train.head import rows_at_once

CPU_MESSAGE = "can't allocate memory"  # torch's allocator raises a plain RuntimeError


@contextmanager
def explain_out_of_memory(cfg: TrainConfig, step: int, vocab_size: int) -> Iterator[None]:
    """Turn running out of memory in a step into an error that names the settings that help, mildest first.

    Raises
    ------
    TrainError
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainError(describe_settings(cfg, step, vocab_size)) from error
    except RuntimeError as error:
        if CPU_MESSAGE not in str(error):
            raise
        raise TrainError(describe_settings(cfg, step, vocab_size)) from error


def describe_settings(cfg: TrainConfig, step: int, vocab_size: int) -> str:
    """Say what takes less memory than these settings."""
    n_rows = min(cfg.rows_per_pass or cfg.batch_rows, cfg.batch_rows)
    least = -(-16 * vocab_size // 2**20)
    helps = []
    if cfg.batch_runs != 1:
        helps.append(f"train.batch_runs=1 (fewer runs in one computation; now {cfg.batch_runs})")
    if n_rows > 1:
        helps.append(f"train.rows_per_pass={n_rows // 2} (the same step in more passes; now {n_rows} rows)")
    if rows_at_once(vocab_size, cfg.head_budget_mib) > 1:
        helps.append(
            f"train.head_budget_mib={max(least, cfg.head_budget_mib // 4)} (fewer logits at once; now "
            f"{cfg.head_budget_mib})"
        )
    if not cfg.recompute:
        helps.append("train.recompute=true (activations are computed again; about a third slower)")
    if cfg.lora.rank == 0:
        helps.append("train.lora.rank=16 (adapters alone are trained: another result)")
    helps.append(f"train.max_length={max(2, cfg.max_length // 2)} (longer documents are cut: another result)")
    return (
        f"Out of memory in step {step + 1} with {n_rows} rows of {cfg.max_length} tokens a pass. "
        f"What helps, mildest first: {'; '.join(helps)}."
    )
