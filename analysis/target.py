"""The question an analysis answers: which pool, which size, which limits, better than what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.limits import join_limits
from analysis.mappings import read_mapping
from analysis.roles import Roles
from analysis.target_state import find_state_file, read_state, read_state_file
from causalmix.config import TargetConfig
from causalmix.errors import AnalysisError, MixtureError, name_some, nearest_name
from causalmix.mixture.simplex import Box, check_request, default_floor, feasible_box, project_to_box, validate_weights

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """The target pool as the policies see it.

    Attributes
    ----------
    domains : tuple of str
        The K domains, in the order of every array.
    x : ndarray (d,)
        State of the pool, the features of the fit in their order.
    state : dict of str to float
        The same by name, with whatever else was given.
    reference : ndarray (K,)
        q, what a gain is measured against; inside the box.
    natural : ndarray (K,)
        The pool's own shares, as far as they are known.
    box : Box
        Floors and caps at the target's size.
    n_samples : int or None
        Documents the target run trains on.
    available : dict of str to int or None
        Documents a domain.
    repeats_max : float
    normaliser_fingerprint : str or None
        Which scorers and scale its state was measured with.
    pool_fingerprint : str or None
    notes : tuple of str
        What was assumed where nothing was given.
    constraints : dict of str to float
        Least gain of an ability over the reference, points.
    asked : ndarray (K,) or None
        The reference before it was moved into the box, where that is known.
    """

    domains: tuple[str, ...]
    x: Floats
    state: dict[str, float]
    reference: Floats
    natural: Floats
    box: Box
    n_samples: int | None
    available: dict[str, int] | None
    repeats_max: float
    pool_fingerprint: str | None
    normaliser_fingerprint: str | None
    notes: tuple[str, ...]
    constraints: dict[str, float] = field(default_factory=dict)
    asked: Floats | None = None


def build_target(cfg: TargetConfig, roles: Roles, *, state_names: Sequence[str], n_samples_runs: int | None) -> Target:
    """Read the target off the config, a state file, or the runs themselves.

    Parameters
    ----------
    cfg : TargetConfig
    roles : Roles
    state_names : sequence of str
        Every state the table knows (``hes``, ``hes.math``): what a state by hand may name.
    n_samples_runs : int or None
        Documents a run of the sweep, where all runs agree.

    Returns
    -------
    Target

    Raises
    ------
    AnalysisError
        A state that is incomplete, unknown or not finite; counts of unknown domains; no such reference.
    """
    notes: list[str] = []
    state_file = find_state_file(cfg)
    measured = read_state_file(state_file) if state_file else {}
    state = read_state(cfg, measured, roles, state_names, notes)
    available = _read_available(cfg, measured, roles.domains)
    n_samples = cfg.n_samples if cfg.n_samples is not None else n_samples_runs
    box = _build_box(cfg, roles.domains, available, n_samples, notes)
    natural = _read_natural(measured, available, roles, notes)
    wanted = _choose_reference(cfg, natural, roles.domains)
    reference = project_to_box(wanted, box)
    if np.any(reference <= 0):
        named = name_some(d for d, share in zip(roles.domains, reference) if share <= 0)
        raise AnalysisError(
            f"the reference gives {named} a share of 0, and log shares need a positive one: take "
            "target.reference=equal or a positive target.floor."
        )
    if np.abs(reference - wanted).max() > 1e-6:
        notes.append("The reference broke a floor or cap of the target and was moved to the nearest mixture.")
    fingerprint = measured.get("pool_fingerprint")
    return Target(
        domains=roles.domains,
        x=np.array([state[name] for name in roles.x_names]),
        state=state,
        reference=reference,
        natural=natural,
        box=box,
        n_samples=n_samples,
        available=available,
        repeats_max=cfg.repeats_max,
        pool_fingerprint=str(fingerprint) if fingerprint else None,
        normaliser_fingerprint=measured.get("normaliser_fingerprint"),
        notes=tuple(notes),
        asked=wanted,
    )


def _read_available(cfg: TargetConfig, measured: Mapping[str, Any], domains: tuple[str, ...]) -> dict[str, int] | None:
    if not (cfg.available or measured.get("available")):
        return None
    given = read_mapping(cfg.available or measured["available"], "target.available")
    unknown = [name for name in given if name not in domains]
    missing = [name for name in domains if name not in given]
    wrong = [f"{name}={n!r}" for name, n in given.items() if isinstance(n, bool) or not isinstance(n, int)]
    if wrong:
        raise AnalysisError(f"target.available: {name_some(wrong)}; counts of documents are wanted.")
    if unknown or missing:
        faults = [f"unknown '{name}'{nearest_name(name, domains)}" for name in unknown]
        faults += [f"no count for '{name}'" for name in missing]
        raise AnalysisError(
            f"documents of the target pool (target.available): {name_some(faults)}; "
            f"the runs' domains: {name_some(domains, 50)}."
        )
    return {name: int(given[name]) for name in domains}


def _build_box(
    cfg: TargetConfig,
    domains: tuple[str, ...],
    available: dict[str, int] | None,
    n_samples: int | None,
    notes: list[str],
) -> Box:
    # Floors of single domains take the place of the general one: they are checked where the two are joined.
    floor = 0.0 if cfg.floors else cfg.floor
    size, documents, repeats = n_samples, available, cfg.repeats_max
    if documents is None or size is None:
        lacking = "target.available" if documents is None else "target.n_samples"
        notes.append(f"{lacking} is not known: no domain is capped by the documents it has.")
        # As large a pool as can be: the floor is still checked.
        size, documents, repeats = 1_000_000, dict.fromkeys(domains, 1_000_000), 1.0
    try:
        check_request(size if n_samples is None else n_samples, documents, cfg.repeats_max)
        box = feasible_box(size, documents, repeats, floor)
    except MixtureError as error:  # it speaks of a launch's keys
        raise AnalysisError(f"target: {_name_own_keys(str(error))}") from error
    if not (cfg.floors or cfg.caps):
        return box
    return join_limits(box, cfg.floors, cfg.caps, default_floor(len(domains)) if cfg.floor is None else cfg.floor)


def _name_own_keys(message: str) -> str:
    for group, key in (("mixture", "floor"), ("train", "n_samples"), ("mixture", "repeats_max")):
        message = message.replace(f"{group}.{key}", f"target.{key}")
    return message


def _read_natural(
    measured: Mapping[str, Any], available: dict[str, int] | None, roles: Roles, notes: list[str]
) -> Floats:
    if isinstance(measured.get("natural"), dict):
        return validate_weights(measured["natural"], roles.domains)
    if available is not None and sum(available.values()) > 0:
        counts = np.array([available[name] for name in roles.domains], dtype=np.float64)
        return np.asarray(counts / counts.sum())
    notes.append(
        "The natural shares of the target pool are not known (target.available, target.state_file): the mean "
        "mixture of the runs stands in for them."
    )
    mean = roles.mixtures.mean(axis=0)
    return np.asarray(mean / mean.sum())


def _choose_reference(cfg: TargetConfig, natural: Floats, domains: tuple[str, ...]) -> Floats:
    allowed = ("natural", "equal", "fixed")
    if cfg.reference not in allowed:
        raise AnalysisError(
            f"target.reference={cfg.reference}{nearest_name(cfg.reference, allowed)}; allowed: {', '.join(allowed)}."
        )
    if cfg.reference == "fixed":
        if not cfg.reference_weights:
            raise AnalysisError("target.reference=fixed needs target.reference_weights={domain: share, ...}.")
        return validate_weights(read_mapping(cfg.reference_weights, "target.reference_weights"), domains)
    return natural if cfg.reference == "natural" else np.full(len(domains), 1.0 / len(domains))
