"""What a worker keeps warm between runs: opened pools, base models, evaluators."""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalmix.config import Config
from causalmix.files import fingerprint

if TYPE_CHECKING:
    from causalmix.evaluate.evaluator import Evaluator
    from causalmix.mixture.designs.design import Moments
    from causalmix.pool.store import Pool

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep up to 256 MB that it frees, where its allocator is glibc's; elsewhere nothing happens.

    glibc returns what a batch frees to the system and takes it again, page by page, for the next one. Tensors above
    32 MB are returned as before.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(M_TRIM_THRESHOLD, 256 * 2**20)


@dataclass
class Workshop:
    """Caches of one worker process; a second run with the same inputs pays for none of them."""

    pools: dict[Path, Pool] = field(default_factory=dict)
    evaluators: dict[str, Evaluator] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep_freed_memory()

    def open_pool(self, path: Path) -> Pool:
        """Open a prepared pool, once."""
        if path not in self.pools:
            from causalmix.pool.store import open_pool

            self.pools[path] = open_pool(path)
        return self.pools[path]

    def get_evaluator(self, config: Config, pool: Pool) -> Evaluator:
        """Build the evaluator of an evaluate config and pool, once."""
        from dataclasses import asdict

        key = fingerprint([asdict(config.evaluate), pool.fingerprint])
        if key not in self.evaluators:
            from causalmix.evaluate.evaluator import Evaluator

            self.evaluators[key] = Evaluator(config.evaluate, pool.tokenizer, pool.heldout_path)
        return self.evaluators[key]

    def load_model(self, config: Config, base_dir: Path | None, pool: Pool) -> Any:
        """Load the model that a run starts from: the shared base, or pretrained weights."""
        if base_dir is not None:
            from causalmix.train.model import load_base

            return load_base(base_dir)
        from causalmix.train.model import build_model

        return build_model(config.model, pool.vocab_size, seed=0)

    def sketch_model(self, config: Config, base_dir: Path | None, pool: Pool) -> Any:
        """Build the same model without its weights, for the ranks that are handed their parts of them."""
        from causalmix.train.architectures import sketch_model

        return sketch_model(config.model, pool.vocab_size, base_dir)
