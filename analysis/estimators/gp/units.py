"""The units of the process: states, treatment residuals and outcomes brought to one size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.kernel import Points
from analysis.estimators.linear import count_polynomial, make_polynomial
from analysis.estimators.nuisances import Residuals
from analysis.roles import Roles

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """``(X - centre) / spread``, ``(Z - level) / z``, outcomes over ``y``."""

    centre: Floats
    spread: Floats
    level: Floats
    z: float
    y: float


def standardise(roles: Roles, residuals: Residuals) -> tuple[Points, Floats, Scale]:
    """Return the runs and their outcomes (n, A) in the units of the process, and those units."""
    spread = roles.X.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    centre = roles.X.mean(axis=0)
    R = residuals.Z if roles.design_mean is not None or roles.randomised else _centre_smoothly(roles)
    z = float(R.std()) or 1.0
    y = float(roles.Y.std()) or 1.0
    level = roles.Z.mean(axis=0)
    points = Points((roles.X - centre) / spread, R / z, (roles.Z - level) / z)
    return points, (roles.outcomes - roles.outcomes.mean(axis=0)) / y, Scale(centre, spread, level, z, y)


def _centre_smoothly(roles: Roles) -> Floats:
    """Subtract a quadratic of the state from Z, fitted on all runs.

    Any function of the state alone may be subtracted: ``theta(x)' e(x)`` is a function of the state too, and g
    takes it up. A cross-fitted mean differs from fold to fold, which is noise in the regressors.
    """
    degree = 2 if roles.n_runs > 4 * count_polynomial(roles.X.shape[1], 2) else 1
    phi = make_polynomial(roles.X, degree)(roles.X)
    return np.asarray(roles.Z - phi @ np.linalg.lstsq(phi, roles.Z, rcond=None)[0])
