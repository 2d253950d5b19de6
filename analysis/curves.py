"""How effects change along each feature of the state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.answer import Interval, make_interval
from analysis.estimators.effects import Effects
from analysis.roles import Roles
from analysis.target import Target

Floats = NDArray[np.float64]

N_GRID = 21


@dataclass(frozen=True)
class Curve:
    """theta along one state feature, the others at the target's state.

    Attributes
    ----------
    feature : str
    grid : ndarray (m,)
        From the 5th to the 95th percentile of the runs.
    theta, low, high : ndarray (m, K)
        Points per unit of log share.
    at_target : float
        The target's own value.
    """

    feature: str
    grid: Floats
    theta: Floats
    low: Floats
    high: Floats
    at_target: float


def read_theta(effects: Effects, x: Floats, confidence: float) -> list[Interval]:
    """Return theta of every domain at the state ``x`` with its interval."""
    theta, variance = effects.theta(x), np.diag(effects.covariance(x))
    return [make_interval(float(t), float(v), confidence) for t, v in zip(theta, variance)]


def draw_curves(effects: Effects, roles: Roles, target: Target, confidence: float) -> list[Curve]:
    """Trace theta along each state feature; none for a state-agnostic fit."""
    from scipy.stats import norm

    if not effects.x_names:
        return []
    z = float(norm.ppf(0.5 + confidence / 2))
    edges = np.quantile(roles.X, [0.05, 0.95], axis=0)
    grids = [np.linspace(float(low), float(high), N_GRID) for low, high in edges.T]
    states = np.repeat(target.x[None, :], N_GRID * len(grids), axis=0)
    for j, grid in enumerate(grids):
        states[j * N_GRID : (j + 1) * N_GRID, j] = grid
    theta = effects.thetas(states)
    half = z * np.sqrt(np.clip(np.einsum("mkk->mk", effects.covariances(states)), 0.0, None))
    parts = [slice(j * N_GRID, (j + 1) * N_GRID) for j in range(len(grids))]
    return [
        Curve(name, grids[j], theta[p], theta[p] - half[p], theta[p] + half[p], float(target.x[j]))
        for j, (name, p) in enumerate(zip(roles.x_names, parts))
    ]
