"""How good an answer is: its gain with an interval, its spread over refits, its support."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.leverage import read_leverage
from analysis.policies.propose import propose
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig

Floats = NDArray[np.float64]

OWN_RUNS = ("dmo", "grid")
SPREAD_CANDIDATES = 20_000  # candidate mixtures of a policy that is only refitted
OFF_RELATION = 0.01  # of a feature's spread over runs: less is the rounding of a state given by hand
_ROUNDING = 1e-8  # of the leverage's limit
_FLAT = 1e-12  # of the largest variance, features in units of their spread: below it a relation holds exactly


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided interval, points."""

    estimate: float
    low: float
    high: float

    @property
    def is_positive(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0


@dataclass(frozen=True)
class Spread:
    """How far a policy's mixture moves over refits on half of the runs.

    Attributes
    ----------
    mixtures : ndarray (n_refits, K)
    sd : ndarray (K,)
        Standard deviation of each share.
    l1 : float
        Mean L1 distance to the answer on all runs; 2 is the largest there is.
    """

    mixtures: Floats
    sd: Floats
    l1: float


@dataclass(frozen=True)
class Support:
    """How far the question and the answer lie from what the runs have seen.

    Attributes
    ----------
    leverage, leverage_limit : float
        Residual leverage of the mixture, and the 95th percentile of the runs' own.
    distance, distance_limit : float
        Mahalanobis distance of the target's state, and the 95th percentile of the runs' own.
    outside : tuple of str
        State features of the target outside the range of the runs.
    unrelated : tuple of str
        State features of the target that break a relation which holds exactly in all runs: the distance knows
        nothing of such a direction, since no run lies along it.
    """

    leverage: float
    leverage_limit: float
    distance: float
    distance_limit: float
    outside: tuple[str, ...]
    unrelated: tuple[str, ...] = ()

    @property
    def mixture_is_supported(self) -> bool:
        """Whether the leverage stays below its limit."""
        return self.leverage <= self.leverage_limit * (1.0 + _ROUNDING)  # policy.region=support ends on the limit

    @property
    def state_is_supported(self) -> bool:
        """Whether the state lies among the runs' states."""
        return self.distance <= self.distance_limit and not self.outside and not self.unrelated


def make_interval(estimate: float, variance: float, confidence: float) -> Interval:
    """Return the two-sided normal interval at ``confidence``."""
    from scipy.stats import norm

    half = float(norm.ppf(0.5 + confidence / 2)) * math.sqrt(max(variance, 0.0))
    return Interval(estimate, estimate - half, estimate + half)


def estimate_gain(effects: Effects, target: Target, mixture: Floats, confidence: float) -> Interval:
    """Return the predicted gain of a mixture over the reference at the target's state, points."""
    estimate, variance = effects.gain(target.x, mixture, target.reference)
    return make_interval(estimate, variance, confidence)


def measure_spread(
    halves: Sequence[tuple[Roles, Effects]], policy: PolicyConfig, target: Target, answer: Floats
) -> Spread | None:
    """Ask the policy again of every half-sample refit.

    Returns
    -------
    Spread or None
        None where there is no refit, or where the policy reads runs of its own, which are never halved.
    """
    if not halves or policy.kind in OWN_RUNS:
        return None
    n_candidates = min(policy.n_candidates, SPREAD_CANDIDATES)
    quick = dataclasses.replace(
        policy, n_candidates=n_candidates, n_best=max(1, policy.n_best * n_candidates // policy.n_candidates)
    )
    stacked = np.array([propose(effects, roles, target, quick).weights for roles, effects in halves])
    return Spread(stacked, stacked.std(axis=0, ddof=1), float(np.abs(stacked - answer).sum(axis=1).mean()))


def measure_support(roles: Roles, target: Target, mixture: Floats) -> Support:
    """Compare the leverage of the mixture and the state of the target with those of the runs."""
    leverage = read_leverage(roles, target.x)
    distance, limit, outside, unrelated = _measure_state(roles, target)
    return Support(
        leverage=float(leverage.measure(mixture)),
        leverage_limit=leverage.limit,
        distance=distance,
        distance_limit=limit,
        outside=outside,
        unrelated=unrelated,
    )


def read_scatter(X: Floats) -> tuple[Floats, Floats]:
    """Return what tells how far a state lies from the runs' states, and whether it keeps to their relations.

    Both take the deviation of a state from the mean state, in the features' own units.

    Parameters
    ----------
    X : ndarray (n, d)
        States of the runs.

    Returns
    -------
    inverse : ndarray (d, d)
        Pseudo-inverse of the covariance, for the Mahalanobis distance along what varies.
    off : ndarray (d, d)
        Maps the deviation to its part off all states that keep to the runs' relations (a feature that equals another,
        features that sum to one), each feature in units of its spread. Zeros where there is no relation.
    """
    spread = X.std(axis=0)
    varies = np.ptp(X, axis=0) > 0
    scale = np.where(varies, spread, 1.0)
    scaled = (X - X.mean(axis=0)) / scale
    variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(scaled, rowvar=False)))
    kept = variances > _FLAT * variances[-1]
    along = directions[:, kept]
    inverse = (along / variances[kept]) @ along.T / np.outer(scale, scale)
    off = np.zeros_like(inverse)
    # As few runs as features relate all of them by chance: no relation can be told then.
    if kept.sum() < min(len(X) - 1, varies.sum()):
        # A feature that is the same in every run is a matter of the range.
        free = directions[:, ~kept] * varies[:, None]
        off = free @ free.T / scale
    return inverse, off


def _measure_state(roles: Roles, target: Target) -> tuple[float, float, tuple[str, ...], tuple[str, ...]]:
    if not roles.x_names:
        return 0.0, 0.0, (), ()
    mean = roles.X.mean(axis=0)
    centred, d = roles.X - mean, target.x - mean
    inverse, off = read_scatter(roles.X)
    own = np.sqrt(np.einsum("nd,de,ne->n", centred, inverse, centred))
    low, high = roles.X.min(axis=0), roles.X.max(axis=0)
    beyond = (target.x < low) | (target.x > high)
    outside = tuple(name for name, out in zip(roles.x_names, beyond) if out)
    unrelated = tuple(name for name, gap in zip(roles.x_names, off @ d) if abs(gap) > OFF_RELATION)
    return float(np.sqrt(d @ inverse @ d)), float(np.quantile(own, 0.95)), outside, unrelated
