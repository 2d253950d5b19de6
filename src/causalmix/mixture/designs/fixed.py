"""Designs with one mixture: equal, natural, fixed by hand or by a file, and a policy's answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError
from causalmix.mixture.allocate import allocate
from causalmix.mixture.designs.design import Draw, Moments, summarise_logs
from causalmix.mixture.designs.request import Request
from causalmix.mixture.file import read_mixture
from causalmix.mixture.simplex import validate_weights


@dataclass(frozen=True)
class FixedDesign:
    """The same mixture for every run; no floor is applied, so a share may be zero."""

    name: str
    domains: tuple[str, ...]
    weights: NDArray[np.float64]

    @property
    def is_random(self) -> bool:
        """Always False."""
        return False

    @property
    def n_points(self) -> None:
        """No end: any run may take the mixture."""
        return None

    def sample(self, rng: np.random.Generator, index: int) -> Draw:
        """Return the mixture; neither ``rng`` nor ``index`` is used."""
        return Draw(self.weights.copy())

    def moments(self, seed: int, n_draws: int = 20_000) -> Moments:
        """Return ``log T`` itself and a covariance of zero."""
        return summarise_logs(self.weights[None], exact=True)


def build_fixed(request: Request) -> FixedDesign:
    """Build a design of one mixture, which must be feasible as it is.

    Raises
    ------
    MixtureError
        Weights missing or off the simplex, or more documents of a domain than the pool can give.
    """
    weights = validate_weights(_choose_weights(request), request.domains)
    # Raises, naming the domains that cannot give as much.
    allocate(weights, request.n_samples, request.available, request.cfg.repeats_max)
    return FixedDesign(request.cfg.kind, request.domains, weights)


def _choose_weights(request: Request) -> Mapping[str, float]:
    cfg = request.cfg
    if cfg.kind == "equal":
        return request.share_equally()
    if cfg.kind == "natural":
        return request.natural
    if cfg.kind == "fixed" and cfg.file is not None:
        if cfg.weights is not None:
            raise MixtureError("mixture.weights and mixture.file are both given: keep one of them.")
        return read_mixture(cfg.file, use_candidate=cfg.use_candidate)
    if cfg.weights is None:
        raise MixtureError(
            "mixture=fixed needs mixture.weights={domain: share, ...} or mixture.file=mixture.json."
            if cfg.kind == "fixed"
            else "mixture=policy has no weights: they are found when the run is submitted, from policy=... "
            "and runs=SWEEP-or-table; give both to launch.py, or take mixture=fixed."
        )
    weights: Mapping[str, float] = cfg.weights
    return weights
