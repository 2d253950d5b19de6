"""A Dirichlet design whose centre follows the pool's state: confounding, made on purpose."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError, name_some, nearest_name
from causalmix.mixture.designs.design import Draw, Moments
from causalmix.mixture.designs.dirichlet import DirichletDesign, build_dirichlet
from causalmix.mixture.designs.request import Request, State

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ConfoundedDesign:
    """``T | X ~`` the Dirichlet design around ``q_k(X)``, proportional to ``q_k exp(confounding * x_k)``.

    ``x_k`` is domain k's own state: one score's mean over its documents in the candidate pool, or the mean of
    all scores (scores are normalised: one unit is a standard deviation of a document's). Such a sweep has
    something to deconfound; its mean of ``log T`` given X differs from run to run, and an analysis sees that.

    Attributes
    ----------
    base : DirichletDesign
        The law at ``confounding = 0``.
    law : DirichletDesign or None
        The law given X, its centre moved into the feasible set; None where no state was given.
    confounding : float
        The dial: by how much ``log q_k`` moves with one unit of ``x_k``.
    """

    base: DirichletDesign
    law: DirichletDesign | None
    confounding: float

    @property
    def name(self) -> str:
        """Name of the design."""
        return self.base.name

    @property
    def domains(self) -> tuple[str, ...]:
        """The K domains."""
        return self.base.domains

    @property
    def is_random(self) -> bool:
        """Always True."""
        return True

    @property
    def n_points(self) -> None:
        """No end: every run draws anew."""
        return None

    def sample(self, rng: np.random.Generator, index: int) -> Draw:
        """Draw one mixture given X; its centre is recorded as ``design.reference.<domain>``."""
        law = self._given_state()
        draw = law.sample(rng, index)
        centre = {f"reference.{domain}": float(share) for domain, share in zip(law.domains, law.reference)}
        return Draw(draw.weights, draw.parameters | {"confounding": self.confounding} | centre)

    def moments(self, seed: int, n_draws: int = 20_000) -> Moments:
        """Estimate mean and covariance of ``log T`` given X, after redraws; see :class:`DirichletDesign`."""
        return self._given_state().moments(seed, n_draws)

    def _given_state(self) -> DirichletDesign:
        if self.law is None:
            raise MixtureError(
                "mixture=dirichlet_confounded draws a mixture from the state of the run's candidate pool: give "
                "build_design(..., state={score: {domain: mean}})."
            )
        return self.law


def build_confounded(request: Request) -> ConfoundedDesign:
    """Build the confounded design; without a state it is checked as far as it can be, and not sampled.

    Raises
    ------
    MixtureError
        A dial that is no finite number, a score or domain that the state does not have, or what
        :func:`build_dirichlet` refuses.
    """
    strength = request.cfg.confounding
    if not math.isfinite(strength):
        raise MixtureError(f"mixture.confounding={strength}: a finite number is needed; 0 is no confounding.")
    base = build_dirichlet(request)
    if request.state is None:
        return ConfoundedDesign(base, None, strength)
    x = _read_own_state(request.state, request.cfg.confounding_feature, request.domains)
    log_tilted = np.log(base.reference) + strength * (x - x.mean())
    tilted = np.exp(log_tilted - log_tilted.max())
    reference = request.project_reference(tilted / tilted.sum())
    return ConfoundedDesign(base, dataclasses.replace(base, reference=reference), strength)


def _read_own_state(state: State, feature: str | None, domains: tuple[str, ...]) -> Floats:
    """Read each domain's own score (K,): of one feature, or the mean over all."""
    if not state:
        raise MixtureError("mixture=dirichlet_confounded needs a state with at least one score; it has none.")
    if feature is not None and feature not in state:
        raise MixtureError(
            f"mixture.confounding_feature={feature}{nearest_name(feature, state)}: the state has {name_some(state)}; "
            "null takes the mean of all."
        )
    chosen = sorted(state) if feature is None else [feature]
    lacking = [f"{name}.{domain}" for name in chosen for domain in domains if domain not in state[name]]
    if lacking:
        raise MixtureError(f"the state has no {name_some(lacking)}, which mixture=dirichlet_confounded draws from.")
    scores = [[state[name][domain] for domain in domains] for name in chosen]
    return np.asarray(np.mean(np.array(scores, dtype=np.float64), axis=0))
