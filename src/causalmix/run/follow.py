"""A run as the ranks beside the first one see it: the model's shapes, the same documents, and nothing to write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from causalmix.run.guard import Guard
from causalmix.run.proxy import Point, spawn_integer
from causalmix.run.workshop import Workshop


def follow_run(point: Point, run_dir: Path, workshop: Workshop, documents: NDArray[np.int64], guard: Guard) -> None:
    """Train a run along with the first rank.

    Parameters
    ----------
    point : Point
    run_dir : Path
        Where the first rank's checkpoints lie, and this one's parts of them.
    workshop : Workshop
    documents : ndarray of int64
        What the first rank has drawn.
    guard : Guard
        When to stop early.
    """
    from causalmix.train.loop import train

    config = point.config
    pool = workshop.open_pool(point.pool_dir)
    train(
        workshop.sketch_model(config, point.base_dir, pool),
        pool.store,
        documents,
        config.train,
        seed=spawn_integer(config, "training"),
        checkpoint_dir=guard.find_checkpoints(config.train, run_dir),
        should_stop=guard.should_stop,
    )
