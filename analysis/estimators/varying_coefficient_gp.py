"""A varying-coefficient Gaussian process, averaged over steps that the effects may have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.estimators.gp.common import Common
from analysis.estimators.gp.evidence import cross_effects, predict_effects
from analysis.estimators.gp.kernel import SMOOTHNESS, Kernel, Points
from analysis.estimators.gp.processes import N_SEARCHED, Process, Runs, fit_processes
from analysis.estimators.gp.steps import Steps
from analysis.estimators.gp.units import Scale, standardise
from analysis.estimators.linear import find_own_columns, has_own_columns
from analysis.estimators.nuisances import Residuals
from analysis.roles import Roles
from causalmix.config import EstimatorConfig
from causalmix.errors import AnalysisError, nearest_name

Floats = NDArray[np.float64]

STATES_AT_ONCE = 1000


@dataclass(frozen=True)
class Question:
    """J linear functionals: ``D_j' theta(x) + sum_u S_uj h(U_u)``, in the units of the process."""

    D: Floats  # (p, J)
    U: Floats  # (u, p)
    S: Floats  # (u, J)


class ProcessEffects(Effects):
    """Posterior of the effects under ``Y = g(x) + theta(x)' (Z - e) + h(Z) + noise``.

    Closed form given hyper-parameters, which maximise the evidence; averaged over sets of steps drawn from their
    posterior, so that the covariance holds the doubt about where effects jump, if they do. Where h is
    there, theta is the slope of the whole: ``theta(x)`` and the slope of h over the runs' own mixtures.
    """

    def __init__(
        self, roles: Roles, kernel: Kernel, points: Points, scale: Scale, processes: list[Process], common: Common
    ):
        super().__init__(roles.domains, roles.x_names, roles.coordinates)
        self.kernel, self.common = kernel, common
        self.points, self.scale, self.processes = points, scale, processes
        self.weights = roles.outcome_weights
        eye = np.eye(points.R.shape[1])
        no_surface = Question(eye, np.empty((0, len(eye))), np.empty((0, len(eye))))
        slope: Floats = np.asarray(np.linalg.pinv(points.Z, rcond=1e-8).T, dtype=np.float64)
        self.slopes = Question(eye, points.Z, slope) if kernel.has_surface else no_surface
        self._own = no_surface
        self._bends = [self._bend(process, self.slopes) for process in processes]
        self._covariances: dict[bytes, Floats] = {}
        self._slopes: dict[bytes, Floats] = {}  # of every outcome (A, p) beside the surface, by state

    def thetas(self, X: Floats) -> Floats:
        """Return theta (m, K) at ``X`` (m, d)."""
        return np.asarray(np.einsum("a,mak->mk", self.weights, self.thetas_by_outcome(X)))

    def thetas_by_outcome(self, X: Floats) -> Floats:
        """Return theta of every outcome (m, A, K) at ``X`` (m, d)."""
        parts = np.array_split(X, max(1, len(X) // STATES_AT_ONCE))
        return self.coordinates.lift(np.concatenate([self._find_means(part) for part in parts]))

    def covariances(self, X: Floats) -> Floats:
        """Return the posterior covariance (m, K, K), positive semi-definite by construction."""
        return self.coordinates.lift_covariance(np.stack([self._find_covariance(x) for x in X]))

    def predict(self, x: Floats, mixtures: Floats) -> Floats:
        """Return the outcome (m,) of ``mixtures`` (m, K) at state x, up to one constant, in points."""
        return np.asarray(self.predict_by_outcome(x, mixtures) @ self.weights)

    def predict_by_outcome(self, x: Floats, mixtures: Floats) -> Floats:
        """Return every outcome (m, A) of ``mixtures`` (m, K) at state x, up to constants; the surface included."""
        key = np.asarray(x, dtype=np.float64).tobytes()
        if key not in self._slopes:
            self._slopes[key] = self._answer(x, self._own)[0]
        linear = self.coordinates.transform(mixtures) @ self._slopes[key].T / self.scale.z
        if not self.kernel.has_surface:
            return np.asarray(linear)
        Z, bent = self._locate(mixtures), np.zeros((len(mixtures), len(self.weights)))
        for process in self.processes:
            alpha = process.share * (process.solved.alpha - process.projected.T @ process.jumps.mean)
            for part in np.array_split(np.arange(len(Z)), max(1, len(Z) // 10_000)):
                bent[part] += self.kernel.surface(process.values, Z[part], self.points.Z) @ alpha
        return np.asarray(linear + bent * self.scale.y)

    def gain(self, x: Floats, mixture: Floats, reference: Floats) -> tuple[float, float]:
        """Return the posterior mean and variance of the gain of ``mixture`` over ``reference`` at state x."""
        U = self._locate(np.stack([mixture, reference]))
        signs = np.array([[1.0], [-1.0]]) if self.kernel.has_surface else np.empty((0, 1))
        question = Question((U[0] - U[1])[:, None], U if self.kernel.has_surface else U[:0], signs)
        means, covariance = self._answer(x, question)
        return float(self.weights @ means[:, 0]), float(covariance[0, 0])

    def step_weights(self) -> dict[tuple[str, ...], float]:
        """Return the posterior weight of every set of steps, each step as a rule in the table's units."""
        found: dict[tuple[str, ...], float] = {}
        for process in self.processes:
            for chosen, weight in process.jumps.weights.items():
                key = tuple(self._name_step(process.steps, *step) for step in chosen)
                found[key] = found.get(key, 0.0) + process.share * weight
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _name_step(self, steps: Steps, step: int, coordinate: int | None) -> str:
        rules = []
        for f, cut, above in zip(steps.features[step], steps.thresholds[step], steps.above[step]):
            if f >= 0:
                column = steps.columns[0, f]
                shared = len(set(steps.columns[:, f].tolist())) == 1
                name = self.x_names[column] if shared else self.x_names[column].split(".", 1)[0]
                value = cut * self.scale.spread[column] + self.scale.centre[column]
                rules.append(f"{name} {'>' if above else '<='} {value:.4g}")
        moved = "" if coordinate is None else f"coordinate {coordinate}: "
        return moved + " and ".join(rules)

    def _locate(self, mixtures: Floats) -> Floats:
        """Return Z of mixtures (m, K) in the units of the process (m, p)."""
        return np.asarray((self.coordinates.transform(mixtures) - self.scale.level) / self.scale.z)

    def _find_covariance(self, x: Floats) -> Floats:
        """Return the covariance (p, p) of the weighted mean's theta, kept by state."""
        key = np.asarray(x, dtype=np.float64).tobytes()
        if key not in self._covariances:
            self._covariances[key] = self._answer(x, self.slopes)[1] / self.scale.z**2
        return self._covariances[key]

    def _find_means(self, X: Floats) -> Floats:
        """Return theta of every outcome (m, A, p) at states (m, d): the means of :meth:`_answer`, of all at once."""
        states = (X - self.scale.centre) / self.scale.spread
        means = np.zeros((len(X), len(self.weights), self.points.R.shape[1]))
        for process, bend in zip(self.processes, self._bends):
            alpha = process.solved.alpha - process.projected.T @ process.jumps.mean  # (n, A), beside the jumps
            mean = predict_effects(self.kernel, process.values, self.points, alpha, states) + alpha.T @ bend[0]
            step, j = np.divmod(process.jumps.rows, means.shape[2] + 1)
            of_effect = j < means.shape[2]
            h = process.steps.evaluate(states, step[of_effect])  # (m, s, p)
            for s, (p, size) in enumerate(zip(j[of_effect], process.jumps.mean[of_effect])):
                mean[:, :, p] += np.multiply.outer(h[:, s, p], size)
            means += process.share * mean
        return (means + self.common.size) * (self.scale.y / self.scale.z)

    def _answer(self, x: Floats, question: Question) -> tuple[Floats, Floats]:
        """Return the mean (A, J) of every outcome's functionals and the covariance (J, J) of the weighted mean's."""
        state = (x - self.scale.centre) / self.scale.spread
        # The slopes' part of the surface is the same at every state.
        bends = self._bends if question is self.slopes else [self._bend(each, question) for each in self.processes]
        parts = [self._answer_process(process, state, question, bend) for process, bend in zip(self.processes, bends)]
        means, covariances = (np.stack(part) for part in zip(*parts))
        shares = np.array([process.share for process in self.processes])
        mean = np.einsum("m,maj->aj", shares, means)
        whole = np.einsum("a,maj->mj", self.weights, means - mean)
        covariance = np.einsum("m,mij->ij", shares, covariances)
        covariance += np.einsum("m,mi,mj->ij", shares, whole, whole)
        return (mean + self.common.size * question.D.sum(axis=0)) * self.scale.y, covariance * self.scale.y**2

    def _bend(self, process: Process, question: Question) -> tuple[Floats, Floats]:
        """Return the covariance of the functionals with the runs (n, J), and among themselves (J, J).

        Of what does not depend on the state: the surface, and what all effects have in common.
        """
        across, own = self.common.across(question.D), self.common.own(question.D)
        if not len(question.U):
            return across, own
        across = across + self.kernel.surface(process.values, self.points.Z, question.U) @ question.S
        return across, own + question.S.T @ self.kernel.surface(process.values, question.U, question.U) @ question.S

    def _answer_process(
        self, process: Process, state: Floats, question: Question, bend: tuple[Floats, Floats]
    ) -> tuple[Floats, Floats]:
        own, across = cross_effects(self.kernel, process.values, self.points, state)
        prior = question.D.T @ (own[:, None] * question.D) + bend[1]
        across = across @ question.D + bend[0]
        mean = (across.T @ process.solved.alpha).T  # (A, J)
        covariance = prior - across.T @ process.solved.inverse @ across
        jumps, width = process.jumps, len(question.D) + 1
        moved = -(process.projected @ across)  # (s, J)
        step, j = np.divmod(jumps.rows, width)
        of_effect = j < width - 1
        h = process.steps.evaluate(state[None, :])[0]  # (C, p)
        moved[of_effect] += h[step, np.minimum(j, width - 2)][of_effect, None] * question.D[j[of_effect]]
        return mean + jumps.mean.T @ moved, covariance + moved.T @ jumps.covariance @ moved


def fit_process(roles: Roles, residuals: Residuals, cfg: EstimatorConfig, seed: int) -> Effects:
    """Fit the varying-coefficient process.

    ``theta_p(x)`` is a constant, a line and a Matern process in the state, one set of hyper-parameters for all
    domains and outcomes, found by marginal likelihood, averaged over with and without the Matern part. With
    ``steps`` effects also jump, one alone or all at once, averaged over draws of where: a jump is of ``theta(x)' Z``.
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
    # Other coordinates are differences of logs, or shares: of those, a part in common is nothing.
    pulls = points.R.sum(axis=1) if roles.coordinates.name == "log" else np.zeros(len(y))
    runs = Runs(points, outcomes, y, _choose_rows(len(y), seed), Common(0.0, pulls))
    return ProcessEffects(roles, kernel, points, scale, *fit_processes(kernel, runs, cfg, seed))


def _choose_columns(roles: Roles, n_coordinates: int) -> NDArray[np.int64]:
    """Let a domain's effect see its own state where X holds all of it, else the whole of X."""
    if roles.coordinates.name == "log" and has_own_columns(roles):
        return find_own_columns(roles)
    return np.tile(np.arange(roles.X.shape[1]), (n_coordinates, 1))


def _choose_rows(n: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng([seed, 41]).permutation(n)[:N_SEARCHED])
