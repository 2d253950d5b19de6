"""Steps that theta(x) may have: candidate regions of the state, cut at one threshold or at two."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.kernel import Points

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Condition = tuple[tuple[int, int], tuple[float, float], tuple[bool, bool]]

N_THRESHOLDS = 25  # a feature, at even quantiles of its middle 80%
N_REFINED = 4  # thresholds more between two that hold a jump between them
N_NESTED = 13  # thresholds a feature inside a parent's region
N_NEAR = 10  # gaps between runs on either side that a threshold may still move to
MOST_COLUMNS = 6000  # regressors held at once: what is nested stops there
LEAST_SHARE = 0.08  # of the runs that a nested region holds, and leaves out


@dataclass(frozen=True)
class Steps:
    """Candidate regions: ``h_s(x)_p = 1[all conditions of s hold at x_p] - its mean``, one or two conditions each.

    Attributes
    ----------
    columns : ndarray of int (p, f)
        As the kernel's: the column of X that feature f is for coordinate p.
    features : ndarray of int (C, 2), thresholds : ndarray (C, 2), above : ndarray of bool (C, 2)
        ``x > threshold`` or, where not ``above``, ``x <= threshold``; a feature of -1 is no condition.
    means : ndarray (C, p)
        Subtracted, so that a step moves no average.
    n_simple : int
        The first of them have one condition; the others are nested, or polished.
    """

    columns: Indices
    features: Indices
    thresholds: Floats
    above: NDArray[np.bool_]
    means: Floats
    n_simple: int

    def evaluate(self, X: Floats, rows: Indices | slice = slice(None)) -> Floats:
        """Return h (m, C, p) at states (m, d), of all regions or of some."""
        held = indicate(X, self.columns, self.features[rows], self.thresholds[rows], self.above[rows])
        return held - self.means[rows]

    def expand(self, points: Points) -> Floats:
        """Return regressors (n, C, p + 1): the step of each coordinate's effect, and of the level.

        An effect jumps at every mixture, so the step is of ``theta(x)' Z``, and not of its residuals: were ``e(x)``
        taken off, the level would jump by ``theta' e(x)`` where the effect does, which no smooth g takes up.
        """
        h = self.evaluate(points.X)
        return np.concatenate([h * points.Z[:, None, :], h.mean(axis=2, keepdims=True)], axis=2)


def indicate(X: Floats, columns: Indices, features: Indices, thresholds: Floats, above: NDArray[np.bool_]) -> Floats:
    """Return whether all conditions hold (m, C, p) at states (m, d)."""
    held = np.ones((len(X), len(features), len(columns)))
    for side in np.flatnonzero((features >= 0).any(axis=0)):
        own = X[:, columns.T[features[:, side]]]  # (m, C, p)
        over = own > thresholds[None, :, side, None]
        meets = (over == above[None, :, side, None]) | (features[None, :, side, None] < 0)
        held *= meets
    return held


def propose_steps(X: Floats, columns: Indices) -> Steps:
    """List candidate thresholds for the states (n, d), one condition each."""
    conditions = _list_conditions(X, columns, N_THRESHOLDS)
    features = np.array([[f, -1] for f, _ in conditions])
    thresholds = np.array([[cut, 0.0] for _, cut in conditions])
    above = np.ones(features.shape, dtype=np.bool_)
    means = indicate(X, columns, features, thresholds, above).mean(axis=0)
    return Steps(columns, features, thresholds, above, means, len(features))


def refine_steps(X: Floats, simple: Steps, found: list[int]) -> Steps:
    """Add thresholds between those next to some steps: a jump lies anywhere between two runs."""
    added: list[tuple[int, float]] = []
    for step in found:
        f, cut = int(simple.features[step, 0]), float(simple.thresholds[step, 0])
        cuts = np.sort(simple.thresholds[simple.features[:, 0] == f, 0])
        at = int(np.searchsorted(cuts, cut))
        near = cuts[max(0, at - 1) : at + 2]
        values = X[:, np.unique(simple.columns[:, f])]
        for low, high in itertools.pairwise(near):
            inside = values[(values > low) & (values < high)]
            if len(inside):
                added += [(f, float(cut)) for cut in np.unique(np.quantile(inside, np.linspace(0, 1, N_REFINED)))]
    return _append(X, simple, [((f, -1), (cut, 0.0), (True, True)) for f, cut in sorted(set(added))], nested=False)


def nest_steps(X: Floats, simple: Steps, parents: list[int]) -> Steps:
    """Add regions inside either side of some parents: a second threshold that counts only there.

    A tree of effects is a sum of such regions. Those that hold, or leave out, fewer than 8% of the runs are not
    tried, nor more than can be held at once.
    """
    rows: list[Condition] = []
    inner = _list_conditions(X, simple.columns, N_NESTED)
    for parent in parents:
        f, cut = int(simple.features[parent, 0]), float(simple.thresholds[parent, 0])
        rows += [((f, g), (cut, other), (side, True)) for side in (True, False) for g, other in inner]
    return _append(X, simple, rows, nested=True)


def polish_steps(X: Floats, steps: Steps, found: list[int]) -> Steps:
    """Add the regions of some steps with one threshold moved to another gap between runs near by.

    Grids are coarse, the more so inside of a parent, and where a state lies between two thresholds matters to it.
    """
    rows: list[Condition] = []
    for step in found:
        features, cuts, above = steps.features[step], steps.thresholds[step], steps.above[step]
        for side in np.flatnonzero(features >= 0):
            values = np.unique(X[:, steps.columns[:, features[side]]])
            at = int(np.searchsorted(values, cuts[side]))
            for value in values[max(0, at - N_NEAR) : at + N_NEAR]:
                moved = [float(value) if s == side else float(cut) for s, cut in enumerate(cuts)]
                rows.append(
                    ((int(features[0]), int(features[1])), (moved[0], moved[1]), (bool(above[0]), bool(above[1])))
                )
    return _append(X, steps, sorted(set(rows)), nested=True, least=0.0)


def _append(X: Floats, steps: Steps, rows: list[Condition], *, nested: bool, least: float = LEAST_SHARE) -> Steps:
    n_most = MOST_COLUMNS // (len(steps.columns) + 1) - len(steps.features)
    if not rows or n_most <= 0:
        return steps
    features, thresholds = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    above = np.array([r[2] for r in rows])
    means = indicate(X, steps.columns, features, thresholds, above).mean(axis=0)
    kept = np.arange(len(rows))
    if nested and least:
        outer = indicate(X, steps.columns, features[:, :1], thresholds[:, :1], above[:, :1]).mean(axis=0)
        inside = means.mean(axis=1)
        kept = np.flatnonzero((inside > least) & (outer.mean(axis=1) - inside > least))
    kept = kept[:n_most]
    return Steps(
        steps.columns,
        np.concatenate([steps.features, features[kept]]),
        np.concatenate([steps.thresholds, thresholds[kept]]),
        np.concatenate([steps.above, above[kept]]),
        np.concatenate([steps.means, means[kept]]),
        steps.n_simple + (0 if nested else len(kept)),
    )


def _list_conditions(X: Floats, columns: Indices, n_thresholds: int) -> list[tuple[int, float]]:
    conditions = []
    for f in range(columns.shape[1]):
        values = X[:, np.unique(columns[:, f])]
        cuts = np.unique(np.quantile(values, np.linspace(0.1, 0.9, n_thresholds)))
        conditions += [(f, float(cut)) for cut in cuts]
    return conditions
