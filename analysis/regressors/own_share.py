"""Own share: the more of a domain in the mixture, the better at it."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from analysis.regressors.regressor import check_rows
from causalmix.errors import AnalysisError

Floats = NDArray[np.float64]


class OwnShare:
    """``E[Y | T] = a + b T_k`` with k the outcome's own domain: mixtures are ranked by its share.

    Parameters
    ----------
    column : int
        k, the position of the outcome's domain.
    """

    def __init__(self, column: int):
        self.column = column
        self.intercept, self.slope = 0.0, 0.0

    def fit(self, T: Floats, y: Floats) -> Self:
        """Fit ``y`` (n,) on the one share of ``T`` (n, K); needs 3 rows."""
        check_rows(T, y, 3, "own_share")
        share = T[:, self.column]
        centred = share - share.mean()
        if not centred.any():
            raise AnalysisError(f"own_share: domain {self.column} has the share {share[0]:g} in all runs.")
        self.slope = float(centred @ y / (centred @ centred))
        self.intercept = float(y.mean() - self.slope * share.mean())
        return self

    def predict(self, T: Floats) -> Floats:
        """Return the outcomes (m,) of ``T`` (m, K)."""
        return np.asarray(self.intercept + self.slope * T[:, self.column])
