"""Constraints of the outcome: "raise the mean, but safety at least the reference's"."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.policies.regions.region import Region, Solution, find_edge
from analysis.policies.regions.support import SupportRegion
from analysis.roles import Roles
from analysis.target import Target
from causalmix.errors import AnalysisError, name_some

Floats = NDArray[np.float64]

KEPT = 1e-9  # points by which a predicted gain may fall short
_SWEEPS, _SWEEPS_INEXACT = 60, 4
_SETTLED = 1e-6  # shares moved to keep the constraints to the last digit
_LARGEST = 40.0  # of the log of a multiplier over its natural scale


@dataclass(frozen=True)
class Constraints:
    """Least predicted gains over the reference: ``f_a(T) - f_a(q) >= value_a`` for each ability a.

    ``f_a`` is what the fit predicts, ``theta_a' z(T)`` with the curve or surface of that ability where there is one.

    Attributes
    ----------
    names : tuple of str
    values : ndarray (J,)
        Points.
    thetas : ndarray (J, K)
        Effects on each ability at the target's state: the slopes of ``f_a``.
    effects : Effects
        Predicts mixtures.
    reference : ndarray (K,)
    x : ndarray (d,)
        The target's state.
    rows : list of int
        The abilities among the outcomes.
    """

    names: tuple[str, ...]
    values: Floats
    thetas: Floats
    effects: Effects
    reference: Floats
    x: Floats
    rows: list[int]

    def gains(self, mixtures: Floats) -> Floats:
        """Return the predicted gain of each constrained ability (..., J) for mixtures (..., K), points."""
        asked = np.vstack([mixtures.reshape(-1, len(self.reference)), self.reference])
        predicted = self.effects.predict_by_outcome(self.x, asked)[:, self.rows]
        return np.asarray((predicted[:-1] - predicted[-1]).reshape(*mixtures.shape[:-1], len(self.rows)))

    def are_kept(self, mixtures: Floats) -> NDArray[np.bool_]:
        """Say which mixtures (..., K) keep every constraint."""
        return np.asarray(np.all(self.gains(mixtures) >= self.values - KEPT, axis=-1))

    def describe(self, mixture: Floats) -> str:
        """Spell the predicted gain of each constrained ability beside what was asked."""
        each = [
            f"{name} {gain:+.3f} ({'at least' if gain >= value - KEPT else 'NOT the'} {value:+.3f} asked)"
            for name, gain, value in zip(self.names, self.gains(mixture), self.values)
        ]
        return f"Predicted gain over the reference, points: {name_some(each)}."


def read_limits(effects: Effects, roles: Roles, target: Target) -> Constraints | None:
    """Return the target's constraints with the effects that they bind; None where there is none.

    Raises
    ------
    AnalysisError
        An estimator that does not keep its outcomes apart.
    """
    if not target.constraints:
        return None
    names = tuple(target.constraints)
    thetas = effects.thetas_by_outcome(target.x[None, :])[0]
    if len(thetas) != len(roles.outcome_names):
        raise AnalysisError(
            f"outcome.constraints need effects per ability, and {type(effects).__name__} does not keep its outcomes "
            "apart; take another estimator."
        )
    rows = [roles.outcome_names.index(name) for name in names]
    values = np.array([target.constraints[name] for name in names])
    return Constraints(names, values, np.asarray(thetas[rows]), effects, target.reference, target.x, rows)


def solve_constrained(region: Region, theta: Floats, limits: Constraints) -> Solution:
    """Maximise ``theta' log T`` over a region subject to ``theta_a' (z(T) - z(q)) >= value_a``.

    Dual coordinate descent: the region's rule answers for ``theta + sum_a mu_a theta_a``, and each multiplier in
    turn is moved to the least value that keeps its constraint. In ``log T`` the constraints are linear, so for
    ``off``, ``box``, ``kl`` and ``support`` the answer is the optimum (where the region's own rule is one). The
    rules of the other regions have objectives of their own: their answer keeps the constraints, and need not be
    the best that does. So it is where a curve or a surface bends an ability.

    Returns
    -------
    Solution
        ``constraint.<ability>`` is priced in points of the outcome for one point of the ability. The reference,
        with a note, where nothing in the region was found to keep them (it keeps values of at most 0 itself).
    """
    if isinstance(region, SupportRegion):
        return _solve_supported(region, theta, limits)
    mu = np.zeros(len(limits.names))

    def ask(multipliers: Floats) -> Solution:
        return region.solve(theta + multipliers @ limits.thetas)

    def lack(multipliers: Floats, j: int) -> float:
        return float(limits.values[j] - limits.gains(ask(multipliers).weights)[j])

    for _ in range(_SWEEPS if region.exact else _SWEEPS_INEXACT):
        before = mu.copy()
        for j in range(len(mu)):
            mu = _move_multiplier(partial(lack, j=j), mu, j, _scale(theta, limits.thetas[j]))
        if len(mu) == 1 or np.allclose(mu, before, rtol=1e-10, atol=0.0):
            break
    found = ask(mu)
    if limits.are_kept(found.weights):
        return _name_prices(found, limits, mu)
    return _fall_back(region, limits, found)


def _solve_supported(region: SupportRegion, theta: Floats, limits: Constraints) -> Solution:
    """Hand the constraints to the region's own solver: it takes limits that are linear in ``log T``."""
    least = limits.values + limits.thetas @ limits.effects.embed(limits.reference)
    found = region.maximise_within(theta, limits.thetas, least)
    if found is None:
        return _fall_back(region, limits, None)
    answer = _name_prices(found[0], limits, found[1])
    # Its limits are the slopes': what bends may take more.
    return answer if limits.are_kept(answer.weights) else _fall_back(region, limits, answer)


def _name_prices(found: Solution, limits: Constraints, mu: Floats) -> Solution:
    prices = {f"constraint.{name}": float(m) for name, m in zip(limits.names, mu) if m > 0}
    return dataclasses.replace(found, prices=found.prices | prices)


def _scale(theta: Floats, of_ability: Floats) -> float:
    largest = float(np.abs(of_ability).max())
    return float(np.abs(theta).max()) / largest if largest > 0 else 1.0


def _move_multiplier(lack: Callable[[Floats], float], mu: Floats, j: int, scale: float) -> Floats:
    """Return mu with its j-th entry the least that keeps constraint j, the others held."""

    def put(log_m: float) -> Floats:
        moved = mu.copy()
        moved[j] = scale * np.exp(log_m)
        return moved

    without = mu.copy()
    without[j] = 0.0
    if lack(without) <= 0:
        return without
    at = np.log(mu[j] / scale) if mu[j] > 0 else 0.0
    step = -1.0 if lack(put(at)) <= 0 else 1.0  # towards the edge
    while abs(at + step) <= _LARGEST and (lack(put(at + step)) > 0) == (step > 0):
        at, step = at + step, 1.5 * step
    if abs(at + step) > _LARGEST:
        return put(at)
    inside, outside = (at, at + step) if step < 0 else (at + step, at)
    return put(find_edge(lambda t: lack(put(t)), inside, outside))


def _fall_back(region: Region, limits: Constraints, found: Solution | None) -> Solution:
    """Go from a mixture that keeps the constraints towards one that does not, as far as they hold."""
    anchor = region.reference
    if not (limits.are_kept(anchor) and region.contains(anchor)):
        best = [region.solve(theta).weights for theta in limits.thetas]
        kept = [weights for weights in best if limits.are_kept(weights) and region.contains(weights)]
        if not kept:
            return _give_up(region, limits, best)
        anchor = kept[0]
    weights = anchor
    if found is not None:
        weights = pull_back(found.weights, anchor, lambda T: bool(limits.are_kept(T) & region.contains(T)))
        if np.abs(weights - found.weights).max() < _SETTLED:
            return Solution(weights, found.prices)
    note = "The multipliers did not settle: the answer keeps outcome.constraints, and may not be the best that does."
    return Solution(weights, notes=(note,))


def _give_up(region: Region, limits: Constraints, best: list[Floats]) -> Solution:
    """Keep the reference, and say what each ability can reach in the region by itself."""
    most = [float(limits.gains(weights)[j]) for j, weights in enumerate(best)]
    named = name_some(
        f"{name} (at least {value:+.3f} asked, at most {top:+.3f} by itself)"
        for name, value, top in zip(limits.names, limits.values, most)
    )
    note = f"No mixture was found in the region that keeps outcome.constraints of {named}: the reference is kept."
    return Solution(region.reference.copy(), notes=(note,))


def pull_back(weights: Floats, anchor: Floats, holds: Callable[[Floats], bool]) -> Floats:
    """Return the mixture nearest to ``weights`` found on the way from ``anchor``, where ``holds`` is true."""
    if holds(weights):
        return weights
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds((1.0 - middle) * anchor + middle * weights) else (low, middle)
    return np.asarray((1.0 - low) * anchor + low * weights)
