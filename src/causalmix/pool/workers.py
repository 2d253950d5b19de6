"""Work spread over processes: the same function on many tasks, with one bar; the order of ending plays no part."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from causalmix.errors import PoolError
from causalmix.pool.progress import Progress

Task = TypeVar("Task")
WORTH = 16 * 2**20
PRELOAD = ["causalmix.pool.ingest", "causalmix.pool.tokens", "causalmix.pool.preload"]


def count_workers(wanted: int | None, n_tasks: int, n_bytes: int) -> int:
    """Processes for so many tasks: as many as wanted, else one a core where there is work for it.

    Parameters
    ----------
    wanted : int or None
        ``pool.n_workers``.
    n_tasks : int
        There are never more processes than that.
    n_bytes : int
        Text to work on: starting a process costs about as much as ``WORTH`` bytes of it.

    Raises
    ------
    PoolError
    """
    if wanted is not None and wanted < 1:
        raise PoolError(f"pool.n_workers={wanted} must be 1 or more (null: one a core).")
    return max(1, min(wanted or min(len(os.sched_getaffinity(0)), n_bytes // WORTH), n_tasks))


def run_tasks(work: Callable[[Task], int], tasks: Sequence[Task], n_workers: int, bar: Progress) -> None:
    """Do every task, in this process or in several; ``work`` returns how far the bar moves.

    Parameters
    ----------
    work : callable
        Defined at the top of a module, since other processes import it. Its results are files.
    tasks : sequence
        What is done already is left out by the caller.
    n_workers : int
    bar : Progress

    Raises
    ------
    PoolError
        Where a process was killed (by the kernel for memory, say): what is finished is kept.
    """
    if n_workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            bar.update(work(task))
        return
    # Not forked from here, where torch and the tokenizer may hold threads, but from a fresh process that has
    # imported what the work needs, once for all workers of all stages.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with ProcessPoolExecutor(n_workers, mp_context=context, initializer=_be_quiet) as executor:
        pending = {executor.submit(work, task) for task in tasks}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    bar.update(future.result())
        except BrokenProcessPool as error:
            raise PoolError(
                f"one of {n_workers} processes was killed: by the kernel, if memory ran out (lower pool.n_workers). "
                f"What is complete is kept: run the same command again."
            ) from error
        except BaseException:
            for future in pending:
                future.cancel()
            raise


def _be_quiet() -> None:
    # Each process is one of several: threads of the tokenizer would only contend.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
