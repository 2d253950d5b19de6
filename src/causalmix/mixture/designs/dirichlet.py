"""The Dirichlet design: mixtures scattered around a reference, floored and capped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError, name_some
from causalmix.mixture.designs.design import Draw, Moments, summarise_logs
from causalmix.mixture.designs.request import Request
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]

_BATCH = 256  # proposals a round when one draw is wanted
_PROPOSALS_MAX = 200_000  # then the caps are called too tight for the design
_CAP_TOLERANCE = 1e-12


@dataclass(frozen=True)
class DirichletDesign:
    """``T = m + (1 - K m) D``, ``D ~ Dirichlet(s q)``, log s uniform; redrawn where a share is above its cap.

    Attributes
    ----------
    name : str
    box : Box
        Floor m (one number for all domains) and caps.
    reference : ndarray (K,)
        The centre q, inside the box.
    concentration_min, concentration_max : float
        Range of s / K.
    """

    name: str
    box: Box
    reference: Floats
    concentration_min: float
    concentration_max: float

    @property
    def domains(self) -> tuple[str, ...]:
        """The K domains."""
        return self.box.domains

    @property
    def is_random(self) -> bool:
        """Always True."""
        return True

    @property
    def n_points(self) -> None:
        """No end: every run draws anew."""
        return None

    def sample(self, rng: np.random.Generator, index: int) -> Draw:
        """Draw one mixture and its concentration s; ``index`` is not used.

        Raises
        ------
        MixtureError
            No proposal below the caps in 200,000; names the domains that are too scarce.
        """
        weights, concentration = self._accept(rng, 1, _BATCH)
        return Draw(weights[0], {"concentration": float(concentration[0])})

    def moments(self, seed: int, n_draws: int = 20_000) -> Moments:
        """Estimate mean and covariance of ``log T`` over accepted draws, s included.

        The textbook digamma mean forgets the floor and the redraws; with it intervals never cover.

        Parameters
        ----------
        seed : int
        n_draws : int
            Accepted draws; the standard error of a mean is sd(log T_k) / sqrt(n_draws).
        """
        weights = self._accept(np.random.default_rng(seed), n_draws, n_draws)[0]
        return summarise_logs(weights, exact=False)

    def _accept(self, rng: np.random.Generator, n: int, batch: int) -> tuple[Floats, Floats]:
        """Propose until ``n`` mixtures lie below the caps: weights (n, K) and concentrations (n,)."""
        kept_weights, kept_concentration, n_kept, n_proposed = [], [], 0, 0
        n_over = np.zeros(len(self.domains))
        while n_kept < n:
            if n_proposed >= _PROPOSALS_MAX + 100 * n:
                raise MixtureError(self._explain_rejection(n_kept, n_proposed, n_over))
            weights, concentration = self._propose(rng, batch)
            over = weights > self.box.cap + _CAP_TOLERANCE
            kept = ~over.any(axis=1)
            kept_weights.append(weights[kept])
            kept_concentration.append(concentration[kept])
            n_kept, n_proposed, n_over = (
                n_kept + int(kept.sum()),
                n_proposed + batch,
                n_over + over.sum(axis=0),
            )
        return np.concatenate(kept_weights)[:n], np.concatenate(kept_concentration)[:n]

    def _propose(self, rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
        """Draw ``n`` floored mixtures and their concentrations, caps not yet looked at."""
        # Domains are drawn in the order of their names, so that listing them otherwise changes no draw.
        order = np.argsort(np.array(self.domains))
        n_domains = len(order)
        low, high = np.log(self.concentration_min * n_domains), np.log(self.concentration_max * n_domains)
        concentration = np.exp(rng.uniform(low, high, size=n))
        shape = concentration[:, None] * self.reference[order]
        raw = draw_dirichlet(rng, shape)
        floor = self.box.floor[order]
        weights = np.empty_like(raw)
        weights[:, order] = floor + (1.0 - floor.sum()) * raw
        return weights, concentration

    def _explain_rejection(self, n_kept: int, n_proposed: int, n_over: Floats) -> str:
        worst = [k for k in np.argsort(-n_over) if n_over[k] > 0]
        named = name_some(
            f"{self.domains[k]} (at most {self.box.cap[k]:.3g}; above it in {n_over[k] / n_proposed:.0%})"
            for k in worst
        )
        return (
            f"only {n_kept} of {n_proposed} Dirichlet mixtures stay below the shares the pool can give: "
            f"{named}. "
            "Lower train.n_samples, raise mixture.repeats_max, or raise mixture.concentration_min."
        )


def build_dirichlet(request: Request) -> DirichletDesign:
    """Build the Dirichlet design of a request, its centre moved into the feasible set.

    Raises
    ------
    MixtureError
        Concentrations or a prior out of range, or a centre with a share of zero.
    """
    low, high = request.cfg.concentration_min, request.cfg.concentration_max
    if not (0 < low <= high and math.isfinite(high)):
        raise MixtureError(f"mixture.concentration_min={low:g}, concentration_max={high:g}: 0 < min <= max is needed.")
    reference = request.project_reference(request.read_prior())
    return DirichletDesign(request.cfg.kind, request.box, reference, low, high)


def draw_dirichlet(rng: np.random.Generator, shape: Floats) -> Floats:
    """Draw one Dirichlet vector a row of ``shape`` (n, K), shapes near zero included."""
    # log Gamma(a) = log Gamma(a + 1) + log(U) / a: in logs, small shapes cannot underflow to 0 / 0.
    log_gamma = np.log(rng.standard_gamma(shape + 1.0)) + np.log1p(-rng.random(shape.shape)) / shape
    raw = np.exp(log_gamma - log_gamma.max(axis=1, keepdims=True))
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))
