"""Everything that scores a pool: the language model, the rater and the extra scorers, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import PoolError
from causalmix.pool.scores.scorer import ScoredText, Scorer

if TYPE_CHECKING:
    from causalmix.pool.scores.language_model import LanguageModelScorer
    from causalmix.pool.scores.writing_style import WritingStyleScorer


@dataclass
class Panel:
    """The scorers of a pool.

    Attributes
    ----------
    features : tuple of str
        The columns of what :meth:`score` returns.
    language_model, style
        None where no feature needs them.
    extra : dict
        Feature -> scorer.
    """

    features: tuple[str, ...]
    language_model: LanguageModelScorer | None = None
    style: WritingStyleScorer | None = None
    extra: dict[str, Scorer] = field(default_factory=dict)

    @property
    def truncated(self) -> dict[str, int]:
        """Texts so far that were longer than a feature reads, where it has a limit."""
        counts = self.language_model.truncated if self.language_model else {}
        return {name: count for name, count in counts.items() if name in self.features}

    def score(self, texts: Sequence[ScoredText]) -> NDArray[np.float64]:
        """Score texts; shape (n_texts, n_features).

        Raises
        ------
        PoolError
            Where an extra scorer returns something else than one number a text.
        """
        columns: dict[str, NDArray[np.float64]] = {}
        for scorer in (self.language_model, self.style):
            if scorer is not None:
                columns |= dict(zip(scorer.features, scorer.score(texts).T))
        for name, extra in self.extra.items():
            columns[name] = _check_shape(name, extra(texts), len(texts))
        return np.column_stack([columns[name] for name in self.features])


def _check_shape(name: str, given: object, count: int) -> NDArray[np.float64]:
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise PoolError(f"pool.scores.extra.{name} returned {type(given).__name__}, not one number a text.") from None
    if values.shape != (count,):
        raise PoolError(
            f"pool.scores.extra.{name} returned an array of shape {values.shape} for {count} texts: one number a text "
            "is wanted."
        )
    return values
