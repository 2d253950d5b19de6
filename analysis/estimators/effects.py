"""What every estimator answers: effects with their covariance, at any state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.coordinates import Coordinates, make_coordinates

if TYPE_CHECKING:
    from analysis.estimators.curve import Curve

Floats = NDArray[np.float64]


class Effects(ABC):
    """A fitted ``theta(x) = d E[Y | do(T), X = x] / d embed(T)``, points per unit of log share.

    Whatever coordinates a family regresses on, it answers in the embedding of :class:`Coordinates`: the K
    logs of the shares, or the shares themselves where the coordinates are ``tangent``.

    Attributes
    ----------
    domains : tuple of str
        The K domains.
    x_names : tuple of str
        The d state features that theta depends on; empty for a state-agnostic fit.
    coordinates : Coordinates
        What it was fitted on; logs of the shares where nothing is given.
    curve : Curve or None
        What of the outcome is not linear in the embedding, where that was fitted.
    """

    curve: Curve | None = None

    def __init__(self, domains: tuple[str, ...], x_names: tuple[str, ...], coordinates: Coordinates | None = None):
        self.domains = domains
        self.x_names = x_names
        self.coordinates = coordinates or make_coordinates("log", len(domains))
        # What is asked for again and again: one target, many mixtures.
        self._thetas: dict[bytes, Floats] = {}
        self._covariances: dict[bytes, Floats] = {}
        self._by_outcome: dict[bytes, Floats] = {}

    @abstractmethod
    def thetas(self, X: Floats) -> Floats:
        """Return theta (m, K) at the states ``X`` (m, d)."""

    @abstractmethod
    def covariances(self, X: Floats) -> Floats:
        """Return the covariance (m, K, K) of theta at the states ``X`` (m, d), positive semi-definite."""

    def thetas_by_outcome(self, X: Floats) -> Floats:
        """Return theta of every outcome (m, A, K); their weighted mean is ``thetas``. Here: of a single outcome."""
        return self.thetas(X)[:, None, :]

    def embed(self, mixtures: Floats) -> Floats:
        """Return the coordinates (..., K) of mixtures that theta multiplies: the effect part is ``theta' embed(T)``."""
        return self.coordinates.embed(mixtures)

    def theta(self, x: Floats) -> Floats:
        """Return theta (K,) at one state (d,)."""
        return _remember(self._thetas, x, self.thetas)

    def covariance(self, x: Floats) -> Floats:
        """Return the covariance (K, K) of theta at one state (d,)."""
        return _remember(self._covariances, x, self.covariances)

    def predict(self, x: Floats, mixtures: Floats) -> Floats:
        """Return the outcome (m,) of ``mixtures`` (m, K) at state x, up to one constant, in points."""
        return np.asarray(self.embed(mixtures) @ self.theta(x))

    def predict_by_outcome(self, x: Floats, mixtures: Floats) -> Floats:
        """Return every outcome (m, A) of ``mixtures`` (m, K) at state x, up to constants; ``predict`` is their mean."""
        return np.asarray(self.embed(mixtures) @ _remember(self._by_outcome, x, self.thetas_by_outcome).T)

    def gain(self, x: Floats, mixture: Floats, reference: Floats) -> tuple[float, float]:
        """Return the gain of ``mixture`` over ``reference`` (both (K,)) at state x, and its variance.

        ``d' theta`` and ``d' V d`` with ``d = z(T) - z(q)``; points and squared points.
        """
        d = self.embed(mixture) - self.embed(reference)
        return float(d @ self.theta(x)), max(float(d @ self.covariance(x) @ d), 0.0)


def _remember(known: dict[bytes, Floats], x: Floats, ask: Callable[[Floats], Floats]) -> Floats:
    key = np.asarray(x, dtype=np.float64).tobytes()
    if key not in known:
        known[key] = np.asarray(ask(x[None, :])[0])
    return known[key].copy()


def clip_to_psd(matrices: Floats) -> Floats:
    """Set the negative eigenvalues of symmetric matrices (m, K, K) to zero."""
    values, vectors = np.linalg.eigh((matrices + np.swapaxes(matrices, -1, -2)) / 2)
    return np.asarray(np.einsum("mik,mk,mjk->mij", vectors, np.clip(values, 0.0, None), vectors))
