"""The state of a target pool: measured on its candidates, written for the analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from causalmix.sweep.points import Inputs, to_config


def measure_target(plain: dict[str, Any], inputs: Inputs, path: Path | None = None) -> Path:
    """Measure the pool that a config trains on, and write its ``state.json``.

    A candidate pool that is drawn anew for every run (``kind=tilted`` without a seed) has no one
    state: the whole pool's is taken.

    Parameters
    ----------
    plain : dict
        Resolved launch config.
    inputs : Inputs
        Prepared pools.
    path : Path, optional
        Where to write; by default ``<outputs>/states/<candidate fingerprint>.json``.
    """
    from causalmix.pool.candidate import draw_candidates
    from causalmix.pool.state import measure_state, write_state
    from causalmix.pool.store import open_pool

    pool = open_pool(inputs.prepare_pool(plain))
    config = to_config(plain).pool.candidate
    if config.kind == "tilted" and config.seed is None:
        config.kind = "all"
    candidates = draw_candidates(pool, config, seed=config.seed or 0)
    path = path or inputs.outputs / "states" / f"{candidates.fingerprint}.json"
    write_state(path, pool, candidates, measure_state(pool, candidates))
    return path
