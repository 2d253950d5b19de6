"""A world of known effects: its dials, its truth, and the runs tables that it deals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmix.config import DialsConfig
from causalmix.errors import AnalysisError, nearest_name
from causalmix.mixture.simplex import Box, default_floor, project_to_box
from causalmix.table.runs import RunsTable

Floats = NDArray[np.float64]

HETEROGENEITY = ("none", "linear", "smooth", "step", "tree")
N_MEAN_DRAWS = 4000  # behind the design's mean of log T at one state


@dataclass(frozen=True)
class World:
    """``E[Y | x, T] = g(x) + theta(x)' log T - sum_k b_k / 2 (log T_k - c_k)^2``, with everything in it known.

    Attributes
    ----------
    dials : DialsConfig
    constant : ndarray (K,)
        Mean effects.
    directions : ndarray (K, d), phases : ndarray (K,)
        Of linear and smooth effects.
    features : ndarray of int (K,), thresholds : ndarray (K,), jumps : ndarray (K,)
        Of effects with steps.
    leaves : ndarray (3, K)
        Effects of the tree's leaves.
    pull : ndarray (K, d)
        Where confounding moves the sampler's centre.
    curvature : ndarray (K,)
        b: twice the dial for half of the domains, which saturate; 0 for the others.
    centre : ndarray (K,)
        c, the mean of log T of the randomised design.
    bend : ndarray (K,)
        Least-squares slope of the curvature's part on log T over that design.
    """

    dials: DialsConfig
    constant: Floats
    directions: Floats
    phases: Floats
    features: NDArray[np.int64]
    thresholds: Floats
    jumps: Floats
    leaves: Floats
    pull: Floats
    curvature: Floats
    centre: Floats
    bend: Floats

    @property
    def domains(self) -> tuple[str, ...]:
        """The K domains, by name."""
        return tuple(f"d{k:02d}" for k in range(self.dials.n_domains))

    @property
    def box(self) -> Box:
        """Feasible mixtures: the usual floor, no cap."""
        n = self.dials.n_domains
        return Box(self.domains, np.full(n, default_floor(n)), np.ones(n))

    def theta(self, X: Floats) -> Floats:
        """Return the true effects (m, K) at states (m, d): at the design's centre, where there is curvature."""
        return np.asarray(self.constant + self.dials.strength * self._move(X))

    def shapes(self, X: Floats) -> Floats:
        """Return regressors (m, K, b) that every true theta is linear in: what an oracle would regress on."""
        n_domains = self.dials.n_domains
        eye = np.eye(n_domains)
        if self.dials.heterogeneity == "none":
            return np.asarray(np.broadcast_to(eye, (len(X), n_domains, n_domains)))
        if self.dials.heterogeneity == "tree":
            leaves = np.eye(3)[self._find_leaf(X)]
            return np.asarray(np.einsum("kj,ml->mkjl", eye, leaves).reshape(len(X), n_domains, -1))
        own = self._move(X)[:, :, None] * eye
        return np.concatenate([np.broadcast_to(eye, own.shape), own], axis=2)

    def _move(self, X: Floats) -> Floats:
        """Return how far effects (m, K) lie from their constants, in units of the strength."""
        kind = self.dials.heterogeneity
        if kind == "none":
            return np.zeros((len(X), self.dials.n_domains))
        if kind == "linear":
            return np.asarray(X @ self.directions.T)
        if kind == "smooth":
            return np.asarray(np.sqrt(2.0) * np.sin(1.5 * X @ self.directions.T + self.phases))
        if kind == "step":
            return np.where(X[:, self.features] > self.thresholds, self.jumps, -self.jumps)
        return np.asarray(self.leaves[self._find_leaf(X)])

    def _find_leaf(self, X: Floats) -> NDArray[np.int64]:
        return np.where(X[:, 0] <= 0.25, np.where(X[:, 1] <= -0.25, 0, 1), 2)

    def slopes(self, X: Floats) -> Floats:
        """Return what a fit linear in log T estimates (m, K): the best slopes over the randomised design."""
        return np.asarray(self.theta(X) + self.bend)

    def outcome(self, X: Floats, mixtures: Floats) -> Floats:
        """Return the mean outcome (m,) of mixtures (m, K) at states (m, d), less what the state alone adds."""
        return np.asarray((self.theta(X) * np.log(mixtures)).sum(axis=-1) - self.bending(mixtures))

    def bending(self, mixtures: Floats) -> Floats:
        """Return what mixtures (..., K) lose to curvature, points."""
        return np.asarray(0.5 * (np.log(mixtures) - self.centre) ** 2 @ self.curvature)

    def level(self, X: Floats) -> Floats:
        """Return g (m,), what the state itself is worth."""
        return np.asarray(50.0 + 2.0 * np.sin(X[:, 0]) + 1.5 * X[:, 1 % X.shape[1]])

    def best(self, x: Floats) -> Floats:
        """Return the best mixture (K,) at one state: the box rule, or a search where effects bend."""
        return self.best_for(self.theta(x[None, :])[0])

    def best_for(self, theta: Floats) -> Floats:
        """Return the best mixture (K,) if the effects were ``theta`` (K,), all else as it is."""
        positive = np.clip(theta, 0.0, None)
        even = np.full(len(theta), 1.0 / len(theta))
        start = project_to_box(positive, self.box) if positive.sum() > 0 else project_to_box(even, self.box)
        if self.dials.curvature == 0 and positive.sum() > 0:
            return start
        return _climb(lambda t: float(theta @ np.log(t) - self.bending(t)), [start, even], self.box)

    def draw_mixtures(self, X: Floats, rng: np.random.Generator) -> Floats:
        """Draw one mixture (n, K) a state (n, d), from the floored Dirichlet."""
        dials, n_domains = self.dials, self.dials.n_domains
        low, high = np.log(dials.concentration_min * n_domains), np.log(dials.concentration_max * n_domains)
        concentration = np.exp(rng.uniform(low, high, len(X)))
        logits = dials.confounding * X @ self.pull.T
        centre = np.exp(logits - logits.max(axis=1, keepdims=True))
        centre /= centre.sum(axis=1, keepdims=True)
        shape = np.maximum(concentration[:, None] * centre, 1e-2)
        gammas = np.log(rng.standard_gamma(shape + 1.0)) + np.log(rng.random(shape.shape)) / shape
        raw = np.exp(gammas - gammas.max(axis=1, keepdims=True))
        floor = default_floor(n_domains)
        return np.asarray(floor + (1.0 - n_domains * floor) * raw / raw.sum(axis=1, keepdims=True))

    def mean_log(self, X: Floats, seed: int) -> Floats:
        """Return the design's mean of log T (n, K) given each state, by Monte Carlo; one row where it is the same."""
        rng = np.random.default_rng([seed, 5])
        states = X if self.dials.confounding else X[:1]
        n_draws = N_MEAN_DRAWS if self.dials.confounding else 10 * N_MEAN_DRAWS
        means = np.stack([np.log(self.draw_mixtures(np.tile(x, (n_draws, 1)), rng)).mean(axis=0) for x in states])
        return np.asarray(np.broadcast_to(means, (len(X), self.dials.n_domains)))


def make_world(dials: DialsConfig, seed: int) -> World:
    """Draw a world: the same dials and seed give the same truth."""
    if dials.heterogeneity not in HETEROGENEITY:
        raise AnalysisError(
            f"heterogeneity={dials.heterogeneity}{nearest_name(dials.heterogeneity, HETEROGENEITY)}; "
            f"allowed: {', '.join(HETEROGENEITY)}."
        )
    if dials.n_runs < 2 or dials.n_domains < 2 or dials.n_features < 2:
        raise AnalysisError("a simulated sweep needs at least 2 runs, 2 domains and 2 features.")
    rng = np.random.default_rng([seed, 3])
    n_domains, n_features = dials.n_domains, dials.n_features
    directions = rng.normal(size=(n_domains, n_features))
    zero = np.zeros(n_domains)
    world = World(
        dials=dials,
        constant=rng.normal(1.0, 0.7, n_domains),
        directions=directions / np.sqrt((directions**2).sum(axis=1, keepdims=True)),
        phases=rng.uniform(0, np.pi, n_domains),
        features=rng.integers(0, n_features, n_domains),
        thresholds=rng.uniform(-0.7, 0.7, n_domains),
        jumps=rng.choice([-1.0, 1.0], n_domains),
        leaves=rng.normal(size=(3, n_domains)),
        pull=rng.normal(size=(n_domains, n_features)) / np.sqrt(n_features),
        curvature=np.where(rng.permutation(n_domains) < n_domains // 2, 2.0 * dials.curvature, 0.0),
        centre=zero,
        bend=zero,
    )
    if not dials.curvature:
        return world
    randomised = dataclasses.replace(world, dials=dataclasses.replace(dials, confounding=0.0))
    states = np.zeros((10 * N_MEAN_DRAWS, n_features))
    logs = np.log(randomised.draw_mixtures(states, np.random.default_rng([seed, 4])))
    centred = logs - logs.mean(axis=0)
    bent = -0.5 * centred**2 @ world.curvature
    return dataclasses.replace(world, centre=logs.mean(axis=0), bend=np.linalg.lstsq(centred, bent, rcond=None)[0])


def draw_table(world: World, seed: int) -> RunsTable:
    """Deal one sweep: states first, then mixtures, then outcomes, as a runs table."""
    dials, rng = world.dials, np.random.default_rng([seed, 7])
    X = rng.normal(size=(dials.n_runs, dials.n_features))
    T = world.draw_mixtures(X, rng)
    y = world.level(X) + world.outcome(X, T) + rng.normal(0.0, dials.noise, dials.n_runs)
    columns: dict[str, object] = {"run_id": [f"r{i:05d}" for i in range(dials.n_runs)], "status": "complete"}
    columns |= {f"mixture.{name}": T[:, k] for k, name in enumerate(world.domains)}
    columns |= {f"state.x{j}": X[:, j] for j in range(dials.n_features)}
    if dials.knows_design:
        means = world.mean_log(X, seed)
        columns |= {f"design.mean_log.{name}": means[:, k] for k, name in enumerate(world.domains)}
    columns["outcome.avg_dev"] = y
    features = tuple(f"x{j}" for j in range(dials.n_features))
    return RunsTable(pd.DataFrame(columns), world.domains, features, (), f"simulated-{seed}")


def _climb(score: Callable[[Floats], float], starts: list[Floats], box: Box) -> Floats:
    """Maximise a smooth score over the box from a few starts."""
    from scipy.optimize import Bounds, LinearConstraint, minimize

    def cost(t: Floats) -> float:
        return -score(np.clip(t, 1e-6, None))

    best, highest = starts[0], -np.inf
    for start in starts:
        found = minimize(
            cost,
            start,
            method="SLSQP",
            bounds=Bounds(box.floor, box.cap),
            constraints=LinearConstraint(np.ones((1, len(start))), 1.0, 1.0),
            options={"maxiter": 200, "ftol": 1e-10},
        )
        mixture = project_to_box(np.clip(found.x, 0.0, None), box)
        if score(mixture) > highest:
            best, highest = mixture, score(mixture)
    return best
