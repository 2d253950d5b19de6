"""The loss curves of DMO (Li et al. 2025, arXiv 2508.11953): a power law of each domain's data.

``L_i = c_i (N_i + g_i N_-i^a_i)^(-b_i) + e_i``: N_i is domain i's amount of data, N_-i that of all others, L_i
the total validation loss. Amounts are in the paper's scale, .66 for a domain at the calibration point
(there, millions of tokens): rescaling all amounts only rescales c and g, so any unit can be brought to it.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import AnalysisError

Floats = NDArray[np.float64]
Measure = Callable[[Floats], tuple[float, Floats]]  # parameters -> value and gradient
Limits = list[tuple[float | None, float | None]]

LEVELS_NEEDED = 4
BASE_AMOUNT = 0.66  # a domain's amount at the calibration point
LENDING = 0.5  # a
_HUBER = 1e-3
_ITERATIONS = 5000


@dataclass(frozen=True)
class DomainCurve:
    """One domain's curve: c, b, g, a, e as in the module's equation."""

    c: float
    b: float
    g: float
    a: float
    e: float

    def predict(self, own: Floats | float, others: Floats | float) -> Floats:
        """Return the loss where the domain has ``own`` data and all others have ``others``."""
        return np.asarray(self.c * (own + self.g * np.asarray(others) ** self.a) ** -self.b + self.e)


def fit_curve(own: Floats, losses: Floats, others: float, name: str) -> DomainCurve:
    """Fit one domain in two steps: the exponent from ratios of differences, then the rest at that exponent.

    The second step minimises the Huber loss of ``L_i`` by ln c, ln g and ln e from (ln 3, ln .5, 0), with
    ``g N_-i^a <= N_-i``: the others never lend more than they have. The paper fits a as well, from .5; but N_-i is
    the same in all runs of a curve, so they tell ``g N_-i^a`` alone and a stays wherever the optimiser leaves it
    (.44-.48 in the paper). Here it keeps its start, and a refit gives the same answer.

    Parameters
    ----------
    own : ndarray (L,)
        The domain's amount at each level.
    losses : ndarray (L,)
        Total validation loss at each level.
    others : float
        The amount of all other domains, the same at each level.
    name : str
        Of the domain, for messages.

    Returns
    -------
    DomainCurve

    Raises
    ------
    AnalysisError
        Fewer than four levels, or a loss that does not fall with the domain's data.
    """
    order = np.argsort(own, kind="stable")
    own, losses = own[order], losses[order]
    b = fit_exponent(own, losses, others, name)
    reach = others**LENDING

    def measure(parameters: Floats) -> tuple[float, Floats]:
        c, g, e = np.exp(parameters)
        raised = c * (own + g * reach) ** -b
        by_g = -b * raised / (own + g * reach) * g * reach
        return _sum_huber(raised + e - losses, np.stack([raised, by_g, np.full(len(own), e)], axis=1))

    most = float(np.log(others / reach))
    limits: Limits = [(None, None), (None, most), (None, None)]
    c, g, e = np.exp(_minimise(measure, (np.log(3.0), min(np.log(0.5), most), 0.0), limits))
    return DomainCurve(float(c), b, float(g), LENDING, float(e))


def fit_exponent(own: Floats, losses: Floats, others: float, name: str) -> float:
    """Fit b, with A (what the others lend), from ratios of log differences of the loss, which e leaves.

    Minimises the Huber loss of ``log dL_p / log dL_q - log d_p / log d_q`` over all ordered pairs of (p, q), where
    a difference p is one between levels at least two apart (for five levels 13, 14, 15, 24, 25, 35) and
    ``d_ij = (N_i + A)^-b - (N_j + A)^-b``, from (b, A) = (.5, .5) with ``0 <= A <= N_-i``. A ratio of logs leaves c in
    (a difference would not): as published, b is exact where c = 1 alone, and .060 for .051 at c = 1.16.

    Parameters
    ----------
    own, losses : ndarray (L,)
        Amounts, ascending, and the losses there.
    others : float
        Upper limit of A.
    name : str

    Returns
    -------
    float
        b, above 0.
    """
    n_levels = len(own)
    if n_levels < LEVELS_NEEDED:
        raise AnalysisError(
            f"dmo: domain {name} was tried at {n_levels} amounts of data; its curve needs {LEVELS_NEEDED} or more "
            "(the design `perturbation` has five)."
        )
    pairs = np.array([(i, j) for i, j in itertools.combinations(range(n_levels), 2) if j - i >= 2])
    falls = losses[pairs[:, 0]] - losses[pairs[:, 1]]
    if np.any(falls <= 0) or np.any(falls >= 1):
        raise AnalysisError(
            f"dmo: domain {name}: the loss does not fall steadily with its data (losses "
            f"{', '.join(f'{loss:.4f}' for loss in losses)} at rising amounts), so it has no power law. Train "
            "several seeds of each perturbation run, or leave dmo out."
        )
    logs = np.log(falls)
    one, two = np.array(list(itertools.permutations(range(len(pairs)), 2))).T

    def measure(parameters: Floats) -> tuple[float, Floats]:
        b, lent = parameters
        amounts = own[pairs] + lent
        powers = amounts**-b
        by_b = -np.log(amounts) * powers
        by_lent = -b * powers / amounts
        fall = powers[:, 0] - powers[:, 1]
        steps = np.log(fall)
        slopes = np.stack([by_b[:, 0] - by_b[:, 1], by_lent[:, 0] - by_lent[:, 1]], axis=1) / fall[:, None]
        ratios = steps[one] / steps[two]
        turn = (slopes[one] - ratios[:, None] * slopes[two]) / steps[two][:, None]
        return _sum_huber(logs[one] / logs[two] - ratios, -turn)

    return float(_minimise(measure, (0.5, min(0.5, others)), [(1e-6, None), (0.0, others)])[0])


def optimise_shares(curves: Sequence[DomainCurve], total: float) -> Floats:
    """Minimise ``sum_i L_i(w_i N, N - w_i N)`` over the simplex: SLSQP from equal shares.

    The sum is convex and separable, so one start is enough.

    Parameters
    ----------
    curves : sequence of DomainCurve
        One a domain.
    total : float
        N, in the unit the curves were fitted in.

    Returns
    -------
    ndarray (K,)
    """
    from scipy.optimize import minimize

    def measure(shares: Floats) -> float:
        own = np.clip(shares, 0.0, 1.0) * total
        return float(sum(curve.predict(n, total - n) for curve, n in zip(curves, own)))

    to_one: Any = {"type": "eq", "fun": lambda shares: shares.sum() - 1.0}
    n_domains = len(curves)
    answer = minimize(
        measure,
        np.full(n_domains, 1.0 / n_domains),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * n_domains,
        constraints=to_one,
        options={"ftol": 1e-12, "maxiter": 1000},
    ).x
    shares = np.clip(answer, 0.0, 1.0)
    return np.asarray(shares / shares.sum())


def _sum_huber(errors: Floats, slopes: Floats) -> tuple[float, Floats]:
    """Return the summed Huber loss of errors (n,) and its gradient (p,), both in units of delta squared."""
    scaled = errors / _HUBER
    size = np.abs(scaled)
    value = np.where(size <= 1.0, 0.5 * scaled**2, size - 0.5).sum()
    return float(value), np.asarray(np.clip(scaled, -1.0, 1.0) @ slopes / _HUBER)


def _minimise(measure: Measure, start: tuple[float, ...], limits: Limits) -> Floats:
    from scipy.optimize import minimize

    with warnings.catch_warnings():
        # Steps within rounding of each other leave its quasi-Newton matrix as it is; that is no fault.
        warnings.filterwarnings("ignore", message="delta_grad == 0.0")
        found = minimize(
            measure, np.array(start), jac=True, method="trust-constr", bounds=limits, options={"maxiter": _ITERATIONS}
        )
    return np.asarray(found.x)
