"""What a set of steps may hold, and the exact marginal likelihood of having it, on top of a solved process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.evidence import Solved

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Chosen = tuple[int, ...]  # options of one set
Name = tuple[int, int | None]  # a step, and the coordinate whose effect it moves: none is all of them

PRIOR_MORE = 0.8  # probability that there is one step more


@dataclass(frozen=True)
class Gram:
    """What every set of steps needs of the runs.

    Attributes
    ----------
    F, half : ndarray (n, m)
        Regressors of the coefficients, and ``K^-1 F``.
    vector : ndarray (m,), outcomes : ndarray (m, A)
        ``F' K^-1 y`` of the weighted mean outcome, and of every outcome.
    known : dict of int to ndarray (m,)
        Rows of ``F' K^-1 F`` that were asked for: few are, and those again and again.
    """

    F: Floats
    half: Floats
    vector: Floats
    outcomes: Floats
    known: dict[int, Floats] = field(default_factory=dict, repr=False, compare=False)

    def take(self, rows: Indices) -> Gram:
        """Keep some coefficients."""
        return Gram(self.F[:, rows], self.half[:, rows], self.vector[rows], self.outcomes[rows])

    def cross(self, rows: Indices) -> Floats:
        """Return ``F' K^-1 F`` of some coefficients with all (r, m)."""
        asked = rows.tolist()
        new = [row for row in dict.fromkeys(asked) if row not in self.known]
        if new:
            self.known.update(zip(new, self.F[:, new].T @ self.half))
        return np.stack([self.known[row] for row in asked])

    def block(self, rows: Indices) -> Floats:
        """Return ``F' K^-1 F`` of some coefficients (r, r)."""
        return np.asarray(self.F[:, rows].T @ self.half[:, rows])

    def blocks(self, rows: Indices) -> Floats:
        """Return ``F' K^-1 F`` (b, q, q) of groups of coefficients (b, q)."""
        return np.asarray(np.matmul(self.F.T[rows], self.half.T[rows].transpose(0, 2, 1)))


@dataclass(frozen=True)
class Option:
    """A step with the coefficients it moves: of every effect and the level, or of one effect and the level."""

    name: Name
    rows: Indices
    log_prior: float


@dataclass(frozen=True)
class Options:
    """All that one place in a set may hold; those of one size stand together."""

    gram: Gram
    options: tuple[Option, ...]
    n_effects: int
    parent: tuple[Options, Indices] | None = None  # those that these were taken from, and which

    @cached_property
    def groups(self) -> list[tuple[Indices, Floats]]:
        """Return rows (m, q) and their Gram matrices (m, q, q) by size."""
        sizes = dict.fromkeys(len(option.rows) for option in self.options)
        every = [np.stack([option.rows for option in self.options if len(option.rows) == size]) for size in sizes]
        if self.parent is None:
            return [(rows, self.gram.blocks(rows)) for rows in every]
        whole, kept = self.parent
        start, held = 0, {}
        for rows, matrices in whole.groups:
            held[rows.shape[1]] = matrices[kept[(kept >= start) & (kept < start + len(rows))] - start]
            start += len(rows)
        return [(rows, held[rows.shape[1]]) for rows in every]

    @cached_property
    def log_prior(self) -> Floats:
        """Return the log prior of every option, given that the place holds one."""
        return np.array([option.log_prior for option in self.options])

    @cached_property
    def is_least(self) -> NDArray[np.bool_]:
        """Return whether an option has as few coefficients as any: of one effect alone, where there are such."""
        sizes = np.array([len(option.rows) for option in self.options])
        return np.asarray(sizes == sizes.min())

    def name(self, chosen: Iterable[int]) -> tuple[Name, ...]:
        """Return the steps of a set."""
        return tuple(self.options[i].name for i in chosen)

    def locate(self, names: Iterable[Name]) -> Chosen:
        """Return the set of some steps."""
        places = {option.name: i for i, option in enumerate(self.options)}
        return tuple(places[name] for name in names)

    def gather(self, chosen: Iterable[int]) -> Indices:
        """Return the rows of a set; two options may share one."""
        return np.concatenate([np.empty(0, dtype=np.int64), *(self.options[i].rows for i in chosen)])

    def weigh_prior(self, chosen: Sequence[int]) -> float:
        """Return the log prior of a set over that of none."""
        return float(sum(self.options[i].log_prior + log(PRIOR_MORE) for i in chosen))

    def weigh(self, chosen: Sequence[int], variance: float) -> Floats:
        """Return the log Bayes factor of every option in addition to a set."""
        from scipy.linalg import lapack

        rows, u, W = self.gather(chosen), self.gram.vector, None
        if len(rows):
            cross = self.gram.cross(rows)
            lower = np.linalg.cholesky(np.eye(len(rows)) / variance + cross[:, rows])
            solved, _ = lapack.dtrtrs(lower, np.column_stack([cross, u[rows]]), lower=1)
            W, u = solved[:, :-1], u - solved[:, :-1].T @ solved[:, -1]
        factors = []
        for places, own in self.groups:
            left = own
            if W is not None:
                moved = W.T[places]  # (m, q, s)
                left = own - np.matmul(moved, moved.transpose(0, 2, 1))
            factors.append(_log_factors(np.eye(places.shape[1]) + variance * left, u[places], variance))
        return np.concatenate(factors)

    def score(self, chosen: Sequence[int], variance: float) -> float:
        """Return the log Bayes factor of a set over none."""
        rows = self.gather(chosen)
        if not len(rows):
            return 0.0
        M = np.eye(len(rows)) + variance * self.gram.block(rows)
        return float(_log_factors(M[None], self.gram.vector[rows][None], variance)[0])

    def weigh_place(self, rest: Sequence[int], n_places: int, variance: float, log_none: float) -> Floats:
        """Return log weights of what a place may hold given the others: every option, then nothing.

        A set of no step at all has ``log_none`` more.
        """
        odds = log(PRIOR_MORE) + log((len(rest) + 1) / (n_places - len(rest)))
        return np.append(self.weigh(rest, variance) + self.log_prior + odds, 0.0 if len(rest) else log_none)

    def take(self, kept: Indices) -> tuple[Options, Indices]:
        """Keep some options and their coefficients alone; also return which coefficients those are."""
        union = np.unique(self.gather(kept))
        options = [self.options[i] for i in kept]
        moved = [Option(each.name, np.searchsorted(union, each.rows), each.log_prior) for each in options]
        return Options(self.gram.take(union), tuple(moved), self.n_effects, (self, kept)), union


def make_gram(F: Floats, solved: Solved, y: Floats) -> Gram:
    """Project the regressors of steps (n, m) on a solved process; ``y`` (n,) is the weighted mean outcome."""
    half = (F.T @ solved.inverse).T
    return Gram(F, half, half.T @ y, F.T @ solved.alpha)


def list_options(gram: Gram, width: int, n_simple: int, *, single: bool) -> Options:
    """List what a set may hold: a step of all effects, or (where ``single``) of one effect alone.

    Half of the prior goes to either kind, and half of it to steps nested in others where there are any. A step
    has ``width`` coefficients: of every effect, and of the level.
    """
    n = len(gram.vector) // width
    single = single and width > 2
    counts = (n_simple, n - n_simple)
    common = (log(0.5) if single else 0.0) + (log(0.5) if counts[1] else 0.0)
    priors = [common - log(counts[step >= n_simple]) for step in range(n)]
    options = [Option((s, None), np.arange(s * width, (s + 1) * width), priors[s]) for s in range(n)]
    for s in range(n if single else 0):
        rest = priors[s] - log(width - 1)
        level = (s + 1) * width - 1
        options += [Option((s, k), np.array([s * width + k, level]), rest) for k in range(width - 1)]
    return Options(gram, tuple(options), width - 1)


def _log_factors(M: Floats, u: Floats, variance: float) -> Floats:
    """Return ``-log|M| / 2 + v u' M^-1 u / 2`` of matrices (m, q, q) and vectors (m, q)."""
    if M.shape[1] == 2:
        determinant = M[:, 0, 0] * M[:, 1, 1] - M[:, 0, 1] * M[:, 1, 0]
        pull = M[:, 1, 1] * u[:, 0] ** 2 + M[:, 0, 0] * u[:, 1] ** 2 - 2 * M[:, 0, 1] * u[:, 0] * u[:, 1]
        return np.asarray(0.5 * (variance * pull / determinant - np.log(determinant)))
    lower = np.linalg.cholesky(M)
    half = np.linalg.solve(lower, u[:, :, None])[:, :, 0]
    logs = np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
    return np.asarray(0.5 * variance * (half**2).sum(axis=1) - logs)
