"""The next step's batches, ready when the step before is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """Build what each step needs, one step ahead of it in a thread where that pays.

    On a CPU it does not: the thread would take the time that the step computes in.

    Parameters
    ----------
    build : callable
        From a step's number to what it needs.
    n_steps : int
    is_ahead : bool

    Attributes
    ----------
    waited_s : float
        Seconds that :meth:`get` took, all together.
    """

    def __init__(self, build: Callable[[int], T], n_steps: int, *, is_ahead: bool) -> None:
        self.build = build
        self.n_steps = n_steps
        self.waited_s = 0.0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="feed") if is_ahead else None
        self._next: tuple[int, Future[T]] | None = None

    def get(self, step: int) -> T:
        """Return what a step needs and start on the one after."""
        started = time.perf_counter()
        if self._pool is None:
            built = self.build(step)
        else:
            ready = self._next[1] if self._next and self._next[0] == step else self._pool.submit(self.build, step)
            built = ready.result()
            self._next = (step + 1, self._pool.submit(self.build, step + 1)) if step + 1 < self.n_steps else None
        self.waited_s += time.perf_counter() - started
        return built

    def __enter__(self) -> Feed[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
