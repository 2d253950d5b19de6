"""What a run does more where it is one stage of a training: it scores before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from causalmix.config import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from causalmix.pool.candidate import CandidatePool
    from causalmix.pool.rescore import Sample
    from causalmix.pool.store import Pool

MODEL = "model"  # folder within a run's, where its weights are kept
SHIFT = "shift."  # columns of the record: shift.<feature>, shift.<feature>.<domain>


class Stage:
    """Scores of a run's candidate pool by its model, before training and after; nothing where it is no stage."""

    def __init__(self, config: Config, pool: Pool, candidates: CandidatePool, model: PreTrainedModel) -> None:
        self.config, self.pool = config, pool
        self.sample: Sample | None = None
        if config.train.rescored_documents:
            from causalmix.pool.rescore import draw_sample

            self.sample = draw_sample(pool, candidates, config.train.rescored_documents, config.seed)
            self.before = self._score(model)

    def measure_shift(self, model: PreTrainedModel) -> dict[str, float]:
        """Return how far the state moved under the trained model, as columns of the record."""
        if self.sample is None:
            return {}
        from causalmix.pool.rescore import measure_shift

        shift = measure_shift(self.pool, self.sample, self.before, self._score(model))
        return {f"{SHIFT}{name}": value for name, value in shift.items()}

    def _score(self, model: PreTrainedModel) -> NDArray[np.float64]:
        from causalmix.pool.rescore import score_sample
        from causalmix.train.device import choose_device

        assert self.sample is not None
        model.to(choose_device(self.config.train.device))
        return score_sample(self.pool, self.sample, model, self.config.pool.scores.batch_tokens)
