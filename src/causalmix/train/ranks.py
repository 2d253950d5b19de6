"""The processes that train one model together, and the little that they tell each other beside gradients."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from causalmix.errors import StoppedEarlyError, TrainError

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Where torch finds the others; the batch script sets them."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model; alone unless said otherwise.

    Attributes
    ----------
    rank : int
        From 0; the first one writes and evaluates.
    size : int
        Processes in all.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Tell whether this process speaks for all."""
        return self.rank == 0

    def add(self, *numbers: float) -> list[float]:
        """Sum numbers over all ranks; every rank gets the sums."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all ranks in place, on its device and without waiting for it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def agree(self, ask: Callable[[], bool]) -> bool:
        """Ask every rank a question; True where one says so.

        Raises
        ------
        StoppedEarlyError
            Where another rank's question raised; the rank whose own did raises that.
        """
        if self.size == 1:
            return ask()
        said, raised = 0, None
        try:
            said = int(ask())
        except Exception as error:  # the others wait in the sum below: they must hear of it first
            said, raised = 2 * self.size, error
        (heard,) = self.add(said)
        if raised is not None:
            raise raised
        if heard >= 2 * self.size:
            raise StoppedEarlyError("another process of this run ended it")
        return heard > 0

    def share(self, text: str) -> str:
        """Hand the first rank's text to all; the text of the others is not looked at."""
        if self.size == 1:
            return text
        content = torch.from_numpy(np.frombuffer(text.encode(), dtype=np.uint8).copy())
        length = torch.tensor([len(content)])
        dist.broadcast(length, 0)
        if not self.is_first:
            content = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(content, 0)
        return content.numpy().tobytes().decode()

    def gather(self, text: str) -> list[str]:
        """List every rank's text, which must be ASCII of one length."""
        if self.size == 1:
            return [text]
        own = torch.tensor(list(text.encode("ascii")), dtype=torch.uint8)
        every = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(every, own)
        return [bytes(one.tolist()).decode() for one in every]

    def check_same(self, digest: str) -> None:
        """Refuse to train where the ranks hold different models, documents or settings.

        Raises
        ------
        TrainError
            Naming the ranks that differ from the first.
        """
        digests = self.gather(digest)
        others = [rank for rank, one in enumerate(digests) if one != digests[0]]
        if others:
            raise TrainError(
                f"Ranks {others} of {self.size} would train something else than the first (weights, documents or "
                f"settings differ): do all nodes see the same files and the same code?"
            )

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()


def find_ranks() -> Ranks:
    """Find the processes that this one has joined; itself alone where it has joined none."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


def join_ranks(timeout_min: float) -> Ranks:
    """Join the processes that the environment names: NCCL between GPUs, gloo between CPUs.

    Parameters
    ----------
    timeout_min : float
        How long a process waits for the others before it gives up: also for the first one's evaluation.

    Raises
    ------
    TrainError
        Where a variable of the environment is missing, or the others do not come.
    """
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        raise TrainError(f"Training on several processes needs {', '.join(missing)} in the environment.")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(minutes=timeout_min))
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise TrainError(
            f"Rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} did not find the others at {place}: {error}"
        ) from error
    return find_ranks()


def leave_ranks() -> None:
    """Leave the others, in good order."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
