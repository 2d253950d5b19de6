"""The question an analysis answers: which pool, which size, which limits, better than what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.limits import join_limits
from analysis.roles import Roles
from causalmix.config import TargetConfig
from causalmix.errors import AnalysisError, name_some, nearest_name
from causalmix.files import read_json
from causalmix.mixture.simplex import Box, default_floor, feasible_box, project_to_box, validate_weights

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
    state_file = _find_state_file(cfg)
    measured = _read_state_file(state_file) if state_file else {}
    state = _read_state(cfg, measured, roles, state_names, notes)
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


def list_known_states(cfg: TargetConfig, state_names: Sequence[str]) -> list[str] | None:
    """Return the states that a target gives, or None where it gives none and the runs' mean stands in.

    Raises
    ------
    AnalysisError
        A state given by hand that is none of ``state_names``, the table's.
    """
    state_file = _find_state_file(cfg)
    if not cfg.state and not state_file:
        return None
    given = cfg.state or _read_state_file(str(state_file))["state"]
    flat = flatten_state(read_mapping(given, "target.state"))
    if cfg.state:
        _refuse_unknown(flat, state_names, "target.state")
    return list(flat)


def read_mapping(given: object, key: str) -> dict[str, Any]:
    """Return a mapping that a user gave under ``key``, or say that it is none."""
    if not isinstance(given, Mapping) or not given:
        raise AnalysisError(f"{key}={given!r}: a mapping is wanted, for example '{key}={{name: 1, other: 2}}'.")
    return {str(name): value for name, value in given.items()}


def flatten_state(given: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{hes: {math: .1}}`` into ``{hes.math: .1}``: both spellings are understood."""
    flat: dict[str, Any] = {}
    for name, value in given.items():
        inner = {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
        flat |= inner
    return flat


def _find_state_file(cfg: TargetConfig) -> str | None:
    """Return the state file that the target names, by path or by the name of a prepared pool."""
    if not cfg.pool:
        return cfg.state_file
    if cfg.state_file:
        raise AnalysisError("target.pool and target.state_file are both given: keep one of them.")
    folders = [Path(cfg.pool)] if Path(cfg.pool).is_dir() else sorted(Path(cfg.pools_dir).glob(f"{cfg.pool}-*"))
    found = [folder / "state.json" for folder in folders if (folder / "state.json").is_file()]
    if len(found) != 1:
        prepared = sorted(path.parent.name for path in Path(cfg.pools_dir).glob("*/state.json"))
        raise AnalysisError(
            f"target.pool={cfg.pool}: {len(found)} prepared pools of that name in target.pools_dir={cfg.pools_dir} "
            f"({name_some(prepared) or 'none there'}). Give the folder of one, or make it with "
            "`causalmix pool prepare pool=...`."
        )
    return str(found[0])


def _read_state_file(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise AnalysisError(f"target.state_file={path}: no such file (a pool's state.json is wanted).")
    content = read_json(Path(path))
    if not isinstance(content, dict) or not isinstance(content.get("state"), dict):
        raise AnalysisError(
            f"target.state_file={path}: a state.json with the object 'state' is wanted; "
            "write one with `causalmix pool state`."
        )
    return content


def _read_state(
    cfg: TargetConfig,
    measured: Mapping[str, Any],
    roles: Roles,
    state_names: Sequence[str],
    notes: list[str],
) -> dict[str, float]:
    if cfg.state and measured:
        raise AnalysisError("target.state and target.state_file are both given: keep one of them.")
    if not cfg.state and not measured:
        if roles.x_names:
            notes.append(
                "No state of the target was given (target.state, target.state_file): the mean state of the "
                "runs was taken."
            )
        return {name: float(roles.X[:, j].mean()) for j, name in enumerate(roles.x_names)}
    source = "target.state" if cfg.state else f"target.state_file={cfg.state_file}"
    given = flatten_state(read_mapping(cfg.state or measured["state"], source))
    if cfg.state:
        _refuse_unknown(given, state_names, source)
    wrong = [name for name, v in given.items() if not isinstance(v, (int, float)) or not math.isfinite(v)]
    if wrong:
        raise AnalysisError(f"{source}: {name_some(wrong)} must be finite numbers, in the table's own units.")
    missing = [name for name in roles.x_names if name not in given]
    if missing:
        raise AnalysisError(
            f"{source}: the fit also reads {name_some(missing, 20)}; give them"
            + (", or take estimator.state=pool." if any("." in name for name in missing) else ".")
        )
    return {str(name): float(value) for name, value in given.items()}


def _refuse_unknown(given: Mapping[str, Any], state_names: Sequence[str], source: str) -> None:
    unknown = [name for name in given if name not in state_names]
    if unknown:
        named = name_some(f"'{name}'{nearest_name(name, state_names)}" for name in unknown)
        raise AnalysisError(f"{source}: unknown {named}; the table's states: {name_some(state_names, 40)}.")


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
    if available is not None and n_samples is not None:
        box = feasible_box(n_samples, available, cfg.repeats_max, floor)
    else:
        lacking = "target.available" if available is None else "target.n_samples"
        notes.append(f"{lacking} is not known: no domain is capped by the documents it has.")
        # As large a pool as can be: the floor is still checked.
        box = feasible_box(1_000_000, dict.fromkeys(domains, 1_000_000), 1.0, floor)
    if not (cfg.floors or cfg.caps):
        return box
    return join_limits(box, cfg.floors, cfg.caps, default_floor(len(domains)) if cfg.floor is None else cfg.floor)


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
