"""What can be known at all: the posterior of one who is told the kind of effects, and all sizes, but not their form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from analysis.roles import assign_roles
from analysis.simulate.oracle import find_regret
from analysis.simulate.world import World, draw_table
from causalmix.config import EstimatorConfig, OutcomeConfig

Floats = NDArray[np.float64]
Cut = tuple[int, float]
Tree = tuple[Cut, Cut, bool]  # a first cut, a second one, and on which side of the first it counts

MEAN, VARIANCE = 1.0, 0.49  # of the constants of a world's effects
CUTS = np.linspace(-0.7, 0.7, 57)  # where a world's thresholds lie
N_SWEEPS, N_DISCARDED = 60, 10


def ideal_width(world: World, seed: int, states: Floats, z: float = 1.959964) -> float:
    """Return the mean width of 95% intervals of theta at states (m, d), for one who knows what worlds are like.

    The exact posterior given both nuisances, the noise, the kind of effects and how large they are over worlds.
    What it has to learn is what a world draws: the directions of linear and smooth effects, the features,
    thresholds and sizes of steps, the cuts and leaves of a tree. No interval that covers 95% of worlds is
    narrower on average among those linear in the outcomes (linear, smooth), or given the size of a jump is not
    known beforehand (step, tree).
    """
    return float(2 * z * np.sqrt(know_kind(world, seed, states)[1]).mean())


def ideal_regret(world: World, seed: int, states: Floats) -> float:
    """Return the mean regret over states (m, d), points, of one who knows what worlds are like, and this one's curve.

    The mixture is the best one for the posterior mean of theta, which is the best there is to do on average over
    worlds: the gain of a mixture is linear in theta.
    """
    return find_regret(world, states, know_kind(world, seed, states)[0])


def know_kind(world: World, seed: int, states: Floats) -> tuple[Floats, Floats]:
    """Return means and variances (m, K) of theta at states (m, d), given all but what a world draws."""
    R, X, y = _residualise(world, seed)
    kind = world.dials.heterogeneity
    if kind == "step":
        mean, variance = _mix_steps(world, R, X, y, states, seed)
    elif kind == "tree":
        mean, variance = _mix_trees(world, R, X, y, states, seed)
    else:
        mean, variance = _solve_process(world, R, X, y, states)
    return MEAN + mean, variance


def _residualise(world: World, seed: int) -> tuple[Floats, Floats, Floats]:
    """Return the runs' Z less its mean, their states, and their outcomes less all that does not depend on theta."""
    cfg = EstimatorConfig(name="ideal", kind="linear_dml", per_outcome=False)
    roles = assign_roles(draw_table(world, seed), "signal", cfg, OutcomeConfig())
    mean_log = world.mean_log(roles.X, seed)
    R = roles.Z - mean_log
    level = world.level(roles.X) + (world.theta(roles.X) * mean_log).sum(axis=1)
    return R, roles.X, roles.Y - level + world.bending(roles.mixtures) - MEAN * R.sum(axis=1)


def _solve_process(world: World, R: Floats, X: Floats, y: Floats, states: Floats) -> tuple[Floats, Floats]:
    K = (R @ R.T) * _correlate(world, X, X) + world.dials.noise**2 * np.eye(len(R))
    inverse = np.linalg.inv(K)
    means, variances = [], []
    for x in states:
        across = _correlate(world, X, x[None, :]) * R
        own = _correlate(world, x[None, :], x[None, :])[0, 0]
        means.append(across.T @ inverse @ y)
        variances.append(own - np.einsum("nk,nm,mk->k", across, inverse, across))
    return np.array(means), np.array(variances)


def _correlate(world: World, A: Floats, B: Floats) -> Floats:
    """Return the covariance of an effect between states (m, d) and (n, d), over worlds."""
    from scipy.spatial.distance import cdist
    from scipy.special import gamma, jv

    d, moved = A.shape[1], np.zeros((len(A), len(B)))
    if world.dials.heterogeneity == "linear":
        moved = A @ B.T / d
    elif world.dials.heterogeneity == "smooth":
        # A wave in a random direction: the mean of cos(1.5 u'(a - b)) over the unit sphere.
        t = np.maximum(1.5 * cdist(A, B), 1e-6)
        moved = gamma(d / 2) * (2 / t) ** (d / 2 - 1) * jv(d / 2 - 1, t)
    return np.asarray(VARIANCE + world.dials.strength**2 * moved)


def _mix_steps(world: World, R: Floats, X: Floats, y: Floats, states: Floats, seed: int) -> tuple[Floats, Floats]:
    """Draw every effect's feature and threshold in turn from its exact posterior given the others'."""
    rng, K = np.random.default_rng([seed, 47]), R.shape[1]
    cuts = [(f, float(cut)) for f in range(X.shape[1]) for cut in CUTS]
    sides = np.stack([np.where(X[:, f] > cut, 1.0, -1.0) for f, cut in cuts], axis=1)
    prior = np.concatenate([np.full(K, VARIANCE), np.full(K, world.dials.strength**2)])
    chosen = np.array([rng.integers(0, len(cuts)) for _ in range(K)], dtype=np.int64)
    noise, draws = world.dials.noise**2, []
    for sweep in range(N_SWEEPS):
        for k in range(K):
            others = np.hstack([R, np.delete(R * sides[:, chosen], k, axis=1)])
            weights = 1.0 / np.delete(prior, K + k)
            inverse = np.linalg.inv(np.diag(weights) + others.T @ others / noise)
            C = sides * R[:, [k]]
            cross = C.T @ others / noise
            precision = (
                1.0 / prior[K + k] + (C**2).sum(axis=0) / noise - np.einsum("ci,ij,cj->c", cross, inverse, cross)
            )
            pull = C.T @ y / noise - cross @ inverse @ (others.T @ y) / noise
            chosen[k] = _draw(0.5 * pull**2 / precision - 0.5 * np.log(precision), rng)
        if sweep >= N_DISCARDED:
            phi = np.hstack([R, R * sides[:, chosen]])
            covariance = np.linalg.inv(np.diag(1.0 / prior) + phi.T @ phi / noise)
            beta = covariance @ phi.T @ y / noise
            h = np.stack([np.where(states[:, cuts[c][0]] > cuts[c][1], 1.0, -1.0) for c in chosen], axis=1)
            own, with_jump, jump = (np.diag(part) for part in _quarter(covariance, K))
            draws.append((beta[:K] + h * beta[K:], own + 2 * h * with_jump + jump))
    return _mix(draws)


def _quarter(covariance: Floats, K: int) -> tuple[Floats, Floats, Floats]:
    return covariance[:K, :K], covariance[:K, K:], covariance[K:, K:]


def _mix_trees(world: World, R: Floats, X: Floats, y: Floats, states: Floats, seed: int) -> tuple[Floats, Floats]:
    """Draw the two cuts of a tree of three leaves in turn, each given the other."""
    rng, K = np.random.default_rng([seed, 53]), R.shape[1]
    cuts = [(f, float(cut)) for f in range(X.shape[1]) for cut in CUTS]
    noise = world.dials.noise**2
    products = np.einsum("ni,nj->nij", R, R).reshape(len(R), -1) / noise
    pulls = R * y[:, None] / noise
    prior = np.linalg.inv(np.kron(VARIANCE * np.ones((3, 3)) + world.dials.strength**2 * np.eye(3), np.eye(K)))

    def solve(trees: list[Tree]) -> tuple[Floats, Floats]:
        leaves = np.stack([_find_leaves(X, tree) for tree in trees])  # (c, n, 3)
        P = np.broadcast_to(prior, (len(trees), 3 * K, 3 * K)).copy()
        blocks = np.matmul(leaves.transpose(0, 2, 1), products).reshape(len(trees), 3, K, K)
        for leaf in range(3):
            part = slice(leaf * K, (leaf + 1) * K)
            P[:, part, part] += blocks[:, leaf]
        return P, np.matmul(leaves.transpose(0, 2, 1), pulls).reshape(len(trees), 3 * K)

    def score(trees: list[Tree]) -> Floats:
        P, u = solve(trees)
        return np.asarray(0.5 * (u * np.linalg.solve(P, u[:, :, None])[:, :, 0]).sum(1) - 0.5 * np.linalg.slogdet(P)[1])

    tree = _find_tree(cuts, score)
    draws = []
    for sweep in range(N_SWEEPS):
        first, second, side = tree
        tried = [(cut, second, each) for cut in cuts for each in (False, True)]
        first, _, side = tried[_draw(score(tried), rng)]
        tried = [(first, cut, side) for cut in cuts]
        tree = tried[_draw(score(tried), rng)]
        if sweep >= N_DISCARDED:
            P, u = (part[0] for part in solve([tree]))
            covariance = np.linalg.inv(P)
            at = _find_leaves(states, tree)
            beta = (covariance @ u).reshape(3, K)
            draws.append((at @ beta, at @ np.diag(covariance).reshape(3, K)))
    return _mix(draws)


def _find_tree(cuts: list[Cut], score: Callable[[list[Tree]], Floats]) -> Tree:
    """Return a likely tree to start from: the best first cut with any rough second one."""
    rough = cuts[:: len(CUTS) // 6]
    tried = [(a, b, side) for a in rough for b in rough for side in (False, True) if a != b]
    return tried[int(score(tried).argmax())]


def _find_leaves(X: Floats, tree: Tree) -> Floats:
    """Return which leaf each state lies in (m, 3), one-hot: beyond the first cut, or on either side of the second."""
    (f, cut), (g, other), side = tree
    outer = (X[:, f] > cut) == side
    inner = X[:, g] > other
    return np.stack([~outer, outer & inner, outer & ~inner], axis=1).astype(np.float64)


def _draw(logs: Floats, rng: np.random.Generator) -> int:
    edges = np.cumsum(np.exp(logs - logs.max()))
    return int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))


def _mix(draws: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return the mean and the variance of a mixture of means and variances."""
    means, variances = (np.stack(part) for part in zip(*draws))
    return means.mean(axis=0), np.asarray(variances.mean(axis=0) + means.var(axis=0))
