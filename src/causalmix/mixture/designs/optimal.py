"""The I-optimal design: the runs whose quadratic fit predicts best on average."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError
from causalmix.mixture.designs.points import PointDesign
from causalmix.mixture.designs.quadratic import count_terms, moment_matrix, quadratic_terms, sample_region
from causalmix.mixture.designs.region import Region
from causalmix.mixture.designs.request import Request

Floats = NDArray[np.float64]

_STARTS = 3  # random designs to improve; their criteria differ by some tenths of a percent
_TERMS_ONE_START = 36  # more terms (nine domains or more): one start, for a round takes seconds
_TERMS_MAX = 210  # 20 domains: several minutes, and 420 runs
_STEPS = 9  # places tried on the line between two domains
_ROUNDS_MAX = 100
# Gains are compared after rounding, so that the last bits of a sum, which differ between machines, do not choose.
_GAIN_DIGITS = 9
_GAIN_MIN = 1e-6


def build_optimal(request: Request) -> PointDesign:
    """Build the I-optimal design of ``mixture.n_points`` runs over the floored and capped mixtures.

    It minimises the average prediction variance ``tr[(F'F)^-1 M]`` of the quadratic mixture model; no point is
    infeasible, because none outside the caps is tried. The order is drawn from ``mixture.design_seed``.

    Raises
    ------
    MixtureError
        Fewer points than the model has terms, more than 20 domains, or caps that leave hardly any room.
    """
    region = Region(request.box)
    n_terms = count_terms(len(request.domains))
    if n_terms > _TERMS_MAX:
        raise MixtureError(
            f"mixture=optimal: the quadratic model of {len(request.domains)} domains has {n_terms} terms, and the "
            f"search is for up to {_TERMS_MAX} (20 domains). Take mixture=sobol, or join domains."
        )
    n_points = 2 * n_terms if request.cfg.n_points is None else request.cfg.n_points
    if n_points < n_terms:
        raise MixtureError(
            f"mixture.n_points={n_points}: the quadratic model of {len(request.domains)} domains has {n_terms} terms, "
            f"so {n_terms} points or more are needed; null takes {2 * n_terms}."
        )
    points = exchange_points(tuple(region.cap.tolist()), n_points, request.cfg.design_seed)
    return PointDesign(request.cfg.kind, request.domains, region.to_weights(points))


@lru_cache(maxsize=8)
def exchange_points(cap: tuple[float, ...], n_points: int, seed: int) -> Floats:
    """Search the design (n_points, K) below ``cap`` with the least average prediction variance.

    Coordinate exchange: one point after the other moves along the line between two domains, to the best of
    the places tried on the lines of all pairs, until a whole round gains less than a millionth. Best of
    three random starts (of one, from nine domains on); computed once a process: half a second for seven
    domains, ten for twelve, two minutes for seventeen.

    Parameters
    ----------
    cap : tuple of float
        Largest share of each domain.
    n_points, seed : int

    Returns
    -------
    ndarray (n_points, K)
        Read-only.

    Raises
    ------
    MixtureError
        Caps under which the terms of the model cannot be told apart.

    Notes
    -----
    Meyer and Nachtsheim (1995), "The coordinate-exchange algorithm for constructing exact optimal
    experimental designs"; for mixtures, Piepel, Cooley and Jones (2005).
    """
    limits = np.array(cap)
    moments = moment_matrix(limits)
    if np.linalg.cond(moments) > 1e13:
        raise MixtureError(
            "mixture=optimal: the shares the pool can give lie so close together that a quadratic model cannot be "
            "fitted. Lower train.n_samples or mixture.floor, raise mixture.repeats_max, or take mixture=dirichlet."
        )
    rng = np.random.default_rng([seed, 71])
    n_starts = _STARTS if len(moments) <= _TERMS_ONE_START else 1
    found = [_improve(sample_region(limits, n_points, rng), limits, moments) for _ in range(n_starts)]
    criterion = np.round([value for _, value in found], 12)
    best = found[int(np.argmin(criterion))][0]
    best = best[rng.permutation(n_points)]
    best.flags.writeable = False
    return best


def _improve(points: Floats, cap: Floats, moments: Floats) -> tuple[Floats, float]:
    """Exchange until nothing is gained: the design and its criterion."""
    terms = quadratic_terms(points)
    inverse = _invert(terms)
    value = float(np.sum(moments * inverse))
    for _ in range(_ROUNDS_MAX):
        before = value
        for row in range(len(points)):
            moved = _list_moves(points[row], cap)
            moved_terms = quadratic_terms(moved)
            gains = _measure_gains(terms[row], moved_terms, inverse, moments)
            best = int(np.argmax(np.round(gains / value, _GAIN_DIGITS)))
            if gains[best] > _GAIN_MIN * value:
                points[row], terms[row] = moved[best], moved_terms[best]
                inverse = _invert(terms)
                value = float(np.sum(moments * inverse))
        if before - value < _GAIN_MIN * before:
            break
    return points, value


def _invert(terms: Floats) -> Floats:
    return np.asarray(np.linalg.inv(terms.T @ terms), dtype=np.float64)


def _list_moves(point: Floats, cap: Floats) -> Floats:
    """List the places tried for a point, (n, K): each pair's mass divided in ``_STEPS`` ways within the caps."""
    i, j = np.triu_indices(len(point), 1)
    both = point[i] + point[j]
    low, high = np.maximum(0.0, both - cap[j]), np.minimum(cap[i], both)
    share = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, _STEPS)
    moves = np.repeat(point[None], len(i) * _STEPS, axis=0).reshape(len(i), _STEPS, len(point))
    row = np.arange(len(i))
    moves[row, :, i] = share
    moves[row, :, j] = both[:, None] - share
    return np.asarray(np.clip(moves.reshape(-1, len(point)), 0.0, cap))


def _measure_gains(old: Floats, new: Floats, inverse: Floats, moments: Floats) -> Floats:
    """Fall of ``tr[(F'F)^-1 M]`` when the row ``old`` (p,) of F becomes each of ``new`` (c, p).

    With D = (F'F)^-1, E = D M D, a rank-two update of the inverse gives
    ``tr(S^-1 A)``, S = [[1 + n'Dn, n'Do], [n'Do, o'Do - 1]], A = [[n'En, n'Eo], [n'Eo, o'Eo]].
    """
    weighted = inverse @ moments @ inverse
    inverse_old, weighted_old = inverse @ old, weighted @ old
    s11 = 1.0 + np.einsum("cp,cp->c", new @ inverse, new)
    s12, s22 = new @ inverse_old, old @ inverse_old - 1.0
    a11, a12, a22 = np.einsum("cp,cp->c", new @ weighted, new), new @ weighted_old, old @ weighted_old
    determinant = s11 * s22 - s12**2
    allowed = determinant < -1e-10  # otherwise the design would become singular
    gain = (s22 * a11 - 2.0 * s12 * a12 + s11 * a22) / np.where(allowed, determinant, -1.0)
    return np.asarray(np.where(allowed, gain, -np.inf))
