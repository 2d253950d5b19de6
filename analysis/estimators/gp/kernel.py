"""Covariance of the runs under ``Y = g(x) + theta(x)' z + h(z) + e``, with its derivatives."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Pair = tuple[Floats, Floats]

SMOOTHNESS = ("matern32", "matern12", "matern52")
_SQRT3, _SQRT5 = 3.0**0.5, 5.0**0.5


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
        Z less its mean, divided by the same number: where the surface h is looked up, and what steps are of.
    """

    X: Floats
    R: Floats
    Z: Floats

    def take(self, rows: Indices) -> Points:
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
        matern52 | matern32 | matern12, of g and theta.
    has_surface : bool
        Whether h is there.

    Notes
    -----
    The vector holds log s_g, log s_c, log s_l, log s_v, log s_e, f log lengthscales of theta, f of g (features
    of the same kind share theirs), and with a surface log s_h and one log lengthscale.
    """

    columns: Indices
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

    @property
    def lengths(self) -> range:
        """Where the lengthscales of theta stand."""
        return range(5, 5 + self.n_features)

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
        X, R = points.X, points.R
        s, _, lengths_g = self._read(values)
        kinds = self.columns[:1] if self.is_shared else self.columns
        scaled = (X[:, kinds] / lengths_g).reshape(len(X), -1)
        distances = _square_distance(scaled, scaled)
        total = s[0] * _matern(distances, self.smoothness)
        total[np.diag_indices(len(X))] += s[4]
        for p in range(len(kinds)):  # one at a time: of all runs, not of those searched, and of any number of domains
            moved = R @ R.T if self.is_shared else np.outer(R[:, p], R[:, p])
            total += moved * self.effects(values, X, X, p)
        if self.has_surface:
            total += self.surface(values, points.Z, points.Z)
        return np.asarray(total)

    def measure(self, points: Points) -> Distances:
        """Measure the runs' pairs once for any number of hyper-parameters."""
        n, f = points.X.shape[0], self.n_features
        rows, columns = np.tril_indices(n)
        kinds = self.columns[:1] if self.is_shared else self.columns
        own = [np.stack([_pair_distance(points.X[:, [j]], rows, columns) for j in kind]) for kind in kinds]
        linear = [_pair_product(points.X[:, kind], rows, columns) / f for kind in kinds]
        R = [points.R] if self.is_shared else [points.R[:, [p]] for p in range(len(kinds))]
        moved = [_pair_product(part, rows, columns) for part in R]
        surface = _pair_distance(points.Z, rows, columns) if self.has_surface else None
        return Distances(n, np.add.reduce(own), own, linear, moved, surface)

    def differentiate(self, values: Floats, distances: Distances) -> tuple[Floats, Iterator[Floats]]:
        """Return the covariance of every pair (m,), and its derivative in one value after another.

        A derivative is made when it is asked for, and none need be: where the covariance alone decides that
        other values are worse, it costs as much as that.
        """
        total, parts = self._sum(values, distances)
        return total, self._derive(values, distances, parts)

    def _derive(self, values: Floats, distances: Distances, parts: _Parts) -> Iterator[Floats]:
        s, lengths, lengths_g = self._read(values)
        yield 2 * s[0] * parts.level[0]
        yield 2 * s[1] * _total(distances.moved)
        yield 2 * s[2] * _total(moved * linear for moved, linear in zip(distances.moved, distances.linear))
        yield 2 * s[3] * _total(moved * close for moved, (close, _) in zip(distances.moved, parts.effects))
        noise = np.zeros_like(parts.level[0])
        noise[distances.diagonal] = 2 * s[4]
        yield noise
        near = [moved * near for moved, (_, near) in zip(distances.moved, parts.effects)]
        for j, length in enumerate(lengths):
            yield s[3] / length**2 * _total(own[j] * each for own, each in zip(distances.own, near))
        near_g = s[0] * parts.level[1]
        for j, length in enumerate(lengths_g):
            yield near_g * (distances.g[j] / length**2)
        if distances.surface is not None:
            scale = np.exp(2 * values[-2])
            yield 2 * scale * parts.surface[0]
            yield scale / np.exp(2 * values[-1]) * parts.surface[1] * distances.surface

    def _read(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the five variances, and the lengthscales of theta (f,) and of g (f,)."""
        f = self.n_features
        return np.exp(2 * values[:5]), np.exp(values[5 : 5 + f]), np.exp(values[5 + f : 5 + 2 * f])

    def _sum(self, values: Floats, distances: Distances) -> tuple[Floats, _Parts]:
        """Return the covariance of every pair (m,), and the Matern parts that it is made of."""
        s, lengths, lengths_g = self._read(values)
        level = _matern_pair(lengths_g**-2 @ distances.g, self.smoothness)
        total = s[0] * level[0]
        total[distances.diagonal] += s[4]
        effects = []
        for moved, linear, own in zip(distances.moved, distances.linear, distances.own):
            pair = _matern_pair(lengths**-2 @ own, self.smoothness)
            effect = s[2] * linear
            effect += s[1]
            effect += s[3] * pair[0]
            effect *= moved
            total += effect
            effects.append(pair)
        surface = (np.empty(0), np.empty(0))
        if distances.surface is not None:
            surface = _matern_pair(distances.surface / np.exp(2 * values[-1]), "matern32")
            total += np.exp(2 * values[-2]) * surface[0]
        return total, _Parts(level, effects, surface)


@dataclass(frozen=True)
class _Parts:
    """Matern functions of all pairs, with their slopes: of g, of the effects, and of h."""

    level: Pair
    effects: list[Pair]
    surface: Pair


@dataclass(frozen=True)
class Distances:
    """Squared distances and products of all pairs of n runs, ``m = n (n + 1) / 2`` of them, row by row.

    Attributes
    ----------
    n : int
    g : ndarray (f, m)
        A feature of the state each; domains' own features of a kind are added up.
    own : list of ndarray (f, m)
        Of the columns that the effect of each coordinate depends on; one entry where all depend on the same.
    linear, moved : list of ndarray (m,)
        ``x'x' / f`` of those columns, and the products of the residuals R.
    surface : ndarray (m,), optional
        Of Z.
    """

    n: int
    g: Floats
    own: list[Floats]
    linear: list[Floats]
    moved: list[Floats]
    surface: Floats | None

    @property
    def diagonal(self) -> Indices:
        """Return where runs stand with themselves (n,)."""
        return np.cumsum(np.arange(1, self.n + 1)) - 1


def _total(parts: Iterable[Floats]) -> Floats:
    return functools.reduce(np.add, parts)


def _pair_distance(a: Floats, rows: Indices, columns: Indices) -> Floats:
    """Return squared Euclidean distances of pairs (m,) without the cancellation of expanding the square."""
    return np.asarray(sum((a[rows, j] - a[columns, j]) ** 2 for j in range(a.shape[1])))


def _pair_product(a: Floats, rows: Indices, columns: Indices) -> Floats:
    return np.asarray((a @ a.T)[rows, columns])


def _square_distance(a: Floats, b: Floats) -> Floats:
    """Return squared Euclidean distances (m, n) without the cancellation of expanding the square."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(a, b, "sqeuclidean"))


def _matern(squares: Floats, smoothness: str) -> Floats:
    return _matern_pair(squares, smoothness)[0]


def _matern_pair(squares: Floats, smoothness: str) -> Pair:
    """Return M, and dM / d log lengthscale per unit of a feature's squared distance."""
    distance = np.sqrt(squares)
    # In place: what is new in memory costs as much as what is done with it.
    distance *= {"matern12": 1.0, "matern32": _SQRT3, "matern52": _SQRT5}[smoothness]
    decay = np.negative(distance)
    np.exp(decay, out=decay)
    if smoothness == "matern12":
        return decay, decay / np.maximum(distance, 1e-12)
    distance += 1.0
    if smoothness == "matern32":
        distance *= decay
        decay *= 3.0
        return distance, decay
    close = (5.0 / 3.0) * squares
    close += distance
    close *= decay
    distance *= decay
    distance *= 5.0 / 3.0
    return close, distance
