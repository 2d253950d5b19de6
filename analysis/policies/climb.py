"""CausalMix-A where effects bend: the best mixture of a curve, by the region's own rule again and again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.policies.constraints import Constraints, pull_back, solve_constrained
from analysis.policies.regions.region import Region, Solution

Floats = NDArray[np.float64]

_STEPS, _HALVINGS = 30, 24
_LEAST = 1e-9  # share below which a logarithm is not followed
_SETTLED = 1e-9  # points gained by a step that is the last


def climb(effects: Effects, theta: Floats, region: Region, limits: Constraints | None) -> Solution:
    """Maximise ``theta' embed(T) + c(T)`` over a region, c the curve of the effects.

    From the better of the reference and the answer without the curve, each step asks the region's rule for the best
    mixture of the slopes where it stands, ``theta + c'(T)``, and goes so far towards it, in log shares, as the
    outcome rises and the limits hold; SLSQP goes the rest of the way. Where all parabolas open downwards the problem
    is concave for ``off``, ``box``, ``kl`` and ``support``, and this is its optimum, which may lie inside the region;
    elsewhere it is the best that was found. Never worse than where it started.

    Returns
    -------
    Solution
        Priced where the region's rule agrees that there is nothing more to gain; notes as of the rule.

    Notes
    -----
    Conditional gradients: Frank and Wolfe, Naval Research Logistics Quarterly 3 (1956). SLSQP: Kraft (1988).
    """
    curve = effects.curve
    assert curve is not None

    def solve(slopes: Floats) -> Solution:
        return region.solve(slopes) if limits is None else solve_constrained(region, slopes, limits)

    def score(mixtures: Floats) -> Floats:
        inside = region.contains(mixtures) & (limits is None or limits.are_kept(mixtures))
        return np.where(inside, effects.embed(mixtures) @ theta + curve.value(mixtures), -np.inf)

    aim = solve(theta)  # the answer without the curve
    starts = np.stack([aim.weights, region.reference])
    scores = score(starts)
    at, top = starts[int(scores.argmax())], float(scores.max())
    for _ in range(_STEPS if np.isfinite(top) else 0):
        aim = solve(theta + curve.slope(at))
        way = _list_way(at, aim.weights)
        scores = score(way)
        if not scores.max() > top + _SETTLED:
            break
        at, top = way[int(scores.argmax())], float(scores.max())
    if np.isfinite(top):
        polished = _polish(at, theta, effects, region, limits)
        at = polished if score(polished[None])[0] > top else at
    aim = solve(theta + curve.slope(at))
    prices = aim.prices if np.abs(aim.weights - at).max() < 1e-6 else {}
    return Solution(at, prices, aim.notes)


def _polish(start: Floats, theta: Floats, effects: Effects, region: Region, limits: Constraints | None) -> Floats:
    """Search on from a mixture inside, in log shares; pulled back as far as the solver's rounding took it out."""
    from scipy.optimize import minimize

    curve = effects.curve
    assert curve is not None
    low, high = np.log(np.maximum(region.box.floor, _LEAST)), np.log(region.box.cap)
    constraints: list[dict[str, object]] = [
        {"type": "eq", "fun": lambda u: np.exp(u).sum() - 1.0, "jac": lambda u: np.exp(u)[None, :]}
    ]
    if np.isfinite(region.radius):
        constraints.append({"type": "ineq", "fun": lambda u: 1.0 - region.measure(np.exp(u)) / region.radius})
    if limits is not None:
        constraints.append({"type": "ineq", "fun": lambda u: limits.gains(np.exp(u)) - limits.values})
    unit = float(np.abs(theta).max()) + float(np.abs(curve.mean_sizes).max()) or 1.0
    found = minimize(  # type: ignore[call-overload]  # the stubs know no bounds as one array
        lambda u: -float(theta @ effects.embed(np.exp(u)) + curve.value(np.exp(u)[None])[0]) / unit,
        np.clip(np.log(np.maximum(start, _LEAST)), low, high),
        jac=lambda u: -(theta + curve.slope(np.exp(u))) / unit,
        bounds=np.stack([low, high], axis=1),
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 200},
    )
    mixture = np.exp(found.x)
    if not (np.all(np.isfinite(mixture)) and abs(mixture.sum() - 1.0) < 1e-3):
        return start

    def holds(T: Floats) -> bool:
        return bool(region.contains(T)) and (limits is None or bool(limits.are_kept(T)))

    return pull_back(mixture / mixture.sum(), start, holds)


def _list_way(start: Floats, end: Floats) -> Floats:
    """List mixtures between two, in log shares, each half as far from the start as the one before."""
    parts = 0.5 ** np.arange(_HALVINGS)[:, None]
    logs = (1.0 - parts) * np.log(np.maximum(start, 1e-300)) + parts * np.log(np.maximum(end, 1e-300))
    raw = np.exp(logs)
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))
