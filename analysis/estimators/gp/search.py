"""Which sets of steps the runs speak for: exact marginal likelihoods on top of a solved process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, log

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.evidence import Solved

Floats = NDArray[np.float64]
Chosen = tuple[int, ...]  # candidates of one model

MAX_STEPS = 6
MOST_COEFFICIENTS = 96  # of one set: with many domains a step is many coefficients
N_EXTENDED = 30  # best sets that one step more is tried on
N_PARENTS = 3  # steps that others are nested in
GIVE_UP = 4.0  # a size whose best set is this far, in logs, below the best of all ends the search
PRIOR_MORE = 0.5  # probability that there is one step more
KEPT = 1e-4  # posterior weight below which a model is dropped


@dataclass(frozen=True)
class StepModel:
    """One set of steps on top of a solved process.

    Attributes
    ----------
    chosen : tuple of int
        Candidates; none is the smooth process itself.
    log_posterior : float
        Up to one constant.
    mean : ndarray (s, A), covariance : ndarray (s, s)
        Posterior of the steps' coefficients, in the order of ``rows``.
    rows : ndarray of int (s,)
        Positions of the coefficients among all C (p + 1).
    """

    chosen: Chosen
    log_posterior: float
    mean: Floats
    covariance: Floats
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Gram:
    """What every set of steps needs of the runs: ``F' K^-1 F`` (Cq, Cq) and ``F' K^-1 y`` (Cq,)."""

    matrix: Floats
    vector: Floats
    outcomes: Floats  # (Cq, A)
    log_evidence: float
    width: int  # q = p + 1 coefficients a step


def make_gram(expanded: Floats, solved: Solved, y: Floats) -> Gram:
    """Project the expanded steps (n, C, q) on a solved process; ``y`` (n,) is the weighted mean outcome."""
    F = expanded.reshape(len(expanded), -1)
    half = solved.inverse @ F
    return Gram(F.T @ half, half.T @ y, F.T @ solved.alpha, solved.log_evidence, expanded.shape[2])


def search_steps(gram: Gram, variance: float, n_simple: int) -> list[tuple[Chosen, float]]:
    """Return every likely set of steps with its log posterior (prior included).

    All sets of none, one and two simple steps are scored; larger ones extend the best of the size below. Where
    there are nested steps, the best of all these are then extended by them.
    """
    n = len(gram.vector) // gram.width
    counts = (n_simple, n - n_simple)
    n_most = max(1, min(MAX_STEPS, n_simple, MOST_COEFFICIENTS // gram.width))
    scored: list[tuple[Chosen, float]] = [((), gram.log_evidence + log(1.0 - PRIOR_MORE))]
    sets: list[Chosen] = [(i,) for i in range(n_simple)]
    best = scored[0][1]
    for size in range(1, n_most + 1):
        found = _score(gram, sets, variance, counts)
        scored += found
        leading = _lead(found)
        if size > 1 and leading[0][1] < best - GIVE_UP:
            break
        best = max(best, leading[0][1])
        sets = _extend([chosen for chosen, _ in (found if size == 1 else leading)], range(n_simple))
    leading = _lead(scored)
    while n > n_simple:
        grown = _extend([chosen for chosen, _ in leading if len(chosen) < n_most], range(n_simple, n))
        found = _score(gram, [chosen for chosen in grown if chosen], variance, counts)
        scored += found
        leading = _lead(found)
        if not leading or leading[0][1] <= best:
            break
        best = leading[0][1]
    return list(dict(scored).items())


def list_parents(found: Sequence[tuple[Chosen, float]]) -> list[int]:
    """Return the steps that the posterior is most sure of, at most three."""
    top = max(score for _, score in found)
    weight: dict[int, float] = {}
    for chosen, score in found:
        for step in chosen:
            weight[step] = weight.get(step, 0.0) + float(np.exp(score - top))
    return sorted(weight, key=lambda step: -weight[step])[:N_PARENTS]


def solve_steps(gram: Gram, chosen: Chosen, variance: float, log_posterior: float) -> StepModel:
    """Return the posterior of the coefficients of one set of steps."""
    rows = np.array([s * gram.width + j for s in chosen for j in range(gram.width)], dtype=np.int64)
    precision = np.eye(len(rows)) / variance + gram.matrix[np.ix_(rows, rows)]
    covariance: Floats = np.asarray(np.linalg.inv(precision), dtype=np.float64)
    return StepModel(chosen, log_posterior, covariance @ gram.outcomes[rows], covariance, rows)


def _lead(found: list[tuple[Chosen, float]]) -> list[tuple[Chosen, float]]:
    return sorted(found, key=lambda item: -item[1])[:N_EXTENDED]


def _extend(sets: Sequence[Chosen], candidates: range) -> list[Chosen]:
    return sorted({tuple(sorted({*chosen, i})) for chosen in sets for i in candidates if i not in chosen})


def _prior(chosen: Chosen, counts: tuple[int, int]) -> float:
    """Return the log prior of a set: its size, how many of it are nested, and evenly among those."""
    size, n_nested = len(chosen), sum(step >= counts[0] for step in chosen)
    prior = size * log(PRIOR_MORE) + (log(1.0 - PRIOR_MORE) if size < MAX_STEPS else 0.0)
    if counts[1]:
        prior += log(comb(size, n_nested)) - size * log(2.0) - log(comb(counts[1], n_nested))
    return prior - log(comb(counts[0], size - n_nested))


def _score(gram: Gram, sets: list[Chosen], variance: float, counts: tuple[int, int]) -> list[tuple[Chosen, float]]:
    """Score sets in blocks of one size: ``log p(y | set) + log prior``."""
    offsets, scored = np.arange(gram.width), []
    for size in sorted({len(chosen) for chosen in sets}):
        alike = [chosen for chosen in sets if len(chosen) == size]
        # A block of matrices is held at once: about 160 MB.
        n_block = max(1, 20_000_000 // (size * gram.width) ** 2)
        for start in range(0, len(alike), n_block):
            block = np.array(alike[start : start + n_block])
            rows = (block[:, :, None] * gram.width + offsets).reshape(len(block), -1)
            M = np.eye(rows.shape[1]) + variance * gram.matrix[rows[:, :, None], rows[:, None, :]]
            u = gram.vector[rows]
            pull = np.einsum("ms,ms->m", u, np.linalg.solve(M, u[:, :, None])[:, :, 0])
            values = -0.5 * np.linalg.slogdet(M)[1] + 0.5 * variance * pull
            scored += list(zip(alike[start : start + n_block], values.tolist()))
    return [(chosen, gram.log_evidence + value + _prior(chosen, counts)) for chosen, value in scored]
