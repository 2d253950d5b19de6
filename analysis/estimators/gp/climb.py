"""Hyper-parameters of the process by marginal likelihood."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.kernel import Kernel, Pair, Points

Floats = NDArray[np.float64]

SLOPE = 1.0  # nats a prior sd: a search ends where its cost is flatter, at most half a nat from the best near by
FARTHEST = 10.0  # logs from the prior's centre, beyond which nothing is searched
JITTER = 1e-8  # added to the diagonal of a covariance


class Evidence:
    """Log evidence of hyper-parameters on some runs, whose pairs are measured once.

    ``base`` (n, n) is a covariance that is always added to the kernel's.
    """

    def __init__(self, kernel: Kernel, points: Points, y: Floats, base: Floats | None = None):
        self.kernel, self.points, self.y, self.base = kernel, points, y, base
        self.distances = kernel.measure(points)
        self._ended: dict[bytes, _Solution] = {}  # where searches without extra did, by hyper-parameters

    def maximise(
        self, max_search: int, extra: Floats | None = None, known: Floats | None = None, fixed: tuple[int, ...] = ()
    ) -> Floats:
        """Return hyper-parameters that the runs and the prior speak for.

        Parameters
        ----------
        max_search : int
            Steps of the search.
        extra : ndarray (n, n), optional
            A fixed covariance added to the kernel's.
        known : ndarray (size,), optional
            Where to start; the centre of the prior where nothing is given.
        fixed : tuple of int
            Which of them stay there.

        Notes
        -----
        Steps inside a region of trust, with the average information for the curvature: Gilmour, Thompson and Cullis,
        "Average information REML", Biometrics 51 (1995). A step costs what one of L-BFGS does, and a third
        as many are needed.
        """
        from scipy.optimize import minimize

        climb = _Climb(self, self.kernel.start() if known is None else known, self._join(extra), fixed)
        found = minimize(
            climb.cost,
            climb.start,
            jac=climb.slope,
            hess=climb.curvature,
            method="trust-exact",
            options={"maxiter": max_search, "gtol": SLOPE},
        )
        values = climb.place(found.x)
        place = climb.turned
        if extra is None and place is not None and place.solution is not None and np.array_equal(place.u, found.x):
            self._ended[values.tobytes()] = place.solution
        return values

    def invert(self, values: Floats) -> tuple[Floats, float]:
        """Return ``K^-1`` (n, n) without extra and the log evidence; the search's own where it ended there."""
        solution = self._ended.get(values.tobytes())
        if solution is None:
            total, _ = self.kernel.differentiate(values, self.distances)
            solution = self.solve(total, self.base)
        return np.triu(solution.inverse) + np.triu(solution.inverse, 1).T, solution.log_evidence

    def score(self, values: Floats, extra: Floats | None = None) -> float:
        """Return ``log N(y; 0, K)``, with ``extra`` (n, n) added to K."""
        total, _ = self.kernel.differentiate(values, self.distances)
        return self.solve(total, self._join(extra)).log_evidence

    def score_scales(self, values: Floats, which: int, scales: Floats, extra: Floats | None = None) -> list[float]:
        """Return :meth:`score` with one log scale (s_g, s_c, s_l, s_v or s_e) changed: K is linear in its square."""
        total, slopes = self.kernel.differentiate(values, self.distances)
        slope = next(itertools.islice(slopes, which, None))
        moves = 0.5 * np.expm1(2.0 * (scales - values[which]))
        added = self._join(extra)
        return [self.solve(total + move * slope, added).log_evidence for move in moves]

    def _join(self, extra: Floats | None) -> Floats | None:
        """Return all that is added to the kernel's covariance."""
        return extra if self.base is None else self.base if extra is None else self.base + extra

    def solve(self, total: Floats, extra: Floats | None) -> _Solution:
        """Solve the covariance of all pairs (m,), with ``extra`` (n, n) added, for y.

        Raises
        ------
        numpy.linalg.LinAlgError
            It is not positive definite.
        """
        from scipy.linalg import lapack

        K, _ = lapack.dtpttr(len(self.y), total, uplo="U")
        if extra is not None:
            K += extra.T  # itself, in K's own order in memory: ten times faster
        K[np.diag_indices(len(K))] += JITTER
        factor, failed = lapack.dpotrf(K, lower=0, clean=0, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError("a covariance that is not positive definite")
        alpha, _ = lapack.dpotrs(factor, self.y, lower=0)
        log_determinant = 2.0 * float(np.log(np.diag(factor)).sum())
        return _Solution(factor, alpha, -0.5 * (self.y @ alpha + log_determinant + len(K) * np.log(2 * np.pi)))


@dataclass(frozen=True)
class _Solution:
    """The upper factor of K (n, n), ``K^-1 y`` (n,) and the log evidence."""

    factor: Floats
    alpha: Floats
    log_evidence: float

    @cached_property
    def inverse(self) -> Floats:
        """Return the upper triangle of ``K^-1`` (n, n); what stands below it means nothing."""
        from scipy.linalg import lapack

        return np.asarray(lapack.dpotri(self.factor, lower=0)[0])


class _Climb:
    """A search: its cost with slope and curvature, at free hyper-parameters u in sds of the prior from its centre."""

    def __init__(self, evidence: Evidence, known: Floats, extra: Floats | None, fixed: tuple[int, ...]):
        self.evidence, self.known, self.extra = evidence, known, extra
        self.free = np.array([i for i in range(len(known)) if i not in fixed])
        self.centre, self.sd = (each[self.free] for each in (evidence.kernel.start(), evidence.kernel.prior_sd()))
        self.start = (known[self.free] - self.centre) / self.sd
        self.at: _Place | None = None
        self.turned: _Place | None = None  # the last whose slope was asked for: where the search stands

    def place(self, u: Floats) -> Floats:
        """Return all hyper-parameters."""
        values = self.known.copy()
        values[self.free] = self.centre + self.sd * u
        return values

    def cost(self, u: Floats) -> float:
        """Return minus the log posterior; infinite where nothing is searched."""
        return self._visit(u).cost

    def slope(self, u: Floats) -> Floats:
        """Return the derivative of the cost."""
        self.turned = self._visit(u)
        return self.turned.turn[0]

    def curvature(self, u: Floats) -> Floats:
        """Return the average information, and the prior's."""
        return self._visit(u).turn[1]

    def _visit(self, u: Floats) -> _Place:
        if self.at is None or not np.array_equal(self.at.u, u):
            self.at = _Place(self, u.copy())
        return self.at


class _Place:
    """One place of a search."""

    def __init__(self, climb: _Climb, u: Floats):
        self.climb, self.u, self.cost = climb, u, float("inf")
        self.solution: _Solution | None = None
        if np.abs(climb.sd * u).max() > FARTHEST:
            return
        total, self.slopes = climb.evidence.kernel.differentiate(climb.place(u), climb.evidence.distances)
        try:
            self.solution = climb.evidence.solve(total, climb.extra)
        except np.linalg.LinAlgError:
            return
        self.cost = -self.solution.log_evidence + 0.5 * float(u @ u)

    @cached_property
    def turn(self) -> Pair:
        """Return slope and curvature: of ``dK_i``, only ``dK_i K^-1 y`` and ``tr(K^-1 dK_i)`` are needed."""
        from scipy.linalg import blas, lapack

        solution, sd, free = self.solution, self.climb.sd, set(self.climb.free.tolist())
        if solution is None:  # nowhere that a search stays
            return self.u, np.eye(len(self.u))
        pairs, _ = lapack.dtrttp(solution.inverse, uplo="U")
        pairs[self.climb.evidence.distances.diagonal] *= 0.5
        moved, traces = np.empty((len(self.climb.evidence.y), len(sd)), order="F"), np.empty(len(sd))
        for k, slope in enumerate(each for i, each in enumerate(self.slopes) if i in free):
            moved[:, k] = blas.dspmv(len(moved), sd[k], slope, solution.alpha)
            traces[k] = 2.0 * sd[k] * (slope @ pairs)  # every pair stands for two
        solved, _ = lapack.dpotrs(solution.factor, moved, lower=0)
        return self.u - 0.5 * (solution.alpha @ moved - traces), np.eye(len(sd)) + 0.5 * moved.T @ solved
