"""What every regressor of an outcome on shares offers, and the checks they share."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import AnalysisError, name_some

Floats = NDArray[np.float64]


class Regressor(Protocol):
    """A fit of ``E[Y | T]``; the outcome's unit and direction are the caller's."""

    def fit(self, T: Floats, y: Floats) -> Self:
        """Fit outcomes ``y`` (n,) on mixtures ``T`` (n, K)."""

    def predict(self, T: Floats) -> Floats:
        """Return the predicted outcomes (m,) of mixtures ``T`` (m, K), in the unit of ``y``."""


def check_rows(T: Floats, y: Floats, n_needed: int, name: str) -> None:
    """Refuse rows that cannot be fitted.

    Parameters
    ----------
    T : ndarray (n, K)
    y : ndarray (n,)
    n_needed : int
        Fewest rows that the regressor can use.
    name : str
        What the message calls it.

    Raises
    ------
    AnalysisError
        Shapes that do not match, values that are not finite (rows named), too few rows, one outcome in all rows.
    """
    if T.ndim != 2 or y.shape != (len(T),):
        raise AnalysisError(f"{name}: mixtures (n, K) and outcomes (n,) are wanted, not {T.shape} and {y.shape}.")
    bad = np.flatnonzero(~(np.isfinite(T).all(axis=1) & np.isfinite(y)))
    if len(bad):
        raise AnalysisError(f"{name}: shares and outcomes must be finite numbers; rows {name_some(bad)} are not.")
    if len(T) < n_needed:
        raise AnalysisError(
            f"{name}: {len(T)} runs; with {T.shape[1]} domains it needs at least {n_needed}. Run more of the sweep, "
            f"or leave {name} out."
        )
    if np.ptp(y) == 0:
        raise AnalysisError(f"{name}: all {len(y)} runs have the outcome {y[0]:g}: there is nothing to fit.")
