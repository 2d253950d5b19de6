"""What every design offers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError, name_some

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """One mixture.

    Attributes
    ----------
    weights : ndarray (K,)
        Shares in the order of the design's domains.
    parameters : dict of str to float
        What the draw was made with, recorded as ``design.<name>``.
    size_factor : float
        Documents of the run over ``train.n_samples``; 1 but where a design varies the size.
    """

    weights: Floats
    parameters: dict[str, float] = field(default_factory=dict)
    size_factor: float = 1.0

    def count_samples(self, n_samples: int) -> int:
        """Return how many documents the run trains on, given those of a run of ordinary size."""
        return max(1, round(n_samples * self.size_factor))


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of ``log T`` under a design.

    Attributes
    ----------
    mean_log : ndarray (K,)
        -inf where a share of zero can be drawn.
    cov_log : ndarray (K, K)
        NaN in the rows and columns of such a domain.
    mean_error : ndarray (K,)
        Standard error of ``mean_log``: zero where the moments are exact.
    """

    mean_log: Floats
    cov_log: Floats
    mean_error: Floats

    def name_columns(self, domains: tuple[str, ...]) -> dict[str, float]:
        """Name what is finite: ``mean_log.<domain>`` and ``cov_log.<a>.<b>``, a up to b in the order of domains."""
        values = {f"mean_log.{domain}": float(value) for domain, value in zip(domains, self.mean_log)}
        for i, j in zip(*np.triu_indices(len(domains))):
            values[f"cov_log.{domains[i]}.{domains[j]}"] = float(self.cov_log[i, j])
        return {name: value for name, value in values.items() if np.isfinite(value)}


class Design(Protocol):
    """A law of mixtures over a pool's domains."""

    @property
    def name(self) -> str:
        """Name of the design, as in the config."""

    @property
    def domains(self) -> tuple[str, ...]:
        """The K domains, in the order of every array."""

    @property
    def is_random(self) -> bool:
        """Whether runs differ in their mixture: a fixed mixture teaches a fit nothing."""

    @property
    def n_points(self) -> int | None:
        """How many points the design has; None where there is no end to them."""

    def sample(self, rng: np.random.Generator, index: int) -> Draw:
        """Return one mixture.

        Parameters
        ----------
        rng : Generator
            The run's own stream: what a random law draws from.
        index : int
            Number of the run in its sweep, from 0: which point a design of points gives.

        Raises
        ------
        MixtureError
            A design of fewer points than ``index + 1``, or one whose caps leave no mixture.
        """

    def moments(self, seed: int, n_draws: int = 20_000) -> Moments:
        """Return mean and covariance of ``log T``, deterministic in ``seed``."""


def summarise_logs(weights: Floats, *, exact: bool) -> Moments:
    """Return the moments of ``log T`` over mixtures (n, K).

    Parameters
    ----------
    weights : ndarray (n, K)
    exact : bool
        The mixtures are the whole design, each as likely as the others, and not a sample of it.
    """
    n, n_domains = weights.shape
    has_zero = (weights <= 0).any(axis=0)
    logs = np.log(np.where(has_zero, 1.0, weights))
    mean, error = logs.mean(axis=0), np.zeros(n_domains)
    cov = np.atleast_2d(np.cov(logs, rowvar=False, ddof=0 if exact else 1))
    if not exact:
        error = np.sqrt(np.diag(cov) / n)
    mean[has_zero], error[has_zero] = -np.inf, np.nan
    cov[has_zero, :] = cov[:, has_zero] = np.nan
    return Moments(mean, cov, error)


def check_points(design: Design, indices: Iterable[int]) -> None:
    """Refuse run numbers that a design of points does not reach, all of them in one message."""
    n = design.n_points
    beyond = [] if n is None else sorted({index for index in indices if not 0 <= index < n})
    if beyond:
        raise MixtureError(
            f"mixture={design.name} has {n} points here, numbers 0 to {n - 1 if n else 0}, and a run's seed is its "
            f"number: there is none for seed={name_some(beyond)}. Sweep 'seed=range({n})', or ask for a larger design: "
            "mixture.levels for grid, mixture.n_points for optimal; sobol and regmix have no end."
        )
