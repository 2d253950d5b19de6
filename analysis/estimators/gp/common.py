"""What all effects have in common: more of a domain helps, unless the runs say otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Common:
    """``mu ~ N(size, size^2)``, a part of every theta_p: positive five times of six, before any run is seen.

    Mixtures that differ little say next to nothing of the level of the effects, only of their differences. A prior
    centred at zero then makes half of the effects negative, and the best mixture a corner. This one makes it equal
    shares; its width is as large as its mean, so that no gain is sure on its account.

    Attributes
    ----------
    size : float
        Mean and standard deviation, in the units of the process; 0 where there is no such part.
    pulls : ndarray (n,)
        ``1' R``: what mu is multiplied by in each run.
    """

    size: float
    pulls: Floats

    @property
    def mean(self) -> Floats:
        """Mean (n,) of the outcomes on its account."""
        return self.size * self.pulls

    def covariance(self) -> Floats:
        """Return the covariance (n, n) of the outcomes on its account."""
        return np.asarray(self.size**2 * np.multiply.outer(self.pulls, self.pulls))

    def across(self, D: Floats) -> Floats:
        """Return the covariance (n, J) of the runs with functionals ``D' theta``, D (p, J)."""
        return np.asarray(self.size**2 * np.multiply.outer(self.pulls, D.sum(axis=0)))

    def own(self, D: Floats) -> Floats:
        """Return the covariance (J, J) of the functionals."""
        return np.asarray(self.size**2 * np.multiply.outer(D.sum(axis=0), D.sum(axis=0)))
