"""One training among others in one computation: all that it has for itself."""

from __future__ import annotations

import numpy as np
import torch

from causalmix.errors import StoppedEarlyError
from causalmix.train.checkpoint import CheckpointWriter
from causalmix.train.checks import check_documents, check_settings, identify
from causalmix.train.engine import Engine
from causalmix.train.ledger import Entry, Ledger
from causalmix.train.lora import add_lora, merge_lora
from causalmix.train.meter import Meter, Work
from causalmix.train.ranks import find_ranks
from causalmix.train.result import TrainResult, summarise
from causalmix.train.row_optimizer import RowOptimizer
from causalmix.train.schedule import learning_rate
from causalmix.train.steps import PlannedSteps, Step, Steps
from causalmix.train.training import Training


class Seat:
    """One training among others: what it has for itself.

    Attributes
    ----------
    at : int
        Its place in what :func:`train_together` was given.
    device_s : float
        Its share of the seconds so far.
    """

    def __init__(self, at: int, training: Training, engine: Engine) -> None:
        self.at, self.training, self.engine = at, training, engine
        self.cfg, self.model = training.cfg, training.model
        check_settings(self.cfg, getattr(self.model.config, "max_position_embeddings", self.cfg.max_length))
        kept = training.kept
        self.kept = check_documents(training.store, training.doc_ids, self.cfg) if kept is None else kept
        self.dtype = self.model.dtype
        self.model.to(dtype=torch.float32 if engine.is_half else None).train()
        self.adapted = add_lora(self.model, self.cfg.lora, training.seed) if self.cfg.lora.rank > 0 else None
        self.lengths = training.store.lengths()
        self.steps: Steps = PlannedSteps(
            self.lengths[self.kept], self.kept, self.cfg, training.seed, None, find_ranks()
        )
        self.meter = Meter(Work(self.model), engine.device, self.dtype)
        self.writer = CheckpointWriter(training.checkpoint_dir, beside=engine.device.type != "cpu")
        self.device_s = self.waited_s = 0.0

    def begin(self, optimizer: RowOptimizer) -> None:
        """Take its part of a stack, and what an interrupted training left."""
        training = self.training
        self.optimizer = optimizer
        saved, self.identity = None, ""
        if training.checkpoint_dir is not None:
            first = (self.model, training.store, training.doc_ids, self.cfg, training.seed, self.steps.describe())
            self.identity = identify(*first)
            saved = optimizer.load(training.checkpoint_dir, self.identity)
        self.ledger = Ledger(saved)

    @property
    def n_done(self) -> int:
        """Steps that are done."""
        return int(self.ledger.state["step"])

    @property
    def is_done(self) -> bool:
        """Whether no step is left."""
        return self.n_done == self.steps.size

    def draw(self) -> Step:
        """Return the rows of its next step."""
        return self.steps.draw(self.n_done)

    def learn(self, gradient: torch.Tensor, entry: Entry, n_tokens: int, n_targets: int) -> None:
        """Do the rest of a step, from its clipped gradient on: as alone, in the same order.

        Raises
        ------
        TrainError
            For a loss that is no number.
        """
        step, documents = entry.step, entry.documents
        lr = learning_rate(self.cfg, step, self.steps.size)
        self.ledger.add(entry, n_tokens, n_targets)
        if self.engine.device.type == "cpu":
            self.ledger.read()
        self.optimizer.step(gradient, lr)
        self.meter.add(np.minimum(self.lengths[documents], self.cfg.max_length), n_targets)
        if self.training.log is not None and (self.is_done or (step + 1) % self.cfg.log_every == 0):
            line = self.ledger.describe(lr)
            self.training.log({**line, **self.meter.report(self.waited_s)})

    def settle(self) -> None:
        """Write a checkpoint where one is due or asked for.

        Raises
        ------
        StoppedEarlyError
            Where it was told to stop; whatever else ``should_stop`` raises.
        """
        is_told = self.training.should_stop is not None and not self.is_done and self.training.should_stop()
        is_due = bool(self.cfg.checkpoint_every) and self.n_done % self.cfg.checkpoint_every == 0
        if self.training.checkpoint_dir is not None and (is_due or is_told):
            state = self.ledger.freeze(self.steps.state(), self.identity)
            self.writer.save(self.optimizer.take_snapshot(state))
        if is_told:
            self.writer.wait()
            raise StoppedEarlyError(f"told to stop after {self.steps.unit} {self.n_done} of {self.steps.size}")

    def give_up(self, error: Exception) -> Exception:
        """Leave with an error, once what is being written is written."""
        self.writer.__exit__(type(error), error, None)
        return error

    def finish(self) -> TrainResult:
        """Leave with a model that has its weights."""
        self.ledger.read()
        self.writer.__exit__(None, None, None)
        if self.adapted is not None:
            merge_lora(self.adapted)
        self.model.to(dtype=self.dtype).eval()
        counts = (self.lengths, self.training.doc_ids, self.cfg)
        return summarise(self.ledger, self.steps, *counts, n_kept=len(self.kept), device_s=self.device_s)
