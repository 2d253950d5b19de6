"""Steps in theta(x): a Bayesian average over which thresholds of the state, if any, effects jump at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.evidence import Solved

Floats = NDArray[np.float64]
Chosen = tuple[int, ...]  # thresholds of one model

N_THRESHOLDS = 25  # a feature, at even quantiles of its middle 80%
MAX_STEPS = 6
N_EXTENDED = 30  # best sets that one step more is tried on
GIVE_UP = 4.0  # a size whose best set is this far, in logs, below the best of all ends the search
PRIOR_MORE = 0.5  # probability that there is one step more
KEPT = 1e-4  # posterior weight below which a model is dropped


@dataclass(frozen=True)
class Steps:
    """Candidate steps: ``h_s(x)_p = 1[x_(p, feature s) > threshold s] - its mean``.

    Attributes
    ----------
    columns : ndarray of int (p, f)
        As the kernel's: the column of X that feature f is for coordinate p.
    features : ndarray of int (C,)
    thresholds : ndarray (C,)
    means : ndarray (C, p)
        Subtracted, so that a step moves no average.
    """

    columns: NDArray[np.int64]
    features: NDArray[np.int64]
    thresholds: Floats
    means: Floats

    def evaluate(self, X: Floats) -> Floats:
        """Return h (m, C, p) at states (m, d)."""
        return self._indicate(X) - self.means

    def _indicate(self, X: Floats) -> Floats:
        own = X[:, self.columns.T[self.features]]  # (m, C, p)
        return (own > self.thresholds[None, :, None]).astype(np.float64)

    def expand(self, X: Floats, R: Floats) -> Floats:
        """Return regressors (n, C, p + 1): the step of each coordinate's effect, and of the level."""
        h = self.evaluate(X)
        return np.concatenate([h * R[:, None, :], h.mean(axis=2, keepdims=True)], axis=2)


def propose_steps(X: Floats, columns: NDArray[np.int64]) -> Steps:
    """List candidate thresholds for the states (n, d)."""
    features, thresholds = [], []
    for f in range(columns.shape[1]):
        values = X[:, np.unique(columns[:, f])]
        for cut in np.unique(np.quantile(values, np.linspace(0.1, 0.9, N_THRESHOLDS))):
            features.append(f)
            thresholds.append(float(cut))
    empty = Steps(columns, np.array(features), np.array(thresholds), np.zeros((len(features), len(columns))))
    return Steps(columns, empty.features, empty.thresholds, empty._indicate(X).mean(axis=0))


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


def search_steps(gram: Gram, variance: float) -> list[tuple[Chosen, float]]:
    """Return every likely set of steps with its log posterior (prior included).

    All sets of none, one and two are scored; larger ones extend the best of the size below.
    """
    n = len(gram.vector) // gram.width
    scored: list[tuple[Chosen, float]] = [((), gram.log_evidence + np.log(1.0 - PRIOR_MORE))]
    sets: list[Chosen] = [(i,) for i in range(n)]
    best = scored[0][1]
    for size in range(1, min(MAX_STEPS, n) + 1):
        found = _score(gram, sets, variance, size, n)
        scored += found
        leading = sorted(found, key=lambda item: -item[1])[:N_EXTENDED]
        if size > 1 and leading[0][1] < best - GIVE_UP:
            break
        best = max(best, leading[0][1])
        kept = [chosen for chosen, _ in (found if size == 1 else leading)]
        sets = sorted({tuple(sorted({*chosen, i})) for chosen in kept for i in range(n) if i not in chosen})
    return scored


def solve_steps(gram: Gram, chosen: Chosen, variance: float, log_posterior: float) -> StepModel:
    """Return the posterior of the coefficients of one set of steps."""
    rows = np.array([s * gram.width + j for s in chosen for j in range(gram.width)], dtype=np.int64)
    precision = np.eye(len(rows)) / variance + gram.matrix[np.ix_(rows, rows)]
    covariance: Floats = np.asarray(np.linalg.inv(precision), dtype=np.float64)
    return StepModel(chosen, log_posterior, covariance @ gram.outcomes[rows], covariance, rows)


def _score(gram: Gram, sets: list[Chosen], variance: float, size: int, n: int) -> list[tuple[Chosen, float]]:
    """Score sets of one size in blocks: ``log p(y | set) + log prior``."""
    if not sets:
        return []
    prior = size * np.log(PRIOR_MORE) + (np.log(1.0 - PRIOR_MORE) if size < MAX_STEPS else 0.0)
    prior -= sum(np.log((n - i) / (i + 1)) for i in range(size))
    offsets = np.arange(gram.width)
    scores = []
    # A block of matrices is held at once: about 160 MB.
    n_block = max(1, 20_000_000 // (size * gram.width) ** 2)
    for start in range(0, len(sets), n_block):
        block = np.array(sets[start : start + n_block])
        rows = (block[:, :, None] * gram.width + offsets).reshape(len(block), -1)
        M = np.eye(rows.shape[1]) + variance * gram.matrix[rows[:, :, None], rows[:, None, :]]
        u = gram.vector[rows]
        pull = np.einsum("ms,ms->m", u, np.linalg.solve(M, u[:, :, None])[:, :, 0])
        scores += list(-0.5 * np.linalg.slogdet(M)[1] + 0.5 * variance * pull)
    return [(chosen, gram.log_evidence + float(score) + prior) for chosen, score in zip(sets, scores)]
