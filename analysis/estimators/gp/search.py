"""Which steps the runs speak for: sets of them, drawn from their exact posterior on top of a solved process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.options import PRIOR_MORE, Chosen, Name, Options

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

MOST_COEFFICIENTS = 96  # of one set: with many domains a step is many coefficients
N_PARENTS = 3  # steps that others are nested in
N_SWEEPS, N_DISCARDED = 100, 20
N_EXCHANGES = 3  # passes over the set that a search finds
N_OVER = 2  # steps more than effects, where steps are given credit
N_SPARE = 5  # places for steps beyond those that a greedy search finds: doubtful ones share them
NEGLIGIBLE = 1e-5  # share of a place, next to the set found, below which an option is not drawn


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


def find_steps(
    options: Options, variances: Sequence[float], start: Chosen = (), credit: float = 0.0
) -> tuple[Chosen, float]:
    """Return a likely set of steps and the variance of a step that suits it.

    Each that is there is exchanged for the best in its place, or dropped; then the option that helps most is
    added until none does; and again until the set stays. With ``credit``, nats that each is given in advance,
    only the least of options are looked at, of which there may be two more than effects.
    """
    found: list[tuple[float, Chosen, float]] = []
    worth = options.log_prior + log(PRIOR_MORE)
    most = len(options.options)
    if credit:
        worth, most = np.where(options.is_least, worth + credit, -np.inf), options.n_effects + N_OVER
    for variance in variances:
        chosen = list(start)
        for _ in range(N_EXCHANGES):
            before = list(chosen)
            _exchange(options, chosen, variance, worth)
            _grow(options, chosen, variance, worth, most)
            if chosen == before or len(chosen) < 2:
                break
        total = options.score(chosen, variance) + float(worth[chosen].sum())
        found.append((total, tuple(chosen), variance))
    return max(found, key=lambda item: item[0])[1:]


def _grow(options: Options, chosen: list[int], variance: float, worth: Floats, most: int) -> None:
    while len(chosen) < most:
        gains = options.weigh(chosen, variance) + worth
        best = int(gains.argmax())
        if gains[best] <= 0 or (chosen and len(options.gather([*chosen, best])) > MOST_COEFFICIENTS):
            return
        chosen.append(best)


def _exchange(options: Options, chosen: list[int], variance: float, worth: Floats) -> None:
    for option in list(chosen):
        at = chosen.index(option)
        rest = chosen[:at] + chosen[at + 1 :]
        gains = options.weigh(rest, variance) + worth
        best = int(gains.argmax())
        if gains[best] <= 0:
            chosen.pop(at)
        elif gains[best] > gains[option] + 1e-9:
            chosen[at] = best


def draw_steps(
    options: Options, start: Chosen, variances: Sequence[float], seed: int, log_none: float = 0.0
) -> StepPosterior:
    """Draw sets from their posterior, and average the exact posteriors of the coefficients over the draws.

    A set has as many places as ``start``, which a search found, and one more. Each in turn is emptied and drawn
    again given the others, coefficients integrated out; then the variance of a step is. Options that have no
    share worth a draw in any place of ``start`` are left out. ``log_none`` is what the prior gives a set of no step
    beyond its places.

    Notes
    -----
    Gibbs sampling of a spike-and-slab prior: George and McCulloch, "Approaches for Bayesian variable selection",
    Statistica Sinica 7 (1997). The same seed gives the same draws.
    """
    kept = _drop_negligible(options, start, variances, log_none)
    if not len(kept):
        return no_steps(options.gram.outcomes.shape[1])
    fewer, rows = options.take(kept)
    rng, n_places = np.random.default_rng([seed, 43]), len(start) + N_SPARE
    places = [*np.searchsorted(kept, np.sort(np.array(start, dtype=np.int64))).tolist(), *([-1] * N_SPARE)]
    known: dict[tuple[Chosen, float], Floats] = {}
    scores: dict[Chosen, Floats] = {}
    visits: dict[tuple[Chosen, float], int] = {}
    for sweep in range(N_SWEEPS):
        held = tuple(sorted(i for i in places if i >= 0))
        if held not in scores:
            scores[held] = np.array([fewer.score(held, v) for v in variances])
        variance = variances[_draw(_add_up(scores[held]), rng)]
        for place in range(n_places):
            rest = tuple(sorted(i for other, i in enumerate(places) if other != place and i >= 0))
            if (rest, variance) not in known:
                known[rest, variance] = _add_up(fewer.weigh_place(rest, n_places, variance, log_none))
            drawn = _draw(known[rest, variance], rng)
            places[place] = drawn if drawn < len(fewer.options) else -1
        if sweep >= N_DISCARDED:
            key = tuple(sorted(i for i in places if i >= 0)), variance
            visits[key] = visits.get(key, 0) + 1
    return _average(fewer, rows, visits)


def list_parents(options: Options, chosen: Chosen) -> list[int]:
    """Return the first steps of a set, at most three."""
    return list(dict.fromkeys(step for step, _ in options.name(chosen)))[:N_PARENTS]


def _drop_negligible(options: Options, start: Chosen, variances: Sequence[float], log_none: float) -> Indices:
    """Return the options that have a share in some place of a set, the others as they are."""
    n_options, kept = len(options.options), set(start)
    for variance in variances:
        for rest in dict.fromkeys([start, *(start[:i] + start[i + 1 :] for i in range(len(start)))]):
            logs = options.weigh_place(rest, len(start) + N_SPARE, variance, log_none)
            likely = np.flatnonzero(logs[:n_options] > np.logaddexp.reduce(logs) + log(NEGLIGIBLE))
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
        own = np.linalg.inv(np.eye(len(rows)) / variance + gram.block(rows))
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


def _add_up(logs: Floats) -> Floats:
    """Return the running sums of weights, up to a factor."""
    return np.asarray(np.cumsum(np.exp(logs - logs.max())))


def _draw(edges: Floats, rng: np.random.Generator) -> int:
    """Draw one by weights that are added up."""
    return int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))
