"""The frozen normaliser: one mean and one standard deviation a feature, fitted on reference documents once.

It is never refitted on a pool that is measured: a state would then be the same for every pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import PoolError, name_some
from causalmix.files import fingerprint


@dataclass(frozen=True)
class Normaliser:
    """Scale of the scores, with the identity of what made them.

    Attributes
    ----------
    features : tuple of str
    mean, sd : tuple of float
        In the raw scores' units.
    identity : dict
        Model, tokenizer, lengths and version behind the scores.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    identity: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hash of what makes two scores comparable: models, tokenizer, lengths, version."""
        return fingerprint([list(self.features), self.identity])

    def apply(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Normalise raw scores of shape (n, n_features)."""
        return np.asarray((raw - np.asarray(self.mean)) / np.asarray(self.sd))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the fingerprint included."""
        return {**asdict(self), "fingerprint": self.fingerprint}


def fit_normaliser(features: Sequence[str], raw: NDArray[np.float64], identity: dict[str, Any]) -> Normaliser:
    """Fit mean and standard deviation of raw scores, shape (n, n_features).

    Raises
    ------
    PoolError
        For a score that is not finite, or one that is the same for every document.
    """
    if not np.isfinite(raw).all():
        bad = [name for name, column in zip(features, raw.T) if not np.isfinite(column).all()]
        raise PoolError(f"scores that are not numbers: {name_some(bad)}. The model behind them is broken.")
    sd = raw.std(axis=0)
    flat = [name for name, value in zip(features, sd) if value <= 1e-9]
    if flat:
        raise PoolError(
            f"{name_some(flat)} is the same for all {len(raw)} calibration documents, so it cannot be "
            f"normalised: "
            f"the model behind it has learnt nothing, or pool.scores.n_calibration is too small."
        )
    return Normaliser(tuple(features), tuple(map(float, raw.mean(axis=0))), tuple(map(float, sd)), identity)
