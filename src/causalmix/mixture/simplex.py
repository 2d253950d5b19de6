"""The simplex of mixtures: validation, floors, caps and the projection onto them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError, name_some, nearest_name

Floats = NDArray[np.float64]

SUM_TOLERANCE = 1e-6
_NEGLIGIBLE = 1e-15  # a reference share below this counts as zero: its breakpoints would overflow


@dataclass(frozen=True)
class Box:
    """Feasible mixtures: ``floor <= T <= cap`` and ``sum(T) = 1``.

    Attributes
    ----------
    domains : tuple of str
        The K domains, in the order of the arrays.
    floor, cap : ndarray (K,)
        Least and largest share of each domain.
    """

    domains: tuple[str, ...]
    floor: Floats
    cap: Floats

    def contains(self, weights: Floats, tolerance: float = 1e-9) -> bool:
        """Say whether ``weights`` (K,) lie in the box and sum to one."""
        inside = np.all(weights >= self.floor - tolerance) and np.all(weights <= self.cap + tolerance)
        return bool(inside) and abs(math.fsum(weights) - 1.0) <= tolerance


def validate_weights(weights: Mapping[str, float], domains: Sequence[str]) -> Floats:
    """Check a mixture and put it in the order of ``domains``.

    Parameters
    ----------
    weights : mapping of str to float
        Share of each domain; every domain must be named (a share of 0 is allowed).
    domains : sequence of str
        The K domains of the pool.

    Returns
    -------
    ndarray (K,)
        The shares, divided by their sum so that rounding in a file is removed.

    Raises
    ------
    MixtureError
        An unknown or missing domain, a share that is no number, negative or NaN, or a sum more than
        1e-6 away from one. All offenders are named at once.
    """
    faults = []
    unknown = [name for name in weights if name not in domains]
    if unknown:
        named = name_some(f"'{name}'{nearest_name(str(name), domains)}" for name in unknown)
        faults.append(f"unknown domain {named}")
    missing = [name for name in domains if name not in weights]
    if missing:
        faults.append(f"no share given for {name_some(missing)} (write 0 to leave a domain out)")
    wrong = [name for name, share in weights.items() if not _is_share(share)]
    if wrong:
        faults.append(
            "a share is a finite number from 0 to 1, not " + name_some(f"{name}={weights[name]!r}" for name in wrong)
        )
    else:
        total = math.fsum(weights.values())
        if abs(total - 1.0) > SUM_TOLERANCE:
            faults.append(f"the shares sum to {total:.9g}, not to 1 (tolerance {SUM_TOLERANCE:g})")
    if faults:
        raise MixtureError(f"weights refused: {'; '.join(faults)}. The pool's domains: {name_some(domains, 50)}.")
    return np.array([weights[name] for name in domains], dtype=np.float64) / total


def default_floor(n_domains: int) -> float:
    """Return the least share of a domain, ``min(.02, .2 / K)``: log(0) would let eps, not data, speak."""
    return min(0.02, 0.2 / n_domains)


def feasible_box(n_samples: int, available: Mapping[str, int], repeats_max: float, floor: float | None = None) -> Box:
    """Say which mixtures a pool can give: a floor for every domain, a cap from its documents.

    Parameters
    ----------
    n_samples : int
        Documents the run trains on, repeats counted.
    available : mapping of str to int
        Documents of each domain; its order is the order of the box.
    repeats_max : float
        How often a document may be seen at most (R); the cap is ``min(1, R * N_k / n_samples)``.
    floor : float, optional
        Least share of every domain; None takes :func:`default_floor`.

    Returns
    -------
    Box

    Raises
    ------
    MixtureError
        A floor above a cap, floors that sum above one, or caps that sum below one.
    """
    domains = tuple(available)
    check_request(n_samples, available, repeats_max)
    least = default_floor(len(domains)) if floor is None else float(floor)
    if not 0.0 <= least * len(domains) <= 1.0:
        raise MixtureError(
            f"floor={least:g} over {len(domains)} domains: it must lie between 0 and 1/{len(domains)} = "
            f"{1 / len(domains):.6g}; mixture.floor=null takes {default_floor(len(domains)):g}."
        )
    documents = np.array([count_allowed(available[name], repeats_max) for name in domains], dtype=np.float64)
    cap = np.minimum(1.0, documents / n_samples)
    if documents.sum() < n_samples:
        named = name_some(f"{name} {available[name]}" for name in domains)
        raise MixtureError(
            f"a run of {n_samples} documents is more than {repeats_max:g} repeats of the pool allow "
            f"({int(documents.sum())}: {named}). Lower train.n_samples or raise mixture.repeats_max."
        )
    scarce = [name for name, most in zip(domains, cap) if most < least]
    if scarce:
        named = name_some(f"{name} ({available[name]} documents)" for name in scarce)
        raise MixtureError(
            f"{named}: too few for the floor of {least:g} in a run of {n_samples} documents with at most "
            f"{repeats_max:g} repeats. Lower mixture.floor or train.n_samples, raise mixture.repeats_max, "
            "or give these domains more documents."
        )
    return Box(domains, np.full(len(domains), least), cap)


def project_to_box(reference: Floats, box: Box) -> Floats:
    """Move a mixture into a box, keeping the ratios of the domains that no limit binds.

    The result minimises ``KL(q || T)``, that is, maximises ``sum_k q_k log T_k`` over the box; its form is
    ``clip(s * q_k, floor_k, cap_k)`` with one scale s. The same rule with effects in the place of ``q``
    is the box-constrained CausalMix-A.

    Parameters
    ----------
    reference : ndarray (K,)
        Non-negative, not all zero; need not sum to one.
    box : Box

    Returns
    -------
    ndarray (K,)
        In the box. Where domains with a positive share reach their caps with mass left over, the other
        domains share it evenly, up to their caps.
    """
    if reference.shape != box.floor.shape or not np.all(np.isfinite(reference)) or np.any(reference < 0):
        raise MixtureError(f"a mixture to project needs {len(box.domains)} finite shares >= 0, not {reference}.")
    total = math.fsum(reference)
    if total <= 0:
        raise MixtureError("a mixture to project needs at least one positive share; all are zero.")
    scaled = reference / total
    if box.contains(scaled, tolerance=0.0):
        return scaled
    positive = scaled > _NEGLIGIBLE
    result = box.floor.copy()
    mass = 1.0 - math.fsum(box.floor[~positive])
    reachable = min(mass, math.fsum(box.cap[positive]))
    result[positive] = _fill(scaled[positive], box.floor[positive], box.cap[positive], reachable)
    left = 1.0 - math.fsum(result[positive])
    if not positive.all():
        even = np.ones(int((~positive).sum()))
        result[~positive] = _fill(even, box.floor[~positive], box.cap[~positive], left)
    return result


def count_allowed(n_available: int, repeats_max: float) -> int:
    """Return how many documents a domain can give when each may be seen ``repeats_max`` times."""
    return math.floor(n_available * repeats_max + 1e-9)


def check_request(n_samples: int, available: Mapping[str, int], repeats_max: float) -> None:
    """Refuse a size, counts or repeats that mean nothing."""
    if n_samples < 1:
        raise MixtureError(f"n_samples={n_samples}: a run needs at least one document.")
    if not available:
        raise MixtureError("no domain has any document: an empty pool has no mixture.")
    if not (math.isfinite(repeats_max) and repeats_max > 0):
        raise MixtureError(f"repeats_max={repeats_max}: it must be a finite number above 0.")
    negative = [f"{name}={count}" for name, count in available.items() if count < 0]
    if negative:
        raise MixtureError(f"available documents must be counts >= 0, not {name_some(negative)}.")


def _fill(shape: Floats, low: Floats, high: Floats, mass: float) -> Floats:
    """Solve ``sum clip(s * shape, low, high) = mass`` for s by its sorted breakpoints."""
    breakpoints = np.unique(np.concatenate([low / shape, high / shape]))
    totals = np.clip(breakpoints[:, None] * shape, low, high).sum(axis=1)
    if mass <= totals[0]:
        return low.copy()
    if mass >= totals[-1]:
        return high.copy()
    after = int(np.searchsorted(totals, mass))
    before = after - 1
    part = (mass - totals[before]) / (totals[after] - totals[before])
    scale = breakpoints[before] + part * (breakpoints[after] - breakpoints[before])
    filled: Floats = np.clip(scale * shape, low, high)
    return filled


def _is_share(share: object) -> bool:
    if isinstance(share, bool) or not isinstance(share, (int, float, np.integer, np.floating)):
        return False
    return math.isfinite(float(share)) and 0.0 <= float(share) <= 1.0 + SUM_TOLERANCE
