"""The processes that an answer is averaged over: effects constant, linear or curved in the state, all with steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.gp.climb import Evidence
from analysis.estimators.gp.common import Common
from analysis.estimators.gp.evidence import Solved, solve
from analysis.estimators.gp.kernel import Kernel, Points
from analysis.estimators.gp.options import Chosen, Name, Options, list_options, make_gram
from analysis.estimators.gp.search import StepPosterior, draw_steps, find_steps, list_parents, no_steps
from analysis.estimators.gp.steps import Steps, nest_steps, polish_steps, propose_steps, refine_steps
from causalmix.config import EstimatorConfig

Floats = NDArray[np.float64]

N_SEARCHED = 512  # runs that hyper-parameters are searched on; the posterior sees all
N_SIZED = 256  # runs that say how large effects are, before there is a part that they share
N_REFITTED = 12  # steps of a search that begins at hyper-parameters found before
COLD = (0.0,) * 3  # rounds of hyper-parameters given steps, and steps given hyper-parameters
WARM = (8.0, 4.0, *COLD)  # the same, where steps are given credit first: nats each
STEP_SCALES = (0.3, 1.0, 3.0)  # variance of a step, times that of the effects without steps
LINEAR_PART, SMOOTH_PART = 2, 3  # which hyper-parameters are log s_l and log s_v
ABSENT = -14.0  # their value where effects have no such part
SIZES = np.linspace(-2.4, 2.4, 7)  # of a part, in prior sds: its evidence is averaged over them
KEPT = 0.01  # posterior weight below which constant, linear, or curved effects are dropped
LOG_NONE = float(np.log(10.0))  # given to effects that depend on no state: half of the prior then goes to them
HOPELESS = 20.0  # nats that effects without a line lie behind: not worth a search from there


@dataclass(frozen=True)
class Runs:
    """The runs in the units of the process; ``y`` (n,) is the weighted mean of the outcomes (n, A).

    Outcomes are less the mean of what all effects have in common.
    """

    points: Points
    outcomes: Floats
    y: Floats
    searched: NDArray[np.int64]
    common: Common

    def share(self, size: float) -> Runs:
        """Let the effects have a part of this size in common."""
        common = replace(self.common, size=size)
        moved = common.mean - self.common.mean
        return replace(self, outcomes=self.outcomes - moved[:, None], y=self.y - moved, common=common)


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
class _Guess:
    """Steps that are there, the variance of one, and what they add to the covariance of the searched runs."""

    steps: Steps
    found: tuple[Name, ...] = ()
    size: float | None = None
    extra: Floats | None = None
    log_prior: float = 0.0
    is_polished: bool = False


@dataclass(frozen=True)
class _Track:
    """Hyper-parameters with the steps that suit them best."""

    values: Floats
    log_posterior: float
    guess: _Guess
    solved: Solved
    options: Options | None

    @property
    def log_none(self) -> float:
        """What the prior gives a set of no step on its account: without a line, nothing depends on the state."""
        return LOG_NONE if self.values[LINEAR_PART] == ABSENT else 0.0


def fit_processes(kernel: Kernel, runs: Runs, cfg: EstimatorConfig, seed: int) -> tuple[list[Process], Common]:
    """Fit effects that are constant but for steps, linear, or curved in the state; keep what the runs speak for.

    A third of the prior goes to each, but half of it to effects that depend on no state, without line or step. The
    evidence of a line, or of a curve, is averaged over its size. Effects have a part in common as large as they are.
    """
    start = None
    if runs.common.pulls.any():
        some = replace(runs, searched=runs.searched[:: -(-len(runs.searched) // N_SIZED)])
        start = _Search(kernel, some, cfg).fit()
        runs = runs.share(float(np.sqrt(np.exp(2 * start[1:4]).sum())))
    search = _Search(kernel, runs, cfg)
    curved = search.fit(start)
    straight = curved.copy()
    straight[SMOOTH_PART] = ABSENT
    straight = search.fit(straight, fixed=(SMOOTH_PART,))
    sizes = [float(np.exp(2 * curved[1:4]).sum()) * factor for factor in STEP_SCALES]
    none = _Guess(propose_steps(runs.points.X, kernel.columns))
    line = search.follow(straight, none, sizes, (SMOOTH_PART,))
    tracks = {"line": line, "curve": search.follow(curved, none, sizes)}
    if line.guess.found != tracks["curve"].guess.found:
        # A curve can stand in for steps: look for one beside the steps that were found without it.
        _compare(tracks, "curve", search.add(line, curved, (SMOOTH_PART, *kernel.lengths), sizes))
    flat = search.flatten(line)
    if flat is not None:
        tracks["flat"] = flat
    if any(track.guess.found for track in tracks.values()):
        # So can a line, and noise: begin without it, with more steps than the runs seem to speak for.
        flat = search.start_flat(straight, none, sizes)
        if flat.log_posterior > max(track.log_posterior for track in tracks.values()) - HOPELESS:
            line = search.add(flat, straight, (LINEAR_PART,), sizes, (SMOOTH_PART,))
            _compare(tracks, "line", line)
            _compare(tracks, "curve", search.add(line, curved, (SMOOTH_PART, *kernel.lengths), sizes))
            _compare(tracks, "flat", flat)
    return _average(runs, list(tracks.values()), sizes, seed), runs.common


def _compare(tracks: dict[str, _Track], kind: str, other: _Track) -> None:
    """Put another track where it is the likelier one of its kind, or the first."""
    if kind not in tracks or other.log_posterior > tracks[kind].log_posterior:
        tracks[kind] = other


def _average(runs: Runs, tracks: list[_Track], sizes: list[float], seed: int) -> list[Process]:
    """Weigh the tracks, and draw the steps of those that count."""
    logs = np.array([track.log_posterior + (0.0 if track.guess.found else track.log_none) for track in tracks])
    shares = np.exp(logs - np.logaddexp.reduce(logs))
    shares = np.where(shares > KEPT, shares, 0.0) / shares[shares > KEPT].sum()
    return [_finish(runs, track, float(share), sizes, seed) for track, share in zip(tracks, shares) if share > 0]


class _Search:
    """The search for hyper-parameters, on the runs that it may see, and for steps, on all."""

    def __init__(self, kernel: Kernel, runs: Runs, cfg: EstimatorConfig):
        self.kernel, self.runs, self.cfg = kernel, runs, cfg
        self.points = runs.points.take(runs.searched)
        self.common = runs.common.covariance()
        some = np.ix_(runs.searched, runs.searched)
        self.evidence = Evidence(kernel, self.points, runs.y[runs.searched], self.common[some])
        self.laid_out: tuple[Steps, Floats] | None = None  # regressors of the steps last asked for

    def fit(self, start: Floats | None = None, extra: Floats | None = None, fixed: tuple[int, ...] = ()) -> Floats:
        """Return hyper-parameters, found from others by fewer steps."""
        most = self.cfg.max_search if start is None else min(self.cfg.max_search, N_REFITTED)
        return self.evidence.maximise(most, extra, start, fixed)

    def follow(
        self,
        values: Floats,
        guess: _Guess,
        sizes: list[float],
        fixed: tuple[int, ...] = (),
        credits: tuple[float, ...] = COLD,
    ) -> _Track:
        """Alternate between the steps and the hyper-parameters that suit each other until the steps stay."""
        for credit in (*credits, None):
            solved = self._solve(values)
            options = self._list_options(guess.steps, solved) if self.cfg.steps else None
            if options is None or credit is None:
                break
            tried = [guess.size] if guess.size and not credit else sizes
            found, size = find_steps(options, tried, options.locate(guess.found), credit)
            if not credit and options.name(found) == guess.found and (guess.is_polished or not found):
                break
            guess = self._cover(guess, options, found, size, is_early=credit > 0)
            # Without steps the rest had to stand in for them: look for its own size beside them.
            values = self.fit(values, guess.extra, fixed)
        return _Track(values, self._weigh(values, guess.extra, fixed) + guess.log_prior, guess, solved, options)

    def start_flat(self, straight: Floats, none: _Guess, sizes: list[float]) -> _Track:
        """Return effects constant but for steps, each of which has credit first.

        One of many steps explains little: the others are noise beside it, until they are there as well.
        """
        fixed = (LINEAR_PART, SMOOTH_PART)
        values = straight.copy()
        values[list(fixed)] = ABSENT
        return self.follow(self.fit(values, fixed=fixed), none, sizes, fixed, WARM)

    def add(
        self, track: _Track, other: Floats, parts: tuple[int, ...], sizes: list[float], fixed: tuple[int, ...] = ()
    ) -> _Track:
        """Look for a line or a curve, from where it was without steps, beside the steps of a track."""
        values = track.values.copy()
        values[list(parts)] = other[list(parts)]
        return self.follow(self.fit(values, track.guess.extra, fixed), track.guess, sizes, fixed)

    def flatten(self, track: _Track) -> _Track | None:
        """Take the line out of effects, and keep their steps; nothing where that is hopeless."""
        values, guess, fixed = track.values.copy(), track.guess, (LINEAR_PART, SMOOTH_PART)
        values[LINEAR_PART] = ABSENT
        if self._weigh(values, guess.extra, fixed) + guess.log_prior < track.log_posterior - HOPELESS:
            return None
        values = self.fit(values, guess.extra, fixed)
        solved = self._solve(values)
        options = self._list_options(guess.steps, solved) if self.cfg.steps else None
        return _Track(values, self._weigh(values, guess.extra, fixed) + guess.log_prior, guess, solved, options)

    def _solve(self, values: Floats) -> Solved:
        if len(self.points.X) == len(self.runs.y):
            inverse, log_evidence = self.evidence.invert(values)
            return Solved(inverse, inverse @ self.runs.outcomes, log_evidence)
        K = self.kernel.covariance(values, self.runs.points) + self.common
        return solve(K, self.runs.outcomes, self.runs.y)

    def _list_options(self, steps: Steps, solved: Solved) -> Options:
        if self.laid_out is None or self.laid_out[0] is not steps:
            # Coefficients stand together in memory: options gather theirs.
            self.laid_out = steps, np.asfortranarray(steps.expand(self.runs.points).reshape(len(self.runs.y), -1))
        gram = make_gram(self.laid_out[1], solved, self.runs.y)
        # Where every effect sees its own state, a threshold is one in all of them.
        return list_options(gram, self.points.Z.shape[1] + 1, steps.n_simple, single=self.kernel.is_shared)

    def _cover(self, guess: _Guess, options: Options, found: Chosen, size: float, *, is_early: bool) -> _Guess:
        """Return what some steps add to the covariance; around those first found, and found next, more are proposed.

        Where it is early, and too many were found, not yet.
        """
        steps, every = guess.steps, sorted({step for step, _ in options.name(found)})
        F = steps.expand(self.points).reshape(len(self.points.X), -1)[:, options.gather(found)]
        X, is_first = self.runs.points.X, len(steps.features) == steps.n_simple
        if is_first and not is_early:
            steps = nest_steps(X, refine_steps(X, steps, every), list_parents(options, found))
        elif not is_first and not guess.is_polished:
            steps = polish_steps(X, steps, every)
        extra, log_prior = size * (F @ F.T), options.weigh_prior(found)
        return _Guess(steps, options.name(found), size, extra, log_prior, is_polished=not is_first)

    def _weigh(self, values: Floats, extra: Floats | None, fixed: tuple[int, ...]) -> float:
        """Return the log evidence, averaged over the size of the line or curve where there is one."""
        part = LINEAR_PART if SMOOTH_PART in fixed else SMOOTH_PART
        if part in fixed:
            return self.evidence.score(values, extra)
        sizes = self.kernel.start()[part] + self.kernel.prior_sd()[part] * SIZES
        logs = self.evidence.score_scales(values, part, sizes, extra) - 0.5 * SIZES**2
        return float(np.logaddexp.reduce(logs) - np.logaddexp.reduce(-0.5 * SIZES**2))


def _finish(runs: Runs, track: _Track, share: float, sizes: list[float], seed: int) -> Process:
    """Draw sets of steps from their posterior."""
    if track.options is None:
        projected, jumps = np.empty((0, len(runs.y))), no_steps(runs.outcomes.shape[1])
    else:
        jumps = draw_steps(track.options, track.options.locate(track.guess.found), sizes, seed, track.log_none)
        projected = track.options.gram.half[:, jumps.rows].T
    return Process(track.values, share, track.solved, track.guess.steps, jumps, projected)
