"""Scoring in parallel: shards for array tasks, processes for cores and GPUs, one block at a time each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalmix.config import PoolConfig
from causalmix.errors import PoolError
from causalmix.pool.documents import split_text
from causalmix.pool.progress import Progress
from causalmix.pool.reading import documents_path
from causalmix.pool.score_blocks import ScoreBlocks
from causalmix.pool.scores.scorer import ScoredText
from causalmix.pool.table import read_rows
from causalmix.pool.threads import use_threads

if TYPE_CHECKING:
    from causalmix.pool.scores.panel import Panel

BLOCKS_A_WORKER = 4  # a process costs seconds to start: fewer blocks than that are not worth another


@dataclass(frozen=True)
class Shard:
    """One of ``of`` equal parts of the work; which part is which does not change a score."""

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise PoolError(f"shard {self.index} of {self.of}: shards are numbered 0 to of - 1.")

    def pick(self, blocks: ScoreBlocks) -> list[int]:
        """List the shard's blocks: every ``of``-th, so that shards are alike where domains follow each other."""
        return list(range(self.index, blocks.count, self.of))


def find_shard(index: int | None, of: int | None, environment: Mapping[str, str]) -> Shard:
    """Take the shard that was asked for, else that of the SLURM array task, else everything.

    Raises
    ------
    PoolError
        Where one of the two numbers is missing, or an array's task ids have gaps.
    """
    if (index is None) != (of is None):
        raise PoolError("--shard and --of belong together: --shard 0 --of 8.")
    if index is not None and of is not None:
        return Shard(index, of)
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return Shard()
    task = int(environment["SLURM_ARRAY_TASK_ID"])
    count = int(environment.get("SLURM_ARRAY_TASK_COUNT", "1"))
    first, step = int(environment.get("SLURM_ARRAY_TASK_MIN", "0")), int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
    place, rest = divmod(task - first, max(step, 1))
    if rest or not 0 <= place < count:
        raise PoolError(
            f"SLURM_ARRAY_TASK_ID={task} is none of {count} even steps from {first}: the array has gaps. "
            "Say which shard this is with --shard I --of N."
        )
    return Shard(place, count)


def score_shard(cfg: PoolConfig, root: Path, blocks: ScoreBlocks, shard: Shard, *, progress: bool) -> int:
    """Score the blocks of a shard that are not there yet, in one process or several.

    Returns
    -------
    int
        Documents that were scored.

    Raises
    ------
    PoolError
        For scores that are not numbers, or a worker that died. Finished blocks stay.
    """
    asked = [block for block in shard.pick(blocks) if not blocks.is_done(block)]
    n_workers = count_workers(cfg, len(asked))
    done = 0
    sizes = {block: blocks.span(block)[1] - blocks.span(block)[0] for block in asked}
    scored = (
        _score_here(cfg, root, blocks, asked) if n_workers == 1 else _score_apart(cfg, root, blocks, asked, n_workers)
    )
    name = "score" if shard.of == 1 else f"score, shard {shard.index} of {shard.of}"
    with Progress(name, sum(sizes.values()), show=progress) as bar:
        for block in scored:
            done += sizes[block]
            bar.update(sizes[block])
    return done


def count_workers(cfg: PoolConfig, n_blocks: int) -> int:
    """Say how many processes score: as set, else one a GPU, else one a core that has work enough.

    Raises
    ------
    PoolError
        For a number below one.
    """
    import torch

    wanted = cfg.scores.n_workers
    if wanted is None:
        n_cores = len(os.sched_getaffinity(0))
        wanted = torch.cuda.device_count() or min(n_cores, n_blocks // BLOCKS_A_WORKER)
    elif wanted < 1:
        raise PoolError(f"pool.scores.n_workers={wanted} must be 1 or more, or null.")
    return max(1, min(wanted, n_blocks))


def score_block(panel: Panel, root: Path, blocks: ScoreBlocks, block: int) -> None:
    """Score one block and write it."""
    ids, conversations = read_rows(documents_path(root), *blocks.span(block))
    texts = [ScoredText(*split_text(turns), identity) for identity, turns in zip(ids, conversations)]
    before = dict(panel.truncated)
    raw = panel.score(texts)
    blocks.write(block, ids, raw, {name: count - before[name] for name, count in panel.truncated.items()})


def _score_here(cfg: PoolConfig, root: Path, blocks: ScoreBlocks, asked: list[int]) -> Iterator[int]:
    from causalmix.pool.scorers import load_panel

    if not asked:
        return
    panel = load_panel(cfg, root)
    # One thread: the last bits of a product may hang on how many share it, and scores must not.
    with use_threads(1):
        for block in asked:
            score_block(panel, root, blocks, block)
            yield block


_here: dict[str, Any] = {}  # of a worker process: what it loaded once


def _start_worker(cfg: PoolConfig, root: Path, blocks: ScoreBlocks, numbers: Any) -> None:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(numbers.get()) % torch.cuda.device_count())
    _here.update(cfg=cfg, root=root, blocks=blocks)


def _work(block: int) -> int:
    if "panel" not in _here:  # not when the process starts: what cannot be loaded is then an error with its own words
        from causalmix.pool.scorers import load_panel

        _here["panel"] = load_panel(_here["cfg"], _here["root"])
    score_block(_here["panel"], _here["root"], _here["blocks"], block)
    return block


def _score_apart(cfg: PoolConfig, root: Path, blocks: ScoreBlocks, asked: list[int], n_workers: int) -> Iterator[int]:
    # Started afresh, not forked: a process that has touched a GPU cannot share it with its copies.
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(n_workers):
        numbers.put(number)
    arguments = (cfg, root, blocks, numbers)
    with ProcessPoolExecutor(n_workers, context, initializer=_start_worker, initargs=arguments) as pool:
        waiting = [pool.submit(_work, block) for block in asked]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool as error:
            raise PoolError(
                f"a process that scored died (out of memory? lower pool.scores.n_workers={n_workers} or "
                "pool.scores.batch_tokens). What is scored is kept: the same command goes on."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
