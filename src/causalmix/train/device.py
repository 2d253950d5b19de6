"""The device a training runs on."""

from __future__ import annotations

import torch

from causalmix.errors import TrainError


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
