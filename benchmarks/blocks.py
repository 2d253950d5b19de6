"""Repetitions in blocks that are kept as they end, so that a long benchmark can be run over several sittings."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from causalmix.files import write_json

N_SEEDS = 10  # repetitions a block

Rows = list[list[float]]


@dataclass(frozen=True)
class Block:
    """Some repetitions of one arm in one cell; every repetition is made from its seed alone."""

    name: str
    cell: tuple[tuple[str, Any], ...]
    arm: str
    seeds: tuple[int, ...]

    def locate(self, folder: Path) -> Path:
        """Return the file of the block."""
        plain = [re.sub(r"[^a-z0-9.]+", "_", text.lower()) for text in (self.name, self.arm)]
        return folder / plain[0] / plain[1] / f"{self.seeds[0]:05d}-{self.seeds[-1]:05d}.json"


def keep_blocks(
    work: Callable[[Block], Rows],
    cells: Mapping[str, Mapping[str, Any]],
    arms: Mapping[str, int],
    options: argparse.Namespace,
) -> dict[tuple[str, str], Rows]:
    """Do all blocks, those that the folder holds already excepted.

    Parameters
    ----------
    work : callable
        A block to a row of scores a repetition.
    cells : mapping
        Name to dials.
    arms : mapping of str to int
        Name to number of repetitions.
    options : Namespace
        ``folder``, ``minutes`` and ``workers``: no block is begun after so many minutes.

    Returns
    -------
    dict
        (cell, arm) to the rows of every repetition that is done, in the order of their seeds.
    """
    every = sorted(_list_blocks(cells, arms), key=lambda block: block.seeds[0])  # all cells advance together
    files = {block: block.locate(options.folder) for block in every} if options.folder else {}
    done: dict[Block, Rows] = {}
    for block, file in files.items():
        if file.exists():
            done[block] = json.loads(file.read_text())
    left = [block for block in every if block not in done]
    for block, rows in _run(work, left, options.workers, options.minutes):
        done[block] = rows
        if block in files:
            files[block].parent.mkdir(parents=True, exist_ok=True)
            write_json(files[block], rows)
    results: dict[tuple[str, str], Rows] = {(name, arm): [] for name in cells for arm in arms}
    for block in every:
        results[block.name, block.arm] += done.get(block, [])
    return results


def _list_blocks(cells: Mapping[str, Mapping[str, Any]], arms: Mapping[str, int]) -> Iterable[Block]:
    for arm, n_repetitions in arms.items():
        for name, cell in cells.items():
            for start in range(0, n_repetitions, N_SEEDS):
                yield Block(name, tuple(cell.items()), arm, tuple(range(start, min(start + N_SEEDS, n_repetitions))))


def _run(
    work: Callable[[Block], Rows], left: list[Block], n_workers: int, minutes: float | None
) -> Iterable[tuple[Block, Rows]]:
    ends = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    bar = tqdm(total=len(left), desc="blocks", leave=False)
    if n_workers <= 1:
        for block in left:
            if time.monotonic() > ends:
                return
            yield block, work(block)
            bar.update()
        return
    # Forked workers inherit the loaded libraries; each stays on one thread, as the estimators do.
    waiting = list(reversed(left))
    running: dict[Future[Rows], Block] = {}
    with ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("fork")) as pool:
        while True:
            while waiting and len(running) < n_workers and time.monotonic() < ends:
                block = waiting.pop()
                running[pool.submit(work, block)] = block
            if not running:
                return
            for each in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(each), each.result()
                bar.update()
