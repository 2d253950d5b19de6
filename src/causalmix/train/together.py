"""Several trainings as one computation, each with its own documents, seed, schedule, optimiser, ledger and checkpoint.

Every step takes the next step of each training. The forward and the backward pass are computed once over all of them
(:mod:`~causalmix.train.stack`, :mod:`~causalmix.train.side_by_side`); what follows is each training's own, and the same
as alone (:mod:`~causalmix.train.seat`). One that ends or fails leaves the others, which go on without it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from causalmix.errors import TrainError
from causalmix.train.engine import Engine, make_engine
from causalmix.train.ledger import Entry
from causalmix.train.memory import explain_out_of_memory
from causalmix.train.reader import BatchReader
from causalmix.train.result import TrainResult
from causalmix.train.row_optimizer import RowOptimizer
from causalmix.train.seat import Seat
from causalmix.train.side_by_side import SideBySide, lay_side_by_side, sum_losses
from causalmix.train.stack import Stack
from causalmix.train.training import Training

Outcome = TrainResult | Exception


def train_together(trainings: Sequence[Training]) -> list[Outcome]:
    """Train models in place, each on its own documents of one store.

    Parameters
    ----------
    trainings : sequence of Training
        Models of one architecture; settings that agree but for schedule, optimiser, epochs and what is written.

    Returns
    -------
    list of TrainResult or Exception
        For each training what :func:`~causalmix.train.loop.train` would return or raise. Losses and weights equal those
        of the training alone up to rounding, also where it was interrupted and goes on alone or beside others. What
        fails the computation itself (memory, models of different shapes) fails all that are in it.
    """
    mark = time.perf_counter()
    outcomes: dict[int, Outcome] = {}
    seats: list[Seat] = []
    try:
        engine = make_engine(trainings[0].cfg, trainings[0].model.dtype)
        if engine.has_fixed_shapes:
            raise TrainError("Compiled attention has fixed shapes, runs together have not: set train.batch_runs=1.")
        for at, training in enumerate(trainings):
            try:
                seats.append(Seat(at, training, engine))
            except Exception as error:
                outcomes[at] = error
        group = Group(seats, engine)
        while group.seats:
            for seat in group.seats:
                seat.device_s += (time.perf_counter() - mark) / len(group.seats)
            mark = time.perf_counter()
            outcomes |= group.part()
            if group.seats:
                group.step()
    except Exception as error:
        for at in range(len(trainings)):
            outcomes.setdefault(at, error)
    return [outcomes[at] for at in range(len(trainings))]


class Group:
    """Seats that are computed as one.

    Attributes
    ----------
    seats : list of Seat
        Those that train on.
    errors : dict
        Place of a seat among them -> why it cannot.
    """

    def __init__(self, seats: list[Seat], engine: Engine) -> None:
        self.seats, self.engine = seats, engine
        self.errors: dict[int, Exception] = {}
        if not seats:
            return
        check_one(seats)
        self.stack = Stack([seat.model for seat in seats], engine.device)
        self.engine = engine.suit(self.stack.model)
        self.reader = BatchReader(seats[0].training.store, seats[0].cfg.max_length)
        for at, seat in enumerate(seats):
            try:
                seat.begin(RowOptimizer(self.stack.row, self.stack.weights[at], self.stack.parameters[at], seat.cfg))
            except Exception as error:
                self.errors[at] = error

    def step(self) -> None:
        """Do the next step of every training."""
        started = time.perf_counter()
        drawn = [seat.draw().passes for seat in self.seats]
        n_passes = max(map(len, drawn))
        padded = [passes + [()] * (n_passes - len(passes)) for passes in drawn]
        sides = [lay_side_by_side(self.reader, list(rows), self.engine) for rows in zip(*padded)]
        n_targets = [sum(own) for own in zip(*(side.n_targets for side in sides))]
        n_tokens = [sum(own) for own in zip(*(side.n_tokens for side in sides))]
        waited_s = time.perf_counter() - started

        losses, gradients = self._find_gradients(sides, n_targets)
        norms = clip(gradients, [seat.cfg.grad_clip for seat in self.seats])
        for at, (seat, gradient, norm, *own_losses) in enumerate(zip(self.seats, gradients, norms, *losses)):
            documents = [document for side in sides for document in side.documents[at]]
            seat.waited_s += waited_s
            try:
                seat.learn(gradient, Entry(seat.n_done, own_losses, norm, documents), n_tokens[at], n_targets[at])
                seat.settle()
            except Exception as error:
                self.errors[at] = error

    def _find_gradients(self, sides: list[SideBySide], n_targets: list[int]) -> tuple[Any, torch.Tensor]:
        """Compute the passes of a step; return the losses of each, a run's each, and the gradients, a run a row."""
        first, losses = self.seats[0], []
        vocab_size = self.stack.model.get_input_embeddings().weight.shape[-2]
        with explain_out_of_memory(first.cfg, first.n_done, vocab_size):
            counts = torch.tensor(n_targets, device=self.engine.device)
            for side in sides:
                means = sum_losses(self.stack.model, side, self.engine) / counts
                means.sum().backward()  # type: ignore[no-untyped-call]
                losses.append(means.detach().unbind())
        return losses, self.stack.take_gradients()

    def part(self) -> dict[int, Outcome]:
        """Let go of those that have ended or failed; return what became of them."""
        outcomes: dict[int, Outcome] = {}
        staying = []
        for at, seat in enumerate(self.seats):
            if at in self.errors:
                outcomes[seat.at] = seat.give_up(self.errors[at])
            elif seat.is_done:
                try:
                    self.stack.restore(at)
                    outcomes[seat.at] = seat.finish()
                except Exception as error:
                    outcomes[seat.at] = seat.give_up(error)
            else:
                staying.append(at)
        if len(staying) < len(self.seats):
            self.seats = [self.seats[at] for at in staying]
            self.errors = {}
            if staying:
                self.stack.keep(staying)
                self.engine = self.engine.suit(self.stack.model)
                for seat, weights in zip(self.seats, self.stack.weights):
                    seat.optimizer.follow(weights)
        return outcomes


def check_one(seats: Sequence[Seat]) -> None:
    """Refuse trainings whose batches cannot be read as one.

    Raises
    ------
    TrainError
    """
    first = seats[0]
    keys = ("max_length", "device", "attention", "recompute")
    other = sorted({key for key in keys for seat in seats if getattr(seat.cfg, key) != getattr(first.cfg, key)})
    stores = ["pool"] if any(seat.training.store is not first.training.store for seat in seats) else []
    if other or stores:
        differ = ", ".join([*stores, *(f"train.{key}" for key in other)])
        raise TrainError(f"Runs that differ in {differ} cannot train together: set train.batch_runs=1.")


def clip(gradients: torch.Tensor, limits: list[float]) -> torch.Tensor:
    """Scale each run's gradient down to its limit, as torch's clip_grad_norm_ does; return the lengths before.

    Parameters
    ----------
    gradients : Tensor, shape (n_runs, n)
        Changed in place.
    limits : list of float
        ``train.grad_clip`` of each run; 0 for none.
    """
    norms: torch.Tensor = torch.linalg.vector_norm(gradients, dim=1)
    most = torch.tensor([limit or math.inf for limit in limits], device=norms.device, dtype=norms.dtype)
    gradients *= (most / (norms + 1e-6)).clamp_(max=1.0)[:, None]
    return norms
