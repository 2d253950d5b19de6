"""The processes that an answer is averaged over: effects linear in the state, or curved, with the steps of either."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.evidence import Solved, fit_values, score, solve
from analysis.estimators.gp.kernel import Kernel, Points
from analysis.estimators.gp.search import (
    Name,
    Options,
    StepPosterior,
    draw_steps,
    find_steps,
    list_options,
    list_parents,
    make_gram,
    no_steps,
)
from analysis.estimators.gp.steps import Steps, nest_steps, propose_steps, refine_steps
from causalmix.config import EstimatorConfig

Floats = NDArray[np.float64]

N_SEARCHED = 512  # runs that hyper-parameters are searched on; the posterior sees all
N_ROUNDS = 3  # of hyper-parameters given steps, and steps given hyper-parameters
STEP_SCALES = (0.3, 1.0, 3.0)  # variance of a step, times that of the effects without steps
SMOOTH_PART = 3  # which hyper-parameter is log s_v
NO_SMOOTH_PART = -14.0  # its value where effects are linear but for steps
SIZES = np.linspace(-2.5, 2.5, 11)  # of the smooth part, in prior sds: its evidence is averaged over them
KEPT = 0.01  # posterior weight below which linear, or curved, effects are dropped


@dataclass(frozen=True)
class Runs:
    """The runs in the units of the process; ``y`` (n,) is the weighted mean of the outcomes (n, A)."""

    points: Points
    outcomes: Floats
    y: Floats
    searched: NDArray[np.int64]


@dataclass(frozen=True)
class Process:
    """One set of hyper-parameters, its solution, and the steps on top of it.

    Attributes
    ----------
    values : ndarray (size,)
        Of the kernel.
    share : float
        Posterior weight.
    solved : Solved
    steps : Steps
        Candidate regions.
    jumps : StepPosterior
        Which of them there are, and by how much.
    projected : ndarray (s, n)
        ``F' K^-1`` of the coefficients of the jumps.
    """

    values: Floats
    share: float
    solved: Solved
    steps: Steps
    jumps: StepPosterior
    projected: Floats


@dataclass(frozen=True)
class _Track:
    """Hyper-parameters with the steps that suit them best."""

    values: Floats
    log_posterior: float
    steps: Steps
    found: tuple[Name, ...]
    extra: Floats | None
    prior: float


def fit_processes(kernel: Kernel, runs: Runs, cfg: EstimatorConfig, seed: int) -> list[Process]:
    """Fit effects that are curved in the state and effects that are linear in it; keep what the runs speak for.

    Half of the prior goes to either. The evidence of a curve is averaged over its size.
    """
    search = _Search(kernel, runs, cfg.max_search)
    curved = search.fit()
    sizes = [float(np.exp(2 * curved[1:4]).sum()) * factor for factor in STEP_SCALES]
    straight = curved.copy()
    straight[SMOOTH_PART] = NO_SMOOTH_PART
    straight = search.fit(straight, fixed=(SMOOTH_PART,))
    flat = _follow(search, straight, (SMOOTH_PART,), sizes, cfg)
    tracks = [flat, _follow(search, curved, (), sizes, cfg)]
    if flat.found:
        # A curve can stand in for steps, and steps for a curve: look from the other side too.
        bent = flat.values.copy()
        bent[[SMOOTH_PART, *kernel.lengths]] = curved[[SMOOTH_PART, *kernel.lengths]]
        again = _follow(search, bent, (), sizes, cfg, flat)
        tracks = [flat, max(tracks[1], again, key=lambda track: track.log_posterior)]
    logs = np.array([track.log_posterior for track in tracks])
    shares = np.exp(logs - np.logaddexp.reduce(logs))
    shares = np.where(shares > KEPT, shares, 0.0) / shares[shares > KEPT].sum()
    return [
        _finish(kernel, runs, cfg, track, float(share), sizes, seed)
        for track, share in zip(tracks, shares)
        if share > 0
    ]


class _Search:
    """The search for hyper-parameters, on the runs that it may see."""

    def __init__(self, kernel: Kernel, runs: Runs, max_search: int):
        self.kernel, self.runs, self.max_search = kernel, runs, max_search
        self.points, self.y = runs.points.take(runs.searched), runs.y[runs.searched]

    def fit(self, start: Floats | None = None, extra: Floats | None = None, fixed: tuple[int, ...] = ()) -> Floats:
        return fit_values(self.kernel, self.points, self.y, self.max_search, extra, start, fixed)

    def cover(self, steps: Steps, rows: NDArray[np.int64], size: float) -> Floats:
        """Return the covariance of some coefficients of steps (m, m)."""
        F = steps.expand(self.points.X, self.points.R).reshape(len(self.y), -1)[:, rows]
        return np.asarray(size * (F @ F.T))

    def weigh(self, values: Floats, extra: Floats | None, fixed: tuple[int, ...]) -> float:
        """Return the log evidence, averaged over the size of the curve where there is one."""
        tried = [values]
        weights = np.zeros(1)
        if not fixed:
            tried = [values.copy() for _ in SIZES]
            for at, strayed in zip(tried, SIZES):
                at[SMOOTH_PART] = self.kernel.start()[SMOOTH_PART] + self.kernel.prior_sd()[SMOOTH_PART] * strayed
            weights = -0.5 * SIZES**2 - np.logaddexp.reduce(-0.5 * SIZES**2)
        K = [self.kernel.covariance(at, self.points) for at in tried]
        logs = [score(each if extra is None else each + extra, self.y) for each in K]
        return float(np.logaddexp.reduce(weights + logs))


def _follow(
    search: _Search,
    values: Floats,
    fixed: tuple[int, ...],
    sizes: list[float],
    cfg: EstimatorConfig,
    known: _Track | None = None,
) -> _Track:
    """Alternate between the steps and the hyper-parameters that suit each other until the steps stay."""
    kernel, runs = search.kernel, search.runs
    steps = known.steps if known else propose_steps(runs.points.X, kernel.columns)
    held: tuple[Name, ...] = known.found if known else ()
    extra, prior = (known.extra, known.prior) if known else (None, 0.0)
    if known:
        values = search.fit(values, extra, fixed)
    for _ in range(N_ROUNDS if cfg.steps else 0):
        options = _list_options(kernel, runs, steps, _solve(kernel, runs, values))
        found, size = find_steps(options, sizes)
        if options.name(found) == held:
            break
        held, prior = options.name(found), options.weigh_prior(found)
        # Without steps the rest had to stand in for them: look for its own size beside them.
        extra = search.cover(steps, options.gather(found), size)
        values = search.fit(values, extra, fixed)
        if len(steps.features) == steps.n_simple:
            every = sorted({step for step, _ in held})
            steps = nest_steps(runs.points.X, refine_steps(runs.points.X, steps, every), list_parents(options, found))
    return _Track(values, search.weigh(values, extra, fixed) + prior, steps, held, extra, prior)


def _list_options(kernel: Kernel, runs: Runs, steps: Steps, solved: Solved) -> Options:
    expanded = steps.expand(runs.points.X, runs.points.R)
    # Where every effect sees its own state, a threshold is one in all of them.
    return list_options(make_gram(expanded, solved, runs.y), expanded.shape[2], steps.n_simple, single=kernel.is_shared)


def _solve(kernel: Kernel, runs: Runs, values: Floats) -> Solved:
    return solve(kernel.covariance(values, runs.points), runs.outcomes, runs.y)


def _finish(
    kernel: Kernel, runs: Runs, cfg: EstimatorConfig, track: _Track, share: float, sizes: list[float], seed: int
) -> Process:
    """Solve for all runs, and draw sets of steps."""
    solved = _solve(kernel, runs, track.values)
    if not cfg.steps:
        jumps = no_steps(runs.outcomes.shape[1])
        return Process(track.values, share, solved, track.steps, jumps, np.empty((0, len(runs.y))))
    options = _list_options(kernel, runs, track.steps, solved)
    jumps = draw_steps(options, find_steps(options, sizes)[0], sizes, seed)
    return Process(track.values, share, solved, track.steps, jumps, options.gram.half[:, jumps.rows].T)
