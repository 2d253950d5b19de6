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
_ROUNDING = 1e-8  # of the leverage's limit


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
    """

    leverage: float
    leverage_limit: float
    distance: float
    distance_limit: float
    outside: tuple[str, ...]

    @property
    def mixture_is_supported(self) -> bool:
        """Whether the leverage stays below its limit."""
        return self.leverage <= self.leverage_limit * (1.0 + _ROUNDING)  # policy.region=support ends on the limit

    @property
    def state_is_supported(self) -> bool:
        """Whether the state lies among the runs' states."""
        return self.distance <= self.distance_limit and not self.outside


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
    distance, limit, outside = _measure_state(roles, target)
    return Support(
        leverage=float(leverage.measure(mixture)),
        leverage_limit=leverage.limit,
        distance=distance,
        distance_limit=limit,
        outside=outside,
    )


def _measure_state(roles: Roles, target: Target) -> tuple[float, float, tuple[str, ...]]:
    if not roles.x_names:
        return 0.0, 0.0, ()
    centred = roles.X - roles.X.mean(axis=0)
    inverse = np.linalg.pinv(np.atleast_2d(np.cov(centred, rowvar=False)), hermitian=True)
    own = np.sqrt(np.einsum("nd,de,ne->n", centred, inverse, centred))
    d = target.x - roles.X.mean(axis=0)
    low, high = roles.X.min(axis=0), roles.X.max(axis=0)
    beyond = (target.x < low) | (target.x > high)
    outside = tuple(name for name, out in zip(roles.x_names, beyond) if out)
    return float(np.sqrt(d @ inverse @ d)), float(np.quantile(own, 0.95)), outside
