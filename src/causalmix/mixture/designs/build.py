"""From a config to a design."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from causalmix.config import MixtureConfig
from causalmix.errors import MixtureError, name_some, nearest_name
from causalmix.mixture.allocate import allocate
from causalmix.mixture.designs.design import Design
from causalmix.mixture.designs.dirichlet import DirichletDesign
from causalmix.mixture.designs.fixed import FixedDesign
from causalmix.mixture.file import read_mixture
from causalmix.mixture.simplex import feasible_box, project_to_box, validate_weights

KINDS = ("dirichlet", "equal", "natural", "fixed", "policy")


def build_design(
    cfg: MixtureConfig,
    *,
    domains: Sequence[str],
    natural: Mapping[str, float],
    available: Mapping[str, int],
    n_samples: int,
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

    Returns
    -------
    Design
        A Dirichlet design moves its reference into the feasible set first; every other mixture is taken as
        it is and must be feasible.

    Raises
    ------
    MixtureError
        An unknown kind or prior, weights off the simplex, or domains with too few documents.
    """
    if cfg.kind not in KINDS:
        raise MixtureError(f"mixture.kind={cfg.kind}{nearest_name(cfg.kind, KINDS)}; allowed: {name_some(KINDS)}.")
    lacking = [name for name in domains if name not in available]
    if lacking:
        raise MixtureError(f"the pool names no count of documents for {name_some(lacking)}.")
    counts = {name: int(available[name]) for name in domains}
    if cfg.kind == "dirichlet":
        return _build_dirichlet(cfg, domains, natural, counts, n_samples)
    weights = validate_weights(_choose_weights(cfg, domains, natural), domains)
    allocate(weights, n_samples, counts, cfg.repeats_max)  # raises, naming the domains that cannot give as much
    return FixedDesign(cfg.kind, tuple(domains), weights)


def _build_dirichlet(
    cfg: MixtureConfig,
    domains: Sequence[str],
    natural: Mapping[str, float],
    available: Mapping[str, int],
    n_samples: int,
) -> DirichletDesign:
    low, high = cfg.concentration_min, cfg.concentration_max
    if not (0 < low <= high and math.isfinite(high)):
        raise MixtureError(f"mixture.concentration_min={low:g}, concentration_max={high:g}: 0 < min <= max is needed.")
    if cfg.prior not in ("natural", "equal"):
        raise MixtureError(
            f"mixture.prior={cfg.prior}{nearest_name(cfg.prior, ('natural', 'equal'))}; allowed: natural, equal."
        )
    box = feasible_box(n_samples, available, cfg.repeats_max, cfg.floor)
    centre = natural if cfg.prior == "natural" else _share_equally(domains)
    reference = project_to_box(validate_weights(centre, domains), box)
    empty = [name for name, share in zip(domains, reference) if share <= 0]
    if empty:
        raise MixtureError(
            f"the reference gives {name_some(empty)} a share of 0, and a Dirichlet needs a positive one: "
            "take mixture.prior=equal or a positive mixture.floor."
        )
    return DirichletDesign(cfg.kind, box, np.asarray(reference), low, high)


def _choose_weights(cfg: MixtureConfig, domains: Sequence[str], natural: Mapping[str, float]) -> Mapping[str, float]:
    if cfg.kind == "equal":
        return _share_equally(domains)
    if cfg.kind == "natural":
        return natural
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


def _share_equally(domains: Sequence[str]) -> dict[str, float]:
    return {name: 1.0 / len(domains) for name in domains}
