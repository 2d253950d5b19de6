"""The training loop: AdamW, linear warm-up and cosine, packed rows, loss per target token of the step."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from causalmix.config import TrainConfig
from causalmix.errors import StoppedEarlyError
from causalmix.train.batches import build_batch
from causalmix.train.checkpoint import load_checkpoint, save_checkpoint
from causalmix.train.checks import check_documents, check_finite, check_settings, identify
from causalmix.train.device import choose_device
from causalmix.train.forward import sum_loss
from causalmix.train.lora import add_lora, merge_lora
from causalmix.train.ranks import find_ranks
from causalmix.train.schedule import deal_rows, learning_rate, plan_steps
from causalmix.train.sharding import call, join, restore_model, shard_model
from causalmix.train.shards import load_shards, save_shards
from causalmix.train.tokens import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOSS_WINDOW = 10  # steps behind loss_first and loss_last


@dataclass(frozen=True)
class TrainResult:
    """What one training did.

    Attributes
    ----------
    n_steps : int
        Optimiser steps.
    n_samples, n_truncated, n_untargeted : int
        Documents seen, repeats counted; those cut to ``max_length``; those that the cut left without a
        target token, which are skipped.
    n_tokens, n_target_tokens : int
        Tokens seen, cut ones, padding and skipped documents apart; those among them that were learned.
    loss_first, loss_last : float
        Mean loss of the first and of the last ten steps, in nats per target token.
    wall_s : float
        Seconds, those before an interruption included up to its checkpoint.
    """

    n_steps: int
    n_samples: int
    n_tokens: int
    n_target_tokens: int
    n_truncated: int
    n_untargeted: int
    loss_first: float
    loss_last: float
    wall_s: float


def train(
    model: PreTrainedModel,
    store: TokenStore,
    doc_ids: NDArray[np.int64],
    cfg: TrainConfig,
    *,
    seed: int,
    checkpoint_dir: Path | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
    progress: bool = False,
    n_steps: int | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train a model in place on documents of a store.

    Where this process has joined others (:func:`~causalmix.train.ranks.join_ranks`), all of them call with the same
    arguments and train the model together; each has all of it in the end.

    Parameters
    ----------
    model : PreTrainedModel
        Changed in place. A bfloat16 model has float32 weights under autocast while it trains.
    store : TokenStore
    doc_ids : ndarray of int64, shape (n,)
        One epoch's documents; repeats stand there as often as they are wanted.
    cfg : TrainConfig
        ``n_samples`` is not read: ``doc_ids`` says it.
    seed : int
        Of the order of the documents and of the adapters.
    checkpoint_dir : Path, optional
        Resumed from where it holds a checkpoint, bitwise on a CPU with the same number of threads; written to
        every ``cfg.checkpoint_every`` steps.
    log : callable, optional
        Takes a dict (step, loss, lr, grad_norm, n_tokens, wall_s) every ``cfg.log_every`` steps.
    progress : bool
        Show a bar on a terminal.
    n_steps : int, optional
        Stop after so many steps, with as many epochs as that takes, instead of after ``cfg.n_epochs``.
    should_stop : callable, optional
        Asked after every step but the last; True ends the training there, with a checkpoint where one can be.

    Returns
    -------
    TrainResult

    Raises
    ------
    TrainError
        For documents without target tokens, a loss or gradient that is not finite (naming the documents),
        a checkpoint that is damaged or of another training.
    StoppedEarlyError
        Where ``should_stop`` said so.
    """
    check_settings(cfg, getattr(model.config, "max_position_embeddings", cfg.max_length), n_steps)
    kept = check_documents(store, doc_ids, cfg.max_length)
    device = choose_device(cfg.device)
    is_half = model.dtype == torch.bfloat16
    model.to(device=device, dtype=torch.float32 if is_half else None).train()
    adapted = add_lora(model, cfg.lora, seed) if cfg.lora.rank > 0 else None
    if cfg.recompute:
        model.activation_checkpointing_enable()

    # -- data: every step's rows, known before the first step
    lengths = store.lengths()
    steps = plan_steps(lengths[kept], kept, cfg, seed, n_steps)
    n_total = len(steps)

    # -- ranks: this one's parts of the model
    ranks = find_ranks()
    identity = ""
    if checkpoint_dir is not None or ranks.size > 1:
        identity = identify(model, store, doc_ids, cfg, seed, n_total)
    ranks.check_same(identity)
    parts = shard_model(model, ranks, is_half=is_half)

    # -- optimiser, and what an interrupted training left
    parameters = {name: p for name, p in parts.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(parameters, cfg)
    save, load = (save_shards, load_shards) if ranks.size > 1 else (save_checkpoint, load_checkpoint)
    state: dict[str, Any] = {"step": 0, "n_tokens": 0, "n_targets": 0, "wall_s": 0.0, "first": [], "last": []}
    if checkpoint_dir is not None:
        state = load(checkpoint_dir, parameters, optimizer, identity) or state
    started = time.perf_counter() - state["wall_s"]
    autocast = torch.autocast(device.type, torch.bfloat16) if is_half else contextlib.nullcontext()

    bar = tqdm(total=n_total, initial=state["step"], desc="train", unit="step", disable=None if progress else True)
    for step in range(state["step"], n_total):
        # -- step: gradients of the mean over the target tokens of all passes of all ranks
        passes, n_real = deal_rows(steps[step], cfg.rows_per_pass, ranks)
        batches = [build_batch(store, rows, cfg.max_length) for rows in passes]
        real = batches[:n_real]
        n_tokens, n_targets = ranks.add(sum(b.n_tokens for b in real), sum(b.n_targets for b in real))
        seed_dropout(cfg, seed, step, ranks.rank)
        loss = 0.0
        for at, batch in enumerate(batches):
            with autocast:
                part = call(parts, sum_loss, batch.to(device)) / n_targets
            part = part if at < n_real else part * 0.0
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.item()
        (loss,) = ranks.add(loss)
        lr = learning_rate(cfg, step, n_total)
        for group in optimizer.param_groups:
            group["lr"] = lr
        norm = join(clip_grad_norm_(parameters.values(), cfg.grad_clip or math.inf, foreach=True)).item()
        check_finite(step, loss, norm, batches)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        # -- account
        state["step"] = step + 1
        state["n_tokens"] += int(n_tokens)
        state["n_targets"] += int(n_targets)
        state["wall_s"] = time.perf_counter() - started
        state["first"] = (state["first"] + [loss])[:LOSS_WINDOW]
        state["last"] = (state["last"] + [loss])[-LOSS_WINDOW:]
        bar.update()
        is_last = step + 1 == n_total
        if log is not None and (is_last or (step + 1) % cfg.log_every == 0):
            numbers = {"n_tokens": state["n_tokens"], "wall_s": state["wall_s"]}
            log({"step": step + 1, "loss": loss, "lr": lr, "grad_norm": norm, **numbers})

        # -- checkpoint
        is_told = should_stop is not None and not is_last and ranks.agree(should_stop)
        is_due = bool(cfg.checkpoint_every) and (step + 1) % cfg.checkpoint_every == 0
        if checkpoint_dir is not None and (is_due or is_told):
            save(checkpoint_dir, parameters, optimizer, {**state, "identity": identity})
        if is_told:
            bar.close()
            raise StoppedEarlyError(f"told to stop after step {step + 1} of {n_total}")
    bar.close()

    optimizer.state.clear()  # the model is about to take more room
    restore_model(parts, model)
    if adapted is not None:
        merge_lora(adapted)
    if cfg.recompute:
        model.activation_checkpointing_disable()
    model.to(dtype=torch.bfloat16 if is_half else None).eval()
    seen = np.array([document for rows in steps for row in rows for document in row])
    n_untargeted = round(len(seen) / len(kept) * (len(doc_ids) - len(kept)))
    return TrainResult(
        n_steps=n_total,
        n_samples=len(seen) + n_untargeted,
        n_tokens=state["n_tokens"],
        n_target_tokens=state["n_targets"],
        n_truncated=int(np.sum(lengths[seen] > cfg.max_length)) + n_untargeted,
        n_untargeted=n_untargeted,
        loss_first=float(np.mean(state["first"])),
        loss_last=float(np.mean(state["last"])),
        wall_s=time.perf_counter() - started,
    )


def make_optimizer(parameters: dict[str, torch.nn.Parameter], cfg: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the trained parameters; weight decay on matrices alone, not on biases and norms."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": cfg.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    return torch.optim.AdamW(kept, lr=cfg.lr_peak, betas=(cfg.beta1, cfg.beta2), fused=True)


def seed_dropout(cfg: TrainConfig, seed: int, step: int, rank: int) -> None:
    """Make the dropout of a step a function of seed, step and rank, so that resuming needs no generator state."""
    if cfg.lora.rank > 0 and cfg.lora.dropout > 0:
        sequence = np.random.SeedSequence([seed, step], spawn_key=(rank,) if rank else ())
        torch.manual_seed(int(sequence.generate_state(1)[0]))
