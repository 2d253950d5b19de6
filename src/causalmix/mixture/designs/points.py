"""A design that is a finite set of mixtures: run i takes point i."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.mixture.designs.design import Draw, Moments, check_points, summarise_logs


@dataclass(frozen=True)
class PointDesign:
    """Mixtures in a fixed order; a sweep over ``seed=range(n_points)`` takes each of them once.

    Attributes
    ----------
    name : str
    domains : tuple of str
    weights : ndarray (n, K)
        The points.
    size_factors : ndarray (n,) or None
        Documents of each point's run over ``train.n_samples``; None where all are 1.
    """

    name: str
    domains: tuple[str, ...]
    weights: NDArray[np.float64]
    size_factors: NDArray[np.float64] | None = None

    @property
    def is_random(self) -> bool:
        """Always True: runs differ in their mixture."""
        return True

    @property
    def n_points(self) -> int:
        """How many points there are."""
        return len(self.weights)

    def sample(self, rng: np.random.Generator, index: int) -> Draw:
        """Return point ``index``; ``rng`` is not used.

        Raises
        ------
        MixtureError
            No such point.
        """
        check_points(self, [index])
        parameters = {"point": float(index)}
        if self.size_factors is None:
            return Draw(self.weights[index].copy(), parameters)
        size = float(self.size_factors[index])
        return Draw(self.weights[index].copy(), parameters | {"size_factor": size}, size)

    def moments(self, seed: int, n_draws: int = 20_000) -> Moments:
        """Mean and covariance of ``log T`` over the points, each as likely as the others: exact."""
        return summarise_logs(self.weights, exact=True)
