"""What a design is built for: a config, and what the pool can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from causalmix.config import MixtureConfig
from causalmix.errors import MixtureError, name_some, nearest_name
from causalmix.mixture.simplex import Box, feasible_box, project_to_box, validate_weights

Floats = NDArray[np.float64]
State = Mapping[str, Mapping[str, float]]

PRIORS = ("natural", "equal")


@dataclass(frozen=True)
class Request:
    """A config and the pool it meets; see :func:`causalmix.mixture.designs.build.build_design`."""

    cfg: MixtureConfig
    domains: tuple[str, ...]
    natural: Mapping[str, float]
    available: dict[str, int]
    n_samples: int
    state: State | None = None

    @cached_property
    def box(self) -> Box:
        """The mixtures that the pool can give, above the floor."""
        return feasible_box(self.n_samples, self.available, self.cfg.repeats_max, self.cfg.floor)

    def share_equally(self) -> dict[str, float]:
        """The same share for every domain."""
        return {name: 1.0 / len(self.domains) for name in self.domains}

    def read_prior(self) -> Floats:
        """Shares (K,) that ``mixture.prior`` names."""
        prior = self.cfg.prior
        if prior not in PRIORS:
            raise MixtureError(f"mixture.prior={prior}{nearest_name(prior, PRIORS)}; allowed: {', '.join(PRIORS)}.")
        return validate_weights(self.natural if prior == "natural" else self.share_equally(), self.domains)

    def project_reference(self, shares: Floats) -> Floats:
        """Move a centre (K,) into the box; a Dirichlet needs every share above zero."""
        reference = project_to_box(shares, self.box)
        empty = [name for name, share in zip(self.domains, reference) if share <= 0]
        if empty:
            raise MixtureError(
                f"the reference gives {name_some(empty)} a share of 0, and a Dirichlet needs a positive one: "
                "take mixture.prior=equal or a positive mixture.floor."
            )
        return np.asarray(reference)
