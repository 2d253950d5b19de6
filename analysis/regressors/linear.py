"""Least squares on shares: raw, in logs, and with a ridge penalty."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from analysis.regressors.regressor import check_rows

Floats = NDArray[np.float64]

LOG_OFFSET = 1e-3  # one unit of the third decimal, to which shares of public tables are rounded


class LinearShares:
    """``E[Y | T] = b_0 + sum_{k<K} b_k T_k``, least squares.

    The last share is left out: all K sum to one with the intercept.
    """

    def __init__(self) -> None:
        self.coefficients: Floats = np.empty(0)

    def fit(self, T: Floats, y: Floats) -> Self:
        """Fit ``y`` (n,) on ``T`` (n, K); needs K + 1 rows."""
        check_rows(T, y, T.shape[-1] + 1, "linear")
        self.coefficients = np.asarray(np.linalg.lstsq(_add_intercept(T[:, :-1]), y, rcond=None)[0])
        return self

    def predict(self, T: Floats) -> Floats:
        """Return the outcomes (m,) of ``T`` (m, K)."""
        return np.asarray(_add_intercept(T[:, :-1]) @ self.coefficients)


class LogShares:
    """``E[Y | T] = b_0 + sum_k b_k log(T_k + eps)``, least squares.

    The surface of CausalMix with one theta for all states (b = theta), without its cross-fitting.

    Parameters
    ----------
    offset : float
        eps. Where shares of zero occur it decides what dropping a domain is worth.
    """

    def __init__(self, offset: float = LOG_OFFSET):
        self.offset = offset
        self.coefficients: Floats = np.empty(0)

    def fit(self, T: Floats, y: Floats) -> Self:
        """Fit ``y`` (n,) on ``T`` (n, K); needs K + 2 rows."""
        check_rows(T, y, T.shape[-1] + 2, "log_shares")
        self.coefficients = np.asarray(np.linalg.lstsq(_add_intercept(np.log(T + self.offset)), y, rcond=None)[0])
        return self

    def predict(self, T: Floats) -> Floats:
        """Return the outcomes (m,) of ``T`` (m, K)."""
        return np.asarray(_add_intercept(np.log(T + self.offset)) @ self.coefficients)


class RidgeShares:
    """Ridge regression on all K standardised shares; the penalty is chosen by leave-one-out error.

    The penalty makes the answer unique, so no share has to be left out.
    """

    def __init__(self) -> None:
        self.model: Any = None

    def fit(self, T: Floats, y: Floats) -> Self:
        """Fit ``y`` (n,) on ``T`` (n, K); needs 3 rows."""
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        check_rows(T, y, 3, "ridge")
        self.model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-3, 4, 29))).fit(T, y)
        return self

    def predict(self, T: Floats) -> Floats:
        """Return the outcomes (m,) of ``T`` (m, K)."""
        return np.asarray(self.model.predict(T))


def _add_intercept(columns: Floats) -> Floats:
    return np.hstack([np.ones((len(columns), 1)), columns])
