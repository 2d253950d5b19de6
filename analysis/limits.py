"""Limits that a user sets: least and largest shares of a domain, least gains of an ability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.mappings import is_number, parse_text
from analysis.roles import Roles
from causalmix.config import OutcomeConfig
from causalmix.errors import AnalysisError, MixtureError, name_some, nearest_name
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]


def join_limits(box: Box, floors: object, caps: object, least: float) -> Box:
    """Join the user's limits with those of the pool.

    Parameters
    ----------
    box : Box
        What the pool can give at the target's size; its floors are not read.
    floors : mapping of str to float, or None
        ``target.floors``: least share of a domain, in the place of the general one.
    caps : mapping of str to float, or None
        ``target.caps``: largest share; the smaller of this and the pool's own holds.
    least : float
        The general floor, for domains that ``floors`` does not name.

    Returns
    -------
    Box

    Raises
    ------
    AnalysisError
        Unknown domains, or no shares from 0 to 1.
    MixtureError
        A floor above its cap, floors that sum above one or caps that sum below one; each offender is named.
    """
    given = {key: _read_numbers(value, key, box.domains, "domain") for key, value in _name_limits(floors, caps)}
    wrong = [f"{key}.{name}={v:g}" for key, limits in given.items() for name, v in limits.items() if not 0 <= v <= 1]
    if wrong:
        raise AnalysisError(f"{name_some(wrong)}: a limit is a share from 0 to 1.")
    asked = [given["target.floors"].get(name, least) for name in box.domains]
    floor = np.array(asked, dtype=np.float64)
    cap = np.array([min(given["target.caps"].get(name, 1.0), most) for name, most in zip(box.domains, box.cap)])
    _require_mixture(box, floor, cap)
    return Box(box.domains, floor, cap)


def read_constraints(cfg: OutcomeConfig, roles: Roles) -> dict[str, float]:
    """Return ``outcome.constraints``: the least gain over the reference of an ability, points.

    Raises
    ------
    AnalysisError
        No mapping of numbers, or an ability that is not fitted on its own.
    """
    if not cfg.constraints:
        return {}
    names = roles.outcome_names
    if len(names) == 1 and not cfg.weights:
        raise AnalysisError(
            f"outcome.constraints: the fit has one outcome, {names[0]}, and a constraint needs its ability fitted on "
            "its own: outcome.name=avg_dev, estimator.per_outcome=true, and outcome.<ability> columns in the table."
        )
    constraints = parse_text(cfg.constraints)
    if cfg.weights and isinstance(constraints, Mapping):
        left_out = [str(name) for name in constraints if str(name) not in names]
        if left_out:
            extra = ", ".join(f"{name}: 0" for name in left_out)
            raise AnalysisError(
                f"outcome.constraints: {name_some(left_out)} is not among the fitted outcomes ({name_some(names)}); "
                f"add it to outcome.weights with a weight of 0 ({extra}) if the table has it."
            )
    return _read_numbers(constraints, "outcome.constraints", names, "ability")


def _name_limits(floors: object, caps: object) -> list[tuple[str, object]]:
    return [("target.floors", floors), ("target.caps", caps)]


def _read_numbers(given: object, key: str, allowed: Sequence[str], what: str) -> dict[str, float]:
    """Read ``{name: number}``; names and numbers that cannot be are all named."""
    given = parse_text(given)
    if given is None or (isinstance(given, Mapping) and not given):
        return {}
    if not isinstance(given, Mapping):
        raise AnalysisError(f"{key}={given!r}: a mapping is wanted, for example '{key}={{{allowed[0]}: 0.1}}'.")
    named = {str(name): value for name, value in given.items()}
    unknown = [name for name in named if name not in allowed]
    if unknown:
        offenders = name_some(f"'{name}'{nearest_name(name, allowed)}" for name in unknown)
        raise AnalysisError(f"{key}: unknown {what} {offenders}; allowed: {name_some(allowed, 50)}.")
    wrong = [f"{name}={value!r}" for name, value in named.items() if not is_number(value)]
    if wrong:
        raise AnalysisError(f"{key}: {name_some(wrong)}; finite numbers are wanted.")
    return {name: float(value) for name, value in named.items()}


def _require_mixture(box: Box, floor: Floats, cap: Floats) -> None:
    crossed = [f"{n} ({low:g} > {high:.4g})" for n, low, high in zip(box.domains, floor, cap) if low > high]
    if crossed:
        raise MixtureError(
            f"no mixture keeps the limits: the floor is above the cap of {name_some(crossed)}. A cap is the smaller "
            "of target.caps and what the pool's documents allow at target.n_samples with target.repeats_max repeats; "
            "lower target.floors (or target.floor), or raise the cap."
        )
    for values, sign, key in ((floor, 1.0, "floors"), (cap, -1.0, "caps")):
        total = math.fsum(values)
        if sign * (total - 1.0) > 1e-12:
            named = name_some(f"{name} {value:.4g}" for name, value in zip(box.domains, values))
            side, mend = ("above", "lower") if sign > 0 else ("below", "raise")
            raise MixtureError(
                f"no mixture keeps the limits: the {key} sum to {total:.4g}, {side} 1 ({named}); {mend} target.{key}."
            )
