"""From a config to a design."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from causalmix.config import MixtureConfig
from causalmix.errors import MixtureError, name_some, nearest_name
from causalmix.mixture.designs.confounded import build_confounded
from causalmix.mixture.designs.design import Design
from causalmix.mixture.designs.dirichlet import build_dirichlet
from causalmix.mixture.designs.fixed import build_fixed
from causalmix.mixture.designs.grid import build_grid
from causalmix.mixture.designs.online import build_online
from causalmix.mixture.designs.optimal import build_optimal
from causalmix.mixture.designs.perturbation import build_perturbation
from causalmix.mixture.designs.regmix import build_regmix
from causalmix.mixture.designs.request import Request, State
from causalmix.mixture.designs.sobol import build_sobol

BUILDERS: dict[str, Callable[[Request], Design]] = {
    "dirichlet": build_dirichlet,
    "dirichlet_confounded": build_confounded,
    "grid": build_grid,
    "sobol": build_sobol,
    "optimal": build_optimal,
    "perturbation": build_perturbation,
    "regmix": build_regmix,
    "equal": build_fixed,
    "natural": build_fixed,
    "fixed": build_fixed,
    "policy": build_fixed,
    "odm": build_online,
}
KINDS = tuple(BUILDERS)
STATE_KINDS = ("dirichlet_confounded",)
"""Designs that read the state of the pool: for all others, T is independent of X."""


def build_design(
    cfg: MixtureConfig,
    *,
    domains: Sequence[str],
    natural: Mapping[str, float],
    available: Mapping[str, int],
    n_samples: int,
    state: State | None = None,
) -> Design:
    """Build the design a config names, checked against what the pool can give.

    Parameters
    ----------
    cfg : MixtureConfig
    domains : sequence of str
        The K domains; their order is the order of every array.
    natural : mapping of str to float
        The pool's own shares.
    available : mapping of str to int
        Documents of each domain that a run may draw.
    n_samples : int
        Documents a run trains on, repeats counted.
    state : mapping of str to mapping of str to float, optional
        Feature -> domain -> mean score of the run's candidate pool. Read by the kinds of ``STATE_KINDS`` alone;
        without it such a design can be checked, not sampled.

    Returns
    -------
    Design
        A Dirichlet design moves its reference into the feasible set first; designs of points say in their own
        texts what becomes of infeasible ones; a single mixture is taken as it is and must be feasible.

    Raises
    ------
    MixtureError
        An unknown kind or prior, weights off the simplex, settings out of range, or domains with too few documents.
    """
    if cfg.kind not in KINDS:
        raise MixtureError(f"mixture.kind={cfg.kind}{nearest_name(cfg.kind, KINDS)}; allowed: {', '.join(KINDS)}.")
    lacking = [name for name in domains if name not in available]
    if lacking:
        raise MixtureError(f"the pool names no count of documents for {name_some(lacking)}.")
    counts = {name: int(available[name]) for name in domains}
    return BUILDERS[cfg.kind](Request(cfg, tuple(domains), natural, counts, n_samples, state))
