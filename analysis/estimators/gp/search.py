"""Which steps the runs speak for: sets of them, drawn from their exact posterior on top of a solved process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.evidence import Solved

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Chosen = tuple[int, ...]  # options of one set
Name = tuple[int, int | None]  # a step, and the coordinate whose effect it moves: none is all of them

MOST_COEFFICIENTS = 96  # of one set: with many domains a step is many coefficients
N_PARENTS = 3  # steps that others are nested in
PRIOR_MORE = 0.5  # probability that there is one step more
N_SWEEPS, N_DISCARDED = 150, 30
N_EXCHANGES = 3  # passes over the set that a search finds
N_SPARE = 1  # places for steps beyond those that a greedy search finds
HOPELESS = 1e-5  # share of a place, next to the set found, below which an option is not drawn


@dataclass(frozen=True)
class Gram:
    """What every set of steps needs of the runs.

    Attributes
    ----------
    F, half : ndarray (n, m)
        Regressors of the coefficients, and ``K^-1 F``.
    vector : ndarray (m,), outcomes : ndarray (m, A)
        ``F' K^-1 y`` of the weighted mean outcome, and of every outcome.
    """

    F: Floats
    half: Floats
    vector: Floats
    outcomes: Floats
    matrix: Floats | None = None

    def take(self, rows: Indices) -> Gram:
        """Keep some coefficients, few enough to hold ``F' K^-1 F`` of all of them (m, m)."""
        F, half = self.F[:, rows], self.half[:, rows]
        return Gram(F, half, self.vector[rows], self.outcomes[rows], F.T @ half)

    def cross(self, rows: Indices) -> Floats:
        """Return ``F' K^-1 F`` of some coefficients with all (r, m)."""
        return np.asarray(self.F[:, rows].T @ self.half) if self.matrix is None else self.matrix[rows]

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

    @cached_property
    def groups(self) -> list[tuple[Indices, Floats]]:
        """Return rows (m, q) and their Gram matrices (m, q, q) by size."""
        sizes = dict.fromkeys(len(option.rows) for option in self.options)
        every = [np.stack([option.rows for option in self.options if len(option.rows) == size]) for size in sizes]
        return [(rows, self.gram.blocks(rows)) for rows in every]

    @cached_property
    def log_prior(self) -> Floats:
        """Return the log prior of every option, given that the place holds one."""
        return np.array([option.log_prior for option in self.options])

    def name(self, chosen: Iterable[int]) -> tuple[Name, ...]:
        """Return the steps of a set."""
        return tuple(self.options[i].name for i in chosen)

    def gather(self, chosen: Iterable[int]) -> Indices:
        """Return the rows of a set; two options may share one."""
        return np.concatenate([np.empty(0, dtype=np.int64), *(self.options[i].rows for i in chosen)])

    def weigh_prior(self, chosen: Sequence[int]) -> float:
        """Return the log prior of a set over that of none."""
        return float(sum(self.options[i].log_prior + log(PRIOR_MORE) for i in chosen))

    def weigh(self, chosen: Sequence[int], variance: float) -> Floats:
        """Return the log Bayes factor of every option in addition to a set."""
        rows, u, W = self.gather(chosen), self.gram.vector, None
        if len(rows):
            cross = self.gram.cross(rows)
            lower = np.linalg.cholesky(np.eye(len(rows)) / variance + cross[:, rows])
            solved = np.linalg.solve(lower, np.column_stack([cross, u[rows]]))
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
        M = np.eye(len(rows)) + variance * self.gram.cross(rows)[:, rows]
        return float(_log_factors(M[None], self.gram.vector[rows][None], variance)[0])

    def weigh_place(self, rest: Sequence[int], n_places: int, variance: float) -> Floats:
        """Return log weights of what a place may hold given the others: every option, then nothing."""
        odds = log(PRIOR_MORE) + log((len(rest) + 1) / (n_places - len(rest)))
        return np.append(self.weigh(rest, variance) + self.log_prior + odds, 0.0)

    def take(self, kept: Indices) -> tuple[Options, Indices]:
        """Keep some options and their coefficients alone; also return which coefficients those are."""
        union = np.unique(self.gather(kept))
        options = [self.options[i] for i in kept]
        moved = [Option(each.name, np.searchsorted(union, each.rows), each.log_prior) for each in options]
        return Options(self.gram.take(union), tuple(moved)), union


@dataclass(frozen=True)
class StepPosterior:
    """Posterior of the steps' coefficients, averaged over sets.

    Attributes
    ----------
    rows : ndarray of int (s,)
        Positions of the coefficients that any set holds among all C (p + 1).
    mean : ndarray (s, A), covariance : ndarray (s, s)
        Moments of the coefficients, which are zero in a set that lacks them; the covariance is of the weighted
        mean outcome's.
    weights : dict of tuple to float
        Share of the draws that were each set.
    """

    rows: Indices
    mean: Floats
    covariance: Floats
    weights: dict[tuple[Name, ...], float]


def no_steps(n_outcomes: int) -> StepPosterior:
    """Return the posterior of a process without steps."""
    return StepPosterior(np.empty(0, dtype=np.int64), np.empty((0, n_outcomes)), np.empty((0, 0)), {(): 1.0})


def make_gram(expanded: Floats, solved: Solved, y: Floats) -> Gram:
    """Project the expanded steps (n, C, q) on a solved process; ``y`` (n,) is the weighted mean outcome."""
    F = expanded.reshape(len(expanded), -1)
    half = solved.inverse @ F
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
    return Options(gram, tuple(options))


def find_steps(options: Options, variances: Sequence[float]) -> tuple[Chosen, float]:
    """Return a likely set of steps and the variance of a step that suits it.

    The option that helps most is added until none does; then each is exchanged for the best in its place, or
    dropped, until the set stays.
    """
    found: list[tuple[float, Chosen, float]] = []
    for variance in variances:
        chosen: list[int] = []
        for _ in range(N_EXCHANGES):
            before = list(chosen)
            _grow(options, chosen, variance)
            _exchange(options, chosen, variance)
            if chosen == before:
                break
        total = options.score(chosen, variance) + options.weigh_prior(chosen)
        found.append((total, tuple(chosen), variance))
    return max(found, key=lambda item: item[0])[1:]


def _grow(options: Options, chosen: list[int], variance: float) -> None:
    while True:
        gains = options.weigh(chosen, variance) + options.log_prior + log(PRIOR_MORE)
        best = int(gains.argmax())
        if gains[best] <= 0 or (chosen and len(options.gather([*chosen, best])) > MOST_COEFFICIENTS):
            return
        chosen.append(best)


def _exchange(options: Options, chosen: list[int], variance: float) -> None:
    for option in list(chosen) if len(chosen) > 1 else []:
        at = chosen.index(option)
        rest = chosen[:at] + chosen[at + 1 :]
        gains = options.weigh(rest, variance) + options.log_prior + log(PRIOR_MORE)
        best = int(gains.argmax())
        if gains[best] <= 0:
            chosen.pop(at)
        elif gains[best] > gains[option] + 1e-9:
            chosen[at] = best


def draw_steps(options: Options, start: Chosen, variances: Sequence[float], seed: int) -> StepPosterior:
    """Draw sets from their posterior, and average the exact posteriors of the coefficients over the draws.

    A set has as many places as ``start``, which a search found, and one more. Each in turn is emptied and drawn
    again given the others, coefficients integrated out; then the variance of a step is. Options that have no
    share worth a draw in any place of ``start`` are left out.

    Notes
    -----
    Gibbs sampling of a spike-and-slab prior: George and McCulloch, "Approaches for Bayesian variable selection",
    Statistica Sinica 7 (1997). The same seed gives the same draws.
    """
    kept = _drop_hopeless(options, start, variances)
    fewer, rows = options.take(kept)
    rng, n_places = np.random.default_rng([seed, 43]), len(start) + N_SPARE
    places = [*np.searchsorted(kept, np.sort(np.array(start, dtype=np.int64))).tolist(), *([-1] * N_SPARE)]
    known: dict[tuple[Chosen, float], Floats] = {}
    visits: dict[tuple[Chosen, float], int] = {}
    for sweep in range(N_SWEEPS):
        held = tuple(sorted(i for i in places if i >= 0))
        variance = variances[_draw(np.array([fewer.score(held, v) for v in variances]), rng)]
        for place in range(n_places):
            rest = tuple(sorted(i for other, i in enumerate(places) if other != place and i >= 0))
            if (rest, variance) not in known:
                known[rest, variance] = fewer.weigh_place(rest, n_places, variance)
            drawn = _draw(known[rest, variance], rng)
            places[place] = drawn if drawn < len(fewer.options) else -1
        if sweep >= N_DISCARDED:
            key = tuple(sorted(i for i in places if i >= 0)), variance
            visits[key] = visits.get(key, 0) + 1
    return _average(fewer, rows, visits)


def list_parents(options: Options, chosen: Chosen) -> list[int]:
    """Return the first steps of a set, at most three."""
    return list(dict.fromkeys(step for step, _ in options.name(chosen)))[:N_PARENTS]


def _drop_hopeless(options: Options, start: Chosen, variances: Sequence[float]) -> Indices:
    """Return the options that have a share in some place of a set, the others as they are."""
    n_options, kept = len(options.options), set(start)
    for variance in variances:
        for rest in dict.fromkeys([start, *(start[:i] + start[i + 1 :] for i in range(len(start)))]):
            logs = options.weigh_place(rest, len(start) + N_SPARE, variance)
            likely = np.flatnonzero(logs[:n_options] > np.logaddexp.reduce(logs) + log(HOPELESS))
            kept |= set(likely.tolist())
    return np.array(sorted(kept), dtype=np.int64)


def _average(options: Options, labels: Indices, visits: dict[tuple[Chosen, float], int]) -> StepPosterior:
    """Mix the exact posteriors of the sets drawn, by how often each was."""
    gram, total = options.gram, sum(visits.values())
    union = np.unique(np.concatenate([options.gather(chosen) for chosen, _ in visits]))
    covariance, moved, wholes = np.zeros((len(union), len(union))), [], []
    weights: dict[tuple[Name, ...], float] = {}
    for (chosen, variance), count in visits.items():
        rows = options.gather(chosen)
        own = np.linalg.inv(np.eye(len(rows)) / variance + gram.cross(rows)[:, rows])
        # Two options of one set may share a coefficient: theirs add up.
        place = (np.searchsorted(union, rows)[None, :] == np.arange(len(union))[:, None]).astype(np.float64)
        covariance += count / total * (place @ own @ place.T)
        moved.append(place @ own @ gram.outcomes[rows])
        wholes.append(place @ own @ gram.vector[rows])
        weights[options.name(chosen)] = weights.get(options.name(chosen), 0.0) + count / total
    shares = np.array(list(visits.values())) / total
    strayed = np.stack(wholes) - shares @ np.stack(wholes)
    covariance += np.einsum("v,vi,vj->ij", shares, strayed, strayed)
    return StepPosterior(labels[union], np.einsum("v,via->ia", shares, np.stack(moved)), covariance, weights)


def _draw(logs: Floats, rng: np.random.Generator) -> int:
    edges = np.cumsum(np.exp(logs - logs.max()))
    return int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))


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
