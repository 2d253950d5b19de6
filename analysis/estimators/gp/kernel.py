"""Covariance of the runs under ``Y = g(x) + theta(x)' z + h(z) + e``, with its derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMOOTHNESS = ("matern32", "matern12")
_SQRT3 = 3.0**0.5


@dataclass(frozen=True)
class Points:
    """States and treatment residuals of some runs, in the units of the process.

    Attributes
    ----------
    X : ndarray (n, d)
        Standardised states.
    R : ndarray (n, p)
        ``Z - e(X)``, all coordinates divided by one number.
    Z : ndarray (n, p)
        Z less its mean, divided by the same number: where the surface h is looked up.
    """

    X: Floats
    R: Floats
    Z: Floats

    def take(self, rows: NDArray[np.int64]) -> Points:
        """Keep some runs."""
        return Points(self.X[rows], self.R[rows], self.Z[rows])


@dataclass(frozen=True)
class Kernel:
    """The process's covariance; hyper-parameters are logarithms in one vector.

    ``g ~ s_g^2 M(x, x')`` and, for every coordinate p alike, ``theta_p ~ s_c^2 + s_l^2 x'x' / f + s_v^2 M(x_p, x_p')``
    with a Matern kernel M and one lengthscale a feature; ``h ~ s_h^2 M(z, z')`` is what is not linear in z;
    the noise has variance ``s_e^2``.

    Attributes
    ----------
    columns : ndarray of int (p, f)
        Which columns of X the effect of coordinate p depends on. All rows alike: every effect sees the whole
        state; different rows: a domain's effect sees that domain's own state.
    smoothness : str
        matern32 | matern12, of g and theta.
    has_surface : bool
        Whether h is there.

    Notes
    -----
    The vector holds log s_g, log s_c, log s_l, log s_v, log s_e, f log lengthscales of theta, f of g (features
    of the same kind share theirs), and with a surface log s_h and one log lengthscale.
    """

    columns: NDArray[np.int64]
    smoothness: str
    has_surface: bool

    @property
    def n_features(self) -> int:
        """Features f that an effect depends on."""
        return int(self.columns.shape[1])

    @property
    def is_shared(self) -> bool:
        """Whether every effect sees the same columns."""
        return bool(np.all(self.columns == self.columns[0]))

    @property
    def size(self) -> int:
        """Number of hyper-parameters."""
        return 5 + 2 * self.n_features + 2 * self.has_surface

    def start(self) -> Floats:
        """Return where the search starts; the prior is centred there."""
        scales = [0.3, 0.3, 0.2, 0.2, 0.5]
        surface = [0.1, 3.0] if self.has_surface else []
        return np.log([*scales, *([2.0] * 2 * self.n_features), *surface])

    def prior_sd(self) -> Floats:
        """Return how far, in logs, a hyper-parameter strays from its start without evidence."""
        surface = [1.5, 0.7] if self.has_surface else []
        return np.array([*([1.5] * 5), *([1.0] * 2 * self.n_features), *surface])

    def effects(self, values: Floats, A: Floats, B: Floats, p: int) -> Floats:
        """Return the prior covariance of ``theta_p`` between states A (m, d) and B (n, d): (m, n)."""
        scale, lengths = np.exp(2 * values[:5]), np.exp(values[5 : 5 + self.n_features])
        a, b = A[:, self.columns[p]], B[:, self.columns[p]]
        smooth = _matern(_square_distance(a / lengths, b / lengths), self.smoothness)
        return np.asarray(scale[1] + scale[2] * (a @ b.T) / self.n_features + scale[3] * smooth)

    def surface(self, values: Floats, A: Floats, B: Floats) -> Floats:
        """Return the prior covariance of h between coordinates A (m, p) and B (n, p): (m, n)."""
        length = np.exp(values[-1])
        return np.asarray(np.exp(2 * values[-2]) * _matern(_square_distance(A / length, B / length), "matern32"))

    def covariance(self, values: Floats, points: Points) -> Floats:
        """Return the covariance of the runs' outcomes (n, n)."""
        return self.differentiate(values, points, None)[0]

    def differentiate(self, values: Floats, points: Points, inverse_weights: object) -> tuple[Floats, Floats]:
        """Return the covariance (n, n) and, for a callable ``K -> W``, ``sum(W * dK / d value)`` a value.

        The derivative of a log marginal likelihood is half that sum with ``W = aa' - K^-1``, so W can only be
        known once K is: it is asked for in between.
        """
        X, R, f = points.X, points.R, self.n_features
        n = len(X)
        s = np.exp(2 * values[:5])
        lengths, lengths_g = np.exp(values[5 : 5 + f]), np.exp(values[5 + f : 5 + 2 * f])
        distances_g = self._feature_distances(X, lengths_g)
        smooth_g = _matern(_add(distances_g), self.smoothness)
        groups = [0] if self.is_shared else range(len(self.columns))
        parts = []
        total = s[0] * smooth_g
        total[np.diag_indices(n)] += s[4]
        for p in groups:
            moved = R @ R.T if self.is_shared else np.outer(R[:, p], R[:, p])
            x = X[:, self.columns[p]]
            linear = (x @ x.T) / f
            distances = [_square_distance(x[:, [j]] / lengths[j], x[:, [j]] / lengths[j]) for j in range(f)]
            smooth = _matern(_add(distances), self.smoothness)
            total += moved * (s[1] + s[2] * linear + s[3] * smooth)
            parts.append((moved, linear, smooth, distances))
        surface = self.surface(values, points.Z, points.Z) if self.has_surface else None
        if surface is not None:
            total += surface
        gradient = np.zeros(self.size)
        if inverse_weights is None:
            return total, gradient
        W = inverse_weights(total)  # type: ignore[operator]
        gradient[0] = 2 * s[0] * _dot(W, smooth_g)
        gradient[4] = 2 * s[4] * np.trace(W)
        fall_g = W * _fall(_add(distances_g), self.smoothness)
        gradient[5 + f : 5 + 2 * f] = [s[0] * _dot(fall_g, d) for d in distances_g]
        for moved, linear, smooth, distances in parts:
            weighted = W * moved
            gradient[1] += 2 * s[1] * weighted.sum()
            gradient[2] += 2 * s[2] * _dot(weighted, linear)
            gradient[3] += 2 * s[3] * _dot(weighted, smooth)
            weighted *= _fall(_add(distances), self.smoothness)
            gradient[5 : 5 + f] += [s[3] * _dot(weighted, d) for d in distances]
        if surface is not None:
            squares = _square_distance(points.Z, points.Z) / np.exp(2 * values[-1])
            gradient[-2] = 2 * _dot(W, surface)
            gradient[-1] = np.exp(2 * values[-2]) * _dot(W * _fall(squares, "matern32"), squares)
        return total, gradient

    def _feature_distances(self, X: Floats, lengths: Floats) -> list[Floats]:
        """Return the squared distances of g a kind of feature: domains' own features of a kind are added up."""
        kinds = self.columns[:1] if self.is_shared else self.columns
        return [
            _square_distance(X[:, kinds[:, j]] / length, X[:, kinds[:, j]] / length) for j, length in enumerate(lengths)
        ]


def _square_distance(a: Floats, b: Floats) -> Floats:
    """Return squared Euclidean distances (m, n) without the cancellation of expanding the square."""
    total = np.zeros((len(a), len(b)))
    for j in range(a.shape[1]):
        total += (a[:, j, None] - b[None, :, j]) ** 2
    return total


def _add(parts: list[Floats]) -> Floats:
    return np.asarray(np.add.reduce(parts))


def _matern(squares: Floats, smoothness: str) -> Floats:
    distance = np.sqrt(squares)
    if smoothness == "matern12":
        return np.exp(-distance)
    return np.asarray((1.0 + _SQRT3 * distance) * np.exp(-_SQRT3 * distance))


def _fall(squares: Floats, smoothness: str) -> Floats:
    """Return dM / d log lengthscale per unit of a feature's squared distance."""
    distance = np.sqrt(squares)
    if smoothness == "matern12":
        return np.exp(-distance) / np.maximum(distance, 1e-12)
    return np.asarray(3.0 * np.exp(-_SQRT3 * distance))


def _dot(a: Floats, b: Floats) -> float:
    return float(np.vdot(a, b))
