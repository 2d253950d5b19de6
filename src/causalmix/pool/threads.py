"""How many threads torch uses while a store is made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads within the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count_threads() -> int:
    """Every core this process may run on, unless the environment says how many (OMP_NUM_THREADS)."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else len(os.sched_getaffinity(0))


@contextlib.contextmanager
def hide_bars() -> Iterator[None]:
    """Hide the bars that transformers draws when it loads and saves; ours tell what is going on."""
    from transformers.utils import logging

    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if had_bars:
            logging.enable_progress_bar()
