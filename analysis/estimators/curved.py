"""An estimator's effects together with a curve: what is linear in the logs of the shares, and what is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.curve import Curve
from analysis.estimators.effects import Effects

Floats = NDArray[np.float64]


class CurvedEffects(Effects):
    """The effects of one fit to what a curve leaves of the outcome; ``E[Y] = theta(x)' embed(T) + c(T) + ...``.

    theta stays the least-squares slope over the mixtures that were tried, its covariance the fit's own. Gains and
    predictions hold the curve, and so does the variance of a gain; that the two were estimated on the same runs
    is left out of it, as they are orthogonal over the design.
    """

    def __init__(self, effects: Effects, curve: Curve):
        super().__init__(effects.domains, effects.x_names, effects.coordinates)
        self.effects, self.curve = effects, curve

    def thetas(self, X: Floats) -> Floats:
        """Return the fit's theta (m, K) at ``X`` (m, d)."""
        return self.effects.thetas(X)

    def thetas_by_outcome(self, X: Floats) -> Floats:
        """Return the fit's theta of every outcome (m, A, K) at ``X`` (m, d)."""
        return self.effects.thetas_by_outcome(X)

    def covariances(self, X: Floats) -> Floats:
        """Return the fit's covariance (m, K, K) of theta at ``X`` (m, d)."""
        return self.effects.covariances(X)

    def predict(self, x: Floats, mixtures: Floats) -> Floats:
        """Return the outcome (m,) of ``mixtures`` (m, K) at state x, the curve's part included."""
        assert self.curve is not None
        return np.asarray(self.effects.predict(x, mixtures) + self.curve.value(mixtures))

    def predict_by_outcome(self, x: Floats, mixtures: Floats) -> Floats:
        """Return every outcome (m, A) of ``mixtures`` (m, K) at state x, its own curve's part included."""
        assert self.curve is not None
        return self.effects.predict_by_outcome(x, mixtures) + self.curve.value_by_outcome(mixtures)

    def gain(self, x: Floats, mixture: Floats, reference: Floats) -> tuple[float, float]:
        """Return the gain of ``mixture`` over ``reference`` at state x and its variance, the curve's part included."""
        assert self.curve is not None
        straight, variance = self.effects.gain(x, mixture, reference)
        bent, more = self.curve.gain(mixture, reference)
        return straight + bent, variance + more
