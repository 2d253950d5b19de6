"""The training loop: AdamW, linear warm-up and cosine, packed rows, loss per target token of the step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from causalmix.config import TrainConfig
from causalmix.errors import StoppedEarlyError
from causalmix.train.checkpoint import CheckpointWriter
from causalmix.train.checks import check_documents, check_ranks, check_settings, identify_together
from causalmix.train.engine import make_engine
from causalmix.train.feed import Feed
from causalmix.train.forward import Prepared
from causalmix.train.ledger import Entry, Ledger
from causalmix.train.lora import add_lora, merge_lora
from causalmix.train.memory import explain_out_of_memory
from causalmix.train.meter import Meter, Work
from causalmix.train.online import Online, OnlineSteps
from causalmix.train.optimizer import make_optimizer
from causalmix.train.ranks import find_ranks
from causalmix.train.reader import Batch, BatchReader
from causalmix.train.result import TrainResult, summarise
from causalmix.train.schedule import learning_rate
from causalmix.train.sharding import call, is_outline, restore_model, shard_model
from causalmix.train.steps import PlannedSteps, Step, Steps
from causalmix.train.tokens import TokenStore
from causalmix.train.trace import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
    trace_path: Path | None = None,
    should_stop: Callable[[], bool] | None = None,
    online: Online | None = None,
    kept: NDArray[np.int64] | None = None,
) -> TrainResult:
    """Train a model in place on documents of a store.

    Where this process has joined others (:func:`~causalmix.train.ranks.join_ranks`), all of them call with the same
    arguments and train the model together. Those beside the first may bring an outline of it, on torch's meta device;
    the others have all of it in the end.

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
        Takes a dict (step, loss, lr, grad_norm, n_tokens, wall_s, and what
        :meth:`~causalmix.train.meter.Meter.report` gives) every ``cfg.log_every`` steps.
    progress : bool
        Show a bar on a terminal.
    n_steps : int, optional
        Stop after so many steps, with as many epochs as that takes, instead of after ``cfg.n_epochs``.
    trace_path : Path, optional
        Where a trace of three steps is written to, see :class:`~causalmix.train.trace.Trace`.
    should_stop : callable, optional
        Asked after every step but the last; True ends the training there, with a checkpoint where one can be.
    online : Online, optional
        Choose domains as the training goes; ``doc_ids`` are then the documents that may be drawn, each once.
    kept : ndarray of int64, optional
        What :func:`~causalmix.train.checks.check_documents` has made of ``doc_ids``, where it was asked before.

    Returns
    -------
    TrainResult

    Raises
    ------
    TrainError
        For documents without target tokens, fewer documents than ranks, a loss or gradient that is not finite (naming
        the documents), a checkpoint that is damaged or of another training.
    StoppedEarlyError
        Where ``should_stop`` said so.
    """
    began = time.perf_counter()
    check_settings(cfg, getattr(model.config, "max_position_embeddings", cfg.max_length), n_steps)
    kept = check_documents(store, doc_ids, cfg) if kept is None else kept
    ranks, lengths = find_ranks(), store.lengths()
    check_ranks(len(kept), ranks.size)
    engine = make_engine(cfg, model.dtype)
    dtype = model.dtype
    if ranks.size == 1:  # otherwise it never is whole on a device while it trains
        model.to(device=engine.device, dtype=torch.float32 if engine.is_half else None)
    adapted = add_lora(model.train(), cfg.lora, seed) if cfg.lora.rank > 0 else None

    # -- data: every step's rows known before the first step, or chosen as it goes
    if online is None:
        steps: Steps = PlannedSteps(lengths[kept], kept, cfg, seed, n_steps, ranks)
    else:
        steps = OnlineSteps(online, lengths[kept], kept, cfg, seed, ranks)
    reader = BatchReader(store, cfg.max_length)

    def build(step: int) -> tuple[Step, list[tuple[Batch, Prepared]]]:
        drawn = steps.draw(step)
        batches = [reader.read(rows) for rows in drawn.passes]
        return drawn, [(batch, engine.prepare(batch)) for batch in batches]

    # -- ranks: this one's parts of the model
    meter = Meter(Work(model), engine.device, dtype)
    vocab_size = model.get_output_embeddings().weight.shape[0]
    identity = ""
    if checkpoint_dir is not None or ranks.size > 1:
        identity = identify_together(
            *(ranks, model, store, doc_ids, cfg, seed, steps.describe()),
            dtype=torch.float32 if engine.is_half else None,
        )
    parts = shard_model(model, ranks, engine.device, is_half=engine.is_half)
    engine = engine.suit(parts)

    # -- optimiser, and what an interrupted training left
    parameters = {name: p for name, p in parts.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(parameters, cfg, ranks, engine.device)
    ledger = Ledger(None if checkpoint_dir is None else optimizer.load(checkpoint_dir, identity))
    position = steps.restore(ledger.state["step"], ledger.state.get("steps"))

    off = None if progress else True
    bar = tqdm(total=steps.size, initial=position, desc="train", unit=steps.unit, disable=off)
    is_gpu = engine.device.type == "cuda"
    with (
        bar,
        Feed(build, steps.size, is_ahead=is_gpu and not steps.needs_losses) as feed,
        CheckpointWriter(checkpoint_dir, beside=engine.device.type != "cpu") as writer,
        Trace(trace_path, steps.size) as trace,
    ):
        while position < steps.size:
            # -- step: gradients of the mean over the target tokens of all passes of all ranks
            step, before = ledger.state["step"], position
            drawn, passes = feed.get(step)
            position = drawn.position
            real = [batch for batch, _ in passes[: drawn.n_real]]
            own_targets = sum(batch.n_targets for batch in real)
            n_tokens, n_targets = map(int, ranks.add(sum(batch.n_tokens for batch in real), own_targets))
            seed_dropout(cfg, seed, step, ranks.rank)
            losses = []
            with explain_out_of_memory(cfg, step, vocab_size):
                for at, (_, prepared) in enumerate(passes):
                    part = call(parts, engine.sum_loss, prepared) / n_targets
                    part = part if at < drawn.n_real else part * 0.0
                    part.backward()  # type: ignore[no-untyped-call]
                    losses.append(ranks.sum(part.detach()))
                lr = learning_rate(cfg, position - 1, steps.size)
                norm = optimizer.clip()
                documents = [document for batch in real for document in batch.documents]
                ledger.add(Entry(step, losses, norm, documents), n_tokens, n_targets)
                if not is_gpu:  # there reading would wait for the step; it is done when the loss is logged or saved
                    ledger.read()
                optimizer.step(lr)

            # -- account; speeds are this rank's own
            if steps.needs_losses:
                counts = [batch.n_targets for batch in real]
                steps.observe([loss.item() * n_targets / n for loss, n in zip(losses, counts)], counts)
            meter.add(np.minimum(lengths[documents], cfg.max_length), own_targets)
            bar.update(position - before)
            trace.step()
            is_last = position == steps.size
            if log is not None and (is_last or (step + 1) % cfg.log_every == 0):
                line = ledger.describe(lr)  # before the speeds: on a GPU it waits for the step
                log({**line, **meter.report(feed.waited_s), **steps.report()})

            # -- checkpoint
            is_told = should_stop is not None and not is_last and ranks.agree(should_stop)
            is_due = bool(cfg.checkpoint_every) and (step + 1) % cfg.checkpoint_every == 0
            if checkpoint_dir is not None and (is_due or is_told):
                optimizer.save(writer, ledger.freeze(steps.state(), identity))
            if is_told:
                writer.wait()
                raise StoppedEarlyError(f"told to stop after {steps.unit} {position} of {steps.size}")
        ledger.read()

    optimizer.close()
    restore_model(parts, model, dtype if adapted is None else None)
    if adapted is not None and not is_outline(model):
        merge_lora(adapted)
    if not is_outline(model):
        model.to(device=engine.device, dtype=dtype).eval()
    return summarise(ledger, steps, lengths, doc_ids, cfg, n_kept=len(kept), device_s=time.perf_counter() - began)


def seed_dropout(cfg: TrainConfig, seed: int, step: int, rank: int) -> None:
    """Make the dropout of a step a function of seed, step and rank, so that resuming needs no generator state."""
    if cfg.lora.rank > 0 and cfg.lora.dropout > 0:
        sequence = np.random.SeedSequence([seed, step], spawn_key=(rank,) if rank else ())
        torch.manual_seed(int(sequence.generate_state(1)[0]))
