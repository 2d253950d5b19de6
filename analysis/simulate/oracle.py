"""The least uncertainty there is to have: intervals of a fit that is told everything but the effects' sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.linear import LinearEffects
from analysis.estimators.nuisances import Residuals
from analysis.roles import assign_roles
from analysis.simulate.world import World, draw_table
from causalmix.config import EstimatorConfig, OutcomeConfig

Floats = NDArray[np.float64]


def fit_oracle(world: World, seed: int) -> LinearEffects:
    """Fit least squares on the true form of the effects, both nuisances known.

    Each domain's theta is its constant and its true shape over states, both free: ``a_k + b_k f_k(x)``, or a
    value a leaf for a tree. The level, the design's mean of log T and what bends are subtracted exactly.
    """
    table = draw_table(world, seed)
    cfg = EstimatorConfig(name="oracle", kind="linear_dml", per_outcome=False)
    roles = assign_roles(table, "signal", cfg, OutcomeConfig())
    mean_log = world.mean_log(roles.X, seed)
    level = world.level(roles.X) + (world.theta(roles.X) * mean_log).sum(axis=1)
    outcomes = roles.outcomes - (level - world.bending(roles.mixtures))[:, None]
    folds = np.zeros(roles.n_runs, dtype=np.int64)
    residuals = Residuals(outcomes, level[:, None], roles.Z - mean_log, mean_log, folds)
    return LinearEffects(roles, residuals, world.shapes)


def oracle_width(world: World, seed: int, states: Floats, z: float = 1.959964) -> float:
    """Return the mean width of the oracle's 95% intervals of theta over states (m, d)."""
    variances = np.einsum("mkk->mk", fit_oracle(world, seed).covariances(states))
    return float(2 * z * np.sqrt(np.clip(variances, 0.0, None)).mean())


def attain(world: World, seed: int, states: Floats) -> float:
    """Return the oracle's mean regret over states (m, d), points: what these runs allow who knows all but sizes.

    Its mixture is the best one if its estimates were the truth. What no shape has to be found for can't be done
    better without bias; a method that shrinks sizes can, a little.
    """
    return find_regret(world, states, fit_oracle(world, seed).thetas(states))


def find_regret(world: World, states: Floats, thetas: Floats) -> float:
    """Return what is lost at states (m, d), points on average, by who takes effects (m, K) for the true ones."""
    mixtures = np.stack([world.best_for(theta) for theta in thetas])
    best = np.stack([world.best(x) for x in states])
    return float(np.mean(world.outcome(states, best) - world.outcome(states, mixtures)))
