"""Random policy problems with known effects, and a solver of another kind to compare with."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from analysis.coordinates import make_coordinates
from analysis.estimators.effects import Effects
from analysis.leverage import Leverage
from analysis.policies.regions.aitchison import AitchisonRegion
from analysis.policies.regions.box import BoxRegion, OffRegion
from analysis.policies.regions.kl import KLRegion
from analysis.policies.regions.l2 import L2Region
from analysis.policies.regions.reverse_kl import ReverseKLRegion
from analysis.policies.regions.support import SupportRegion
from causalmix.mixture.simplex import Box, project_to_box


class KnownEffects(Effects):
    """The same effects at every state, by outcome (A, K)."""

    def __init__(self, by_outcome, weights=None):
        self.by_outcome = np.atleast_2d(np.asarray(by_outcome, dtype=float))
        super().__init__(tuple(f"d{k}" for k in range(self.by_outcome.shape[1])), ())
        n = len(self.by_outcome)
        self.weights = np.full(n, 1.0 / n) if weights is None else np.asarray(weights)

    def thetas(self, X):
        return np.tile(self.weights @ self.by_outcome, (len(X), 1))

    def thetas_by_outcome(self, X):
        return np.tile(self.by_outcome, (len(X), 1, 1))

    def covariances(self, X):
        return np.zeros((len(X), *[self.by_outcome.shape[1]] * 2))


def draw_problem(seed, n=None):
    """Effects of any sign and size, tight or loose floors and caps, a reference inside: (rng, theta, q, box)."""
    rng = np.random.default_rng([seed, 5])
    K = int(rng.choice([2, 3, 5, 7, 12, 17])) if n is None else n
    theta = rng.normal(0.3, 1.0, K) * rng.choice([0.1, 1.0, 10.0])
    floor = rng.uniform(0, 0.9 / K, K) * rng.choice([0.05, 1.0])
    cap = np.minimum(1.0, floor + (1 - floor.sum()) * rng.uniform(0.5, 3.0, K) * rng.choice([2 / K, 1.0]))
    cap = cap if cap.sum() > 1.02 else np.ones(K)
    box = Box(tuple(f"d{k}" for k in range(K)), floor, cap)
    if not np.any(theta > 0):
        theta[0] = 1.0
    return rng, theta, project_to_box(rng.dirichlet(np.full(K, 5.0)), box), box


def draw_leverage(rng, q, box):
    """Leverage of mixtures scattered around the reference, and the mixtures (8 K, K)."""
    runs = np.array(
        [0.3 * project_to_box(rng.dirichlet(np.full(len(q), 3.0)), box) + 0.7 * q for _ in range(8 * len(q))]
    )
    residuals = np.log(runs) - np.log(runs).mean(axis=0)
    inverse = np.linalg.pinv(residuals.T @ residuals, hermitian=True)
    own = np.einsum("nk,kj,nj->n", residuals, inverse, residuals)
    return Leverage(
        np.log(runs).mean(axis=0), inverse, float(np.quantile(own, 0.95)), make_coordinates("log", len(q))
    ), runs


def make_regions(rng, q, box):
    """One region of each kind with a radius drawn at random."""
    rho, r = float(rng.choice([0.01, 0.1, 0.5, 2.0])), float(rng.choice([0.02, 0.1, 0.4]))
    leverage, runs = draw_leverage(rng, q, box)
    return {
        "off": OffRegion(q, box, np.inf),
        "box": BoxRegion(q, box, np.inf),
        "kl": KLRegion(q, box, rho),
        "reverse_kl": ReverseKLRegion(q, box, rho),
        "aitchison": AitchisonRegion(q, box, 5 * r),
        "l2": L2Region(q, box, r),
        "support": SupportRegion(q, box, leverage.limit, leverage, runs),
    }


def limit_region(region):
    """The region's limit as SLSQP wants it: what is left of it, and its gradient."""
    q, r = region.reference, region.radius
    if region.name == "kl":
        return [{"type": "ineq", "fun": lambda t: r - region.measure(t), "jac": lambda t: q / t}]
    if region.name == "reverse_kl":
        return [{"type": "ineq", "fun": lambda t: r - region.measure(t), "jac": lambda t: -(np.log(t / q) + 1)}]
    if region.name == "l2":
        return [{"type": "ineq", "fun": lambda t: r**2 - ((t - q) ** 2).sum(), "jac": lambda t: -2 * (t - q)}]
    if region.name == "support":
        slope = region.leverage.slope
        return [{"type": "ineq", "fun": lambda t: 1 - region.measure(t) / r, "jac": lambda t: -slope(t) / t / r}]
    return []


def find_best(value, gradient, constraints, q, box, n_starts=4):
    """Best value of SLSQP over several starts that end inside to 1e-9; -inf where none does."""
    rng, low = np.random.default_rng(0), np.maximum(box.floor, 1e-9)
    best = -np.inf
    for i in range(n_starts):
        start = q if i == 0 else 0.5 * q + 0.5 * project_to_box(rng.dirichlet(np.ones(len(q))), box)
        found = minimize(
            lambda t: -value(t),
            start,
            jac=lambda t: -gradient(t),
            bounds=list(zip(low, box.cap)),
            constraints=[{"type": "eq", "fun": lambda t: t.sum() - 1, "jac": np.ones_like}, *constraints],
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 500},
        )
        broken = [-float(np.min(c["fun"](found.x))) for c in constraints]
        if max([abs(found.x.sum() - 1), *broken]) < 1e-9:
            best = max(best, value(found.x))
    return best
