"""An estimator's effects with intervals from the process's posterior: what it says, and how far off it may be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects

Floats = NDArray[np.float64]


class JudgedEffects(Effects):
    """The effects of one fit, with the mean squared error that a second one's posterior expects of them.

    ``E[(theta_hat - theta)(theta_hat - theta)'] = V + (theta_hat - mu)(theta_hat - mu)'`` for a posterior with
    mean mu and covariance V, given the data. A forest's own variance knows nothing of its bias; this one does,
    and covers wherever the judge's own intervals cover.
    """

    def __init__(self, effects: Effects, judge: Effects):
        super().__init__(effects.domains, effects.x_names, effects.coordinates)
        self.effects, self.judge = effects, judge

    def thetas(self, X: Floats) -> Floats:
        """Return the fit's own theta (m, K) at ``X`` (m, d)."""
        return self.effects.thetas(X)

    def thetas_by_outcome(self, X: Floats) -> Floats:
        """Return the fit's own theta of every outcome (m, A, K) at ``X`` (m, d)."""
        return self.effects.thetas_by_outcome(X)

    def covariances(self, X: Floats) -> Floats:
        """Return the expected squared error (m, K, K) of theta at ``X`` (m, d)."""
        off = self.effects.thetas(X) - self.judge.thetas(X)
        return np.asarray(self.judge.covariances(X) + np.einsum("mk,mj->mkj", off, off))

    def predict(self, x: Floats, mixtures: Floats) -> Floats:
        """Return the fit's own outcome (m,) of ``mixtures`` (m, K) at state x."""
        return self.effects.predict(x, mixtures)

    def predict_by_outcome(self, x: Floats, mixtures: Floats) -> Floats:
        """Return the fit's own outcomes (m, A) of ``mixtures`` (m, K) at state x."""
        return self.effects.predict_by_outcome(x, mixtures)

    def gain(self, x: Floats, mixture: Floats, reference: Floats) -> tuple[float, float]:
        """Return the fit's own gain and the squared error expected of it."""
        estimate = self.effects.gain(x, mixture, reference)[0]
        mean, variance = self.judge.gain(x, mixture, reference)
        return estimate, variance + (estimate - mean) ** 2
