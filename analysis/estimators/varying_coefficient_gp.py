"""A varying-coefficient Gaussian process, averaged over steps that the effects may have."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.estimators.gp.evidence import Solved, cross_effects, fit_values, solve
from analysis.estimators.gp.kernel import SMOOTHNESS, Kernel, Points
from analysis.estimators.gp.search import KEPT, StepModel, list_parents, make_gram, search_steps, solve_steps
from analysis.estimators.gp.steps import Steps, nest_steps, propose_steps
from analysis.estimators.gp.units import Scale, standardise
from analysis.estimators.linear import find_own_columns, has_own_columns
from analysis.estimators.nuisances import Residuals
from analysis.roles import Roles
from causalmix.config import EstimatorConfig
from causalmix.errors import AnalysisError, nearest_name

Floats = NDArray[np.float64]

N_SEARCHED = 512  # runs that hyper-parameters are searched on; the posterior sees all
STEP_SCALES = (0.3, 1.0, 3.0)  # variance of a step, times that of the effects without steps


@dataclass(frozen=True)
class Process:
    """One set of hyper-parameters, its solution, and the step models on top of it."""

    values: Floats
    solved: Solved
    variance: float  # of a step
    projected: Floats  # (Cq, n): F' K^-1
    models: tuple[StepModel, ...]


@dataclass(frozen=True)
class Question:
    """J linear functionals: ``D_j' theta(x) + sum_u S_uj h(U_u)``, in the units of the process."""

    D: Floats  # (p, J)
    U: Floats  # (u, p)
    S: Floats  # (u, J)


class ProcessEffects(Effects):
    """Posterior of the effects under ``Y = g(x) + theta(x)' (Z - e) + h(Z) + noise``.

    Closed form given hyper-parameters, which maximise the evidence; averaged over sets of steps with their
    posterior weights, so that the covariance holds the doubt about where effects jump, if they do. Where h is
    there, theta is the slope of the whole: ``theta(x)`` and the slope of h over the runs' own mixtures.
    """

    def __init__(
        self, roles: Roles, kernel: Kernel, points: Points, scale: Scale, steps: Steps, processes: list[Process]
    ):
        super().__init__(roles.domains, roles.x_names, roles.coordinates)
        self.kernel, self.steps = kernel, steps
        self._points, self._scale, self._processes = points, scale, processes
        self._weights = roles.outcome_weights
        posterior = np.array([model.log_posterior for process in processes for model in process.models])
        share = np.exp(posterior - posterior.max())
        self._shares = share / share.sum()
        eye = np.eye(points.R.shape[1])
        no_surface = Question(eye, np.empty((0, len(eye))), np.empty((0, len(eye))))
        slope: Floats = np.asarray(np.linalg.pinv(points.Z, rcond=1e-8).T, dtype=np.float64)
        self._slopes = Question(eye, points.Z, slope) if kernel.has_surface else no_surface
        self._own = no_surface
        self._bends = [self._bend(process, self._slopes) for process in processes]
        self._answers: dict[bytes, tuple[Floats, Floats]] = {}

    def thetas(self, X: Floats) -> Floats:
        """Return theta (m, K) at ``X`` (m, d)."""
        return np.asarray(np.einsum("a,mak->mk", self._weights, self.thetas_by_outcome(X)))

    def thetas_by_outcome(self, X: Floats) -> Floats:
        """Return theta of every outcome (m, A, K) at ``X`` (m, d)."""
        return self.coordinates.lift(np.stack([self._find_slopes(x)[0] for x in X]))

    def covariances(self, X: Floats) -> Floats:
        """Return the posterior covariance (m, K, K), positive semi-definite by construction."""
        return self.coordinates.lift_covariance(np.stack([self._find_slopes(x)[1] for x in X]))

    def predict(self, x: Floats, mixtures: Floats) -> Floats:
        """Return the outcome (m,) of ``mixtures`` (m, K) at state x, up to one constant, in points."""
        slopes = self._weights @ self._answer(x, self._own)[0]
        linear = self.coordinates.transform(mixtures) @ slopes / self._scale.z
        if not self.kernel.has_surface:
            return np.asarray(linear)
        Z, bent = self._locate(mixtures), np.zeros(len(mixtures))
        shares = np.split(self._shares, np.cumsum([len(process.models) for process in self._processes])[:-1])
        for process, share in zip(self._processes, shares):
            alpha = process.solved.alpha @ self._weights
            pulls = [process.projected[m.rows].T @ (m.mean @ self._weights) for m in process.models]
            alpha = share.sum() * alpha - sum(weight * pull for weight, pull in zip(share, pulls))
            for part in np.array_split(np.arange(len(Z)), max(1, len(Z) // 10_000)):
                bent[part] += self.kernel.surface(process.values, Z[part], self._points.Z) @ alpha
        return np.asarray(linear + bent * self._scale.y)

    def gain(self, x: Floats, mixture: Floats, reference: Floats) -> tuple[float, float]:
        """Return the posterior mean and variance of the gain of ``mixture`` over ``reference`` at state x."""
        U = self._locate(np.stack([mixture, reference]))
        signs = np.array([[1.0], [-1.0]]) if self.kernel.has_surface else np.empty((0, 1))
        question = Question((U[0] - U[1])[:, None], U if self.kernel.has_surface else U[:0], signs)
        means, covariance = self._answer(x, question)
        return float(self._weights @ means[:, 0]), float(covariance[0, 0])

    def step_weights(self) -> dict[tuple[str, ...], float]:
        """Return the posterior weight of every set of steps, each step as a rule in the table's units."""
        found: dict[tuple[str, ...], float] = {}
        models = [model for process in self._processes for model in process.models]
        for model, share in zip(models, self._shares):
            key = tuple(self._name_step(s) for s in model.chosen)
            found[key] = found.get(key, 0.0) + float(share)
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _name_step(self, step: int) -> str:
        rules, steps = [], self.steps
        for f, cut, above in zip(steps.features[step], steps.thresholds[step], steps.above[step]):
            if f >= 0:
                column = steps.columns[0, f]
                shared = len(set(steps.columns[:, f].tolist())) == 1
                name = self.x_names[column] if shared else self.x_names[column].split(".", 1)[0]
                value = cut * self._scale.spread[column] + self._scale.centre[column]
                rules.append(f"{name} {'>' if above else '<='} {value:.4g}")
        return " and ".join(rules)

    def _locate(self, mixtures: Floats) -> Floats:
        """Return Z of mixtures (m, K) in the units of the process (m, p)."""
        return np.asarray((self.coordinates.transform(mixtures) - self._scale.level) / self._scale.z)

    def _find_slopes(self, x: Floats) -> tuple[Floats, Floats]:
        """Return theta of every outcome (A, p) and the covariance (p, p) of the weighted mean's, kept by state."""
        key = np.asarray(x, dtype=np.float64).tobytes()
        if key not in self._answers:
            mean, covariance = self._answer(x, self._slopes)
            self._answers[key] = mean / self._scale.z, covariance / self._scale.z**2
        return self._answers[key]

    def _answer(self, x: Floats, question: Question) -> tuple[Floats, Floats]:
        """Return the mean (A, J) of every outcome's functionals and the covariance (J, J) of the weighted mean's."""
        state = (x - self._scale.centre) / self._scale.spread
        # The slopes' part of the surface is the same at every state.
        bends = self._bends if question is self._slopes else [self._bend(each, question) for each in self._processes]
        parts = [
            part
            for process, bend in zip(self._processes, bends)
            for part in self._answer_process(process, state, question, bend)
        ]
        means, covariances = (np.stack(part) for part in zip(*parts))
        mean = np.einsum("m,maj->aj", self._shares, means)
        whole = np.einsum("a,maj->mj", self._weights, means - mean)
        covariance = np.einsum("m,mij->ij", self._shares, covariances)
        covariance += np.einsum("m,mi,mj->ij", self._shares, whole, whole)
        return mean * self._scale.y, covariance * self._scale.y**2

    def _bend(self, process: Process, question: Question) -> tuple[Floats, Floats]:
        """Return the surface's covariance of the functionals with the runs (n, J), and among themselves (J, J)."""
        n_asked = question.D.shape[1]
        if not len(question.U):
            return np.zeros((len(self._points.Z), n_asked)), np.zeros((n_asked, n_asked))
        across = self.kernel.surface(process.values, self._points.Z, question.U) @ question.S
        return across, question.S.T @ self.kernel.surface(process.values, question.U, question.U) @ question.S

    def _answer_process(
        self, process: Process, state: Floats, question: Question, bend: tuple[Floats, Floats]
    ) -> list[tuple[Floats, Floats]]:
        own, across = cross_effects(self.kernel, process.values, self._points, state)
        prior = question.D.T @ (own[:, None] * question.D) + bend[1]
        across = across @ question.D + bend[0]
        mean = (across.T @ process.solved.alpha).T  # (A, J)
        covariance = prior - across.T @ process.solved.inverse @ across
        h = self.steps.evaluate(state[None, :])[0]  # (C, p)
        width = h.shape[1] + 1
        answers = []
        for model in process.models:
            if not model.chosen:
                answers.append((mean, covariance))
                continue
            moved = -(process.projected[model.rows] @ across)  # (s, J)
            for i, row in enumerate(model.rows):
                step, j = divmod(int(row), width)
                if j < width - 1:
                    moved[i] += h[step, j] * question.D[j]
            answers.append((mean + model.mean.T @ moved, covariance + moved.T @ model.covariance @ moved))
        return answers


def fit_process(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Fit the varying-coefficient process.

    ``theta_p(x)`` is a constant, a line and a Matern process in the state, one set of hyper-parameters for all
    domains and outcomes, found by marginal likelihood; with ``steps`` also up to six jumps, averaged over.
    The nuisance mean of Z is the design's where it is known; that of Y is part of the process. With ``surface``
    the process also holds what is not linear in the coordinates, and size zero is one of its answers.

    Raises
    ------
    AnalysisError
        An unknown smoothness.

    Notes
    -----
    Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), chapters 2 and 5; Hastie and
    Tibshirani, "Varying-coefficient models", JRSS B 55 (1993); Hoeting et al., "Bayesian model averaging",
    Statistical Science 14 (1999).
    """
    if cfg.smoothness not in SMOOTHNESS:
        raise AnalysisError(
            f"estimator.smoothness={cfg.smoothness}{nearest_name(cfg.smoothness, SMOOTHNESS)}; "
            f"allowed: {', '.join(SMOOTHNESS)}."
        )
    points, outcomes, scale = standardise(roles, residuals)
    columns = _choose_columns(roles, points.R.shape[1])
    kernel = Kernel(columns, cfg.smoothness, cfg.surface)
    y = outcomes @ roles.outcome_weights
    rows = _choose_rows(len(y), seed)
    searched = points.take(rows)
    steps = propose_steps(points.X, columns)
    smooth = _build(kernel, points, outcomes, y, steps, fit_values(kernel, searched, y[rows], cfg.max_search), cfg)
    processes = [smooth]
    best = max(smooth.models, key=lambda model: model.log_posterior)
    if best.chosen:
        # Without steps the smooth part had to stand in for them: look for its own size beside the best ones.
        F = steps.expand(searched.X, searched.R)[:, list(best.chosen)].reshape(len(rows), -1)
        values = fit_values(kernel, searched, y[rows], cfg.max_search, extra=smooth.variance * (F @ F.T))
        steps = nest_steps(points.X, steps, list_parents([(m.chosen, m.log_posterior) for m in smooth.models]))
        found = [(smooth.values, smooth.variance), (values, smooth.variance)]
        processes = [_build(kernel, points, outcomes, y, steps, at, cfg, variance) for at, variance in found]
    return ProcessEffects(roles, kernel, points, scale, steps, _drop_unlikely(processes))


def _build(
    kernel: Kernel,
    points: Points,
    outcomes: Floats,
    y: Floats,
    steps: Steps,
    values: Floats,
    cfg: EstimatorConfig,
    variance: float | None = None,
) -> Process:
    solved = solve(kernel.covariance(values, points), outcomes, y)
    if not cfg.steps:
        none = np.empty((0, outcomes.shape[1]))
        smooth = (StepModel((), solved.log_evidence, none, np.empty((0, 0)), np.empty(0, dtype=np.int64)),)
        return Process(values, solved, 0.0, np.empty((0, len(y))), smooth)
    expanded = steps.expand(points.X, points.R)
    gram = make_gram(expanded, solved, y)
    scale = float(np.exp(2 * values[1:4]).sum())
    tried = [variance] if variance is not None else [scale * factor for factor in STEP_SCALES]
    searches = [(v, search_steps(gram, v, steps.n_simple)) for v in tried]
    step_variance, found = max(searches, key=lambda item: max(score for _, score in item[1]))
    top = max(score for _, score in found)
    kept = [(chosen, score) for chosen, score in found if score > top + np.log(KEPT)]
    models = tuple(solve_steps(gram, chosen, step_variance, score) for chosen, score in kept)
    projected = expanded.reshape(len(y), -1).T @ solved.inverse
    return Process(values, solved, step_variance, projected, models)


def _drop_unlikely(processes: list[Process]) -> list[Process]:
    top = max(model.log_posterior for process in processes for model in process.models)
    likely = [[model for model in process.models if model.log_posterior > top + np.log(KEPT)] for process in processes]
    return [dataclasses.replace(process, models=tuple(kept)) for process, kept in zip(processes, likely) if kept]


def _choose_columns(roles: Roles, n_coordinates: int) -> NDArray[np.int64]:
    """Let a domain's effect see its own state where X holds all of it, else the whole of X."""
    if roles.coordinates.name == "log" and has_own_columns(roles):
        return find_own_columns(roles)
    return np.tile(np.arange(roles.X.shape[1]), (n_coordinates, 1))


def _choose_rows(n: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng([seed, 41]).permutation(n)[:N_SEARCHED])
