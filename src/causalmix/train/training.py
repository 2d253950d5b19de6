"""A training that is asked for, to be done alone or beside others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmix.config import TrainConfig
from causalmix.train import loop
from causalmix.train.online import Online
from causalmix.train.result import TrainResult
from causalmix.train.tokens import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Training:
    """What :func:`~causalmix.train.loop.train` is asked for; see there."""

    model: PreTrainedModel
    store: TokenStore
    doc_ids: NDArray[np.int64]
    cfg: TrainConfig
    seed: int
    checkpoint_dir: Path | None = None
    log: Callable[[dict[str, Any]], None] | None = None
    trace_path: Path | None = None
    should_stop: Callable[[], bool] | None = None
    online: Online | None = None
    kept: NDArray[np.int64] | None = None

    def train_alone(self) -> TrainResult:
        """Train as the only one."""
        return loop.train(**vars(self))
