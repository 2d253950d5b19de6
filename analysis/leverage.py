"""How far a mixture lies from those of the runs: residual leverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.coordinates import Coordinates
from analysis.roles import Roles

Floats = NDArray[np.float64]

QUANTILE = 0.95  # of the runs' own leverages: what lies below is supported


@dataclass(frozen=True)
class Leverage:
    """``h(T) = (z(T) - z_hat)' (R'R)^-1 (z(T) - z_hat)``, R the residuals of Z in the runs.

    Attributes
    ----------
    centre : ndarray (p,)
        z_hat, the prediction of Z at the target's state.
    inverse : ndarray (p, p)
    limit : float
        The 95th percentile of the runs' own leverages.
    coordinates : Coordinates
        z(T), as the fit has it.
    """

    centre: Floats
    inverse: Floats
    limit: float
    coordinates: Coordinates

    def measure(self, mixtures: Floats) -> Floats:
        """Return the leverage of mixtures (..., K)."""
        d = self.coordinates.transform(mixtures) - self.centre
        return np.asarray(np.einsum("...k,kj,...j->...", d, self.inverse, d))

    def embed_slope(self, mixture: Floats) -> Floats:
        """Return the derivative (K,) of each embedded share by ``log T`` at one mixture (K,)."""
        return mixture / (mixture + self.coordinates.offset) if self.coordinates.is_log else mixture

    def slope(self, mixture: Floats) -> Floats:
        """Return the derivative (K,) by ``log T`` at one mixture (K,)."""
        d = self.coordinates.transform(mixture) - self.centre
        return np.asarray(2.0 * (self.coordinates.jacobian(mixture).T @ self.inverse @ d) * mixture)


def read_leverage(roles: Roles, x: Floats) -> Leverage:
    """Read the leverage at state ``x`` off the runs.

    The residual of Z is taken from its linear prediction by X, or from its mean where T was randomised.
    """
    ones = np.ones((roles.n_runs, 1))
    design = ones if roles.randomised or not roles.x_names else np.hstack([ones, roles.X])
    at_target = np.ones(1) if design.shape[1] == 1 else np.concatenate([[1.0], x])
    coefficients = np.linalg.lstsq(design, roles.Z, rcond=None)[0]
    residuals = roles.Z - design @ coefficients
    inverse = np.linalg.pinv(residuals.T @ residuals, hermitian=True)
    own = np.einsum("nk,kj,nj->n", residuals, inverse, residuals)
    return Leverage(at_target @ coefficients, inverse, float(np.quantile(own, QUANTILE)), roles.coordinates)
