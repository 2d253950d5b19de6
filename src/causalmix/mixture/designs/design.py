"""What every design offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Draw:
    """One mixture.

    Attributes
    ----------
    weights : ndarray (K,)
        Shares in the order of the design's domains.
    parameters : dict of str to float
        What the draw was made with, recorded as ``design.<name>``.
    """

    weights: NDArray[np.float64]
    parameters: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Moments:
    """Mean (K,) and covariance (K, K) of ``log T`` under a design; the mean is -inf at a share of zero."""

    mean_log: NDArray[np.float64]
    cov_log: NDArray[np.float64]


class Design(Protocol):
    """A law of mixtures over a pool's domains."""

    @property
    def name(self) -> str:
        """Name of the design, as in the config."""

    @property
    def domains(self) -> tuple[str, ...]:
        """The K domains, in the order of every array."""

    @property
    def is_random(self) -> bool:
        """Whether runs differ in their mixture: a fixed mixture teaches a fit nothing."""

    def sample(self, rng: np.random.Generator) -> Draw:
        """Draw one mixture."""

    def moments(self, seed: int, n_draws: int = 20_000) -> Moments:
        """Return mean and covariance of ``log T``, deterministic in ``seed``."""
