"""The device a training runs on: which, how fast it multiplies, where it keeps compiled code."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path

import torch

from causalmix.errors import TrainError

SIDES = {"cpu": 384, "cuda": 8192}  # of the square matrices that tell a device's peak


def choose_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device that is there.

    Raises
    ------
    TrainError
        For any other name, or for cuda where there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise TrainError(f"train.device={device!r} is not one of auto, cpu, cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainError("train.device=cuda, but torch sees no GPU here: use train.device=auto or cpu.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=8)
def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the floating-point operations a second of a large matrix product, once a process.

    Returns
    -------
    float
        The best of five; milliseconds on a CPU (with the threads that torch has now) and on a GPU.
    """
    side = SIDES[device.type]
    left = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(6):  # the first one warms up
        synchronise(device)
        started = time.perf_counter()
        torch.mm(left, left)
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * side**3 / best


def synchronise(device: torch.device) -> None:
    """Wait for what a GPU still computes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def keep_compiled() -> None:
    """Keep what torch compiles in the user's own cache, for the next worker; a folder the environment names is left.

    Never where a sweep lies: torch reads machine code and pickles back from there, and others may write to a sweep.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "causalmix" / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder / "triton"))
