"""What a page needs to compute theta(x), its covariance and gains by itself, as JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.estimators.gp.processes import Process
from analysis.estimators.judged import JudgedEffects
from analysis.estimators.linear import Basis, LinearEffects
from analysis.estimators.varying_coefficient_gp import ProcessEffects
from analysis.roles import Roles
from analysis.target import Target

Floats = NDArray[np.float64]


class Unexplorable(Exception):  # noqa: N818  -- an answer, not an error: the page says it
    """Why a page cannot compute an answer by itself."""


def describe_effects(effects: Effects, roles: Roles, target: Target) -> dict[str, Any]:
    """Describe a fit so that a page computes the same effects and gains from it.

    Exact at every state for families in closed form: least squares (coefficients) and the process (its runs,
    kernel and solution). Of any other the page gets a table: exact at the states of the runs and of the
    target, silent elsewhere.

    Raises
    ------
    Unexplorable
        A family whose gains are not ``d' theta`` and that has no closed form.
    """
    if effects.curve is not None:
        raise Unexplorable("The effects bend (estimator.curvature=true), which the page's rules do not know.")
    if isinstance(effects, LinearEffects) and isinstance(effects.basis, Basis):
        return _describe_linear(effects, effects.basis)
    if isinstance(effects, ProcessEffects):
        return _describe_process(effects)
    if isinstance(effects, JudgedEffects):
        own = describe_effects(effects.effects, roles, target)
        return {"kind": "judged", "effects": own, "judge": describe_effects(effects.judge, roles, target)}
    if type(effects).gain is Effects.gain:
        return _tabulate(effects, roles, target)
    raise Unexplorable(
        f"{type(effects).__name__.removesuffix('Effects')} effects come from boosted trees, which a page cannot ask."
    )


def pack(array: Floats) -> dict[str, Any]:
    """Return an array as base64 of its little-endian 64-bit floats, row by row: every digit, a third of the size."""
    return {
        "shape": list(array.shape),
        "base64": base64.b64encode(np.ascontiguousarray(array, dtype="<f8").tobytes()).decode("ascii"),
    }


def pack_symmetric(matrix: Floats) -> dict[str, Any]:
    """Return the lower triangle of a symmetric matrix (n, n), row by row."""
    return pack(matrix[np.tril_indices(len(matrix))])


def _describe_linear(effects: LinearEffects, basis: Basis) -> dict[str, Any]:
    return {
        "kind": "linear",
        "centre": basis.centre.tolist(),
        "scale": basis.scale.tolist(),
        "entries": basis.entries.tolist(),
        "beta": effects.beta.tolist(),
        "covariance": pack_symmetric(effects.beta_covariance),
    }


def _tabulate(effects: Effects, roles: Roles, target: Target) -> dict[str, Any]:
    states = np.vstack([target.x[None, :], roles.X])
    return {
        "kind": "table",
        "names": ["the target", *roles.run_ids],
        "states": pack(states),
        "theta": pack(effects.thetas(states)),
        "covariance": pack(effects.covariances(states)),
    }


def _describe_process(effects: ProcessEffects) -> dict[str, Any]:
    scale, points, kernel = effects.scale, effects.points, effects.kernel
    return {
        "kind": "process",
        "centre": scale.centre.tolist(),
        "spread": scale.spread.tolist(),
        "level": scale.level.tolist(),
        "z": scale.z,
        "y": scale.y,
        "X": pack(points.X),
        "R": pack(points.R),
        "Z": pack(points.Z),
        "columns": kernel.columns.tolist(),
        "smoothness": kernel.smoothness,
        "common": effects.common.size,
        "processes": [_describe_solution(effects, process) for process in effects.processes],
    }


def _describe_solution(effects: ProcessEffects, process: Process) -> dict[str, Any]:
    """Describe one set of hyper-parameters with its steps; outcomes enter as their weighted mean alone."""
    kernel, points, slopes = effects.kernel, effects.points, effects.slopes
    surface: Mapping[str, Any] = {}
    if kernel.has_surface:
        # What the surface adds to theta does not depend on the state.
        across = kernel.surface(process.values, points.Z, slopes.U) @ slopes.S
        own = slopes.S.T @ kernel.surface(process.values, slopes.U, slopes.U) @ slopes.S
        surface = {"across": pack(across), "own": own.tolist()}
    return {
        "values": process.values.tolist(),
        "inverse": pack_symmetric(process.solved.inverse),
        "alpha": pack(process.solved.alpha @ effects.weights),
        "surface": surface or None,
        "share": process.share,
        "steps": [_describe_step(process, int(row)) for row in process.jumps.rows],
        "mean": (process.jumps.mean @ effects.weights).tolist(),
        "covariance": pack_symmetric(process.jumps.covariance),
    }


def _describe_step(process: Process, row: int) -> dict[str, Any]:
    """Describe one coefficient of a step: of one coordinate's effect, or of the level (coordinate null)."""
    steps = process.steps
    n_coordinates = len(steps.columns)
    step, p = divmod(row, n_coordinates + 1)
    conditions = [
        {"feature": int(f), "threshold": float(cut), "above": bool(above)}
        for f, cut, above in zip(steps.features[step], steps.thresholds[step], steps.above[step])
        if f >= 0
    ]
    coordinate = p if p < n_coordinates else None
    return {"coordinate": coordinate, "conditions": conditions, "means": steps.means[step].tolist()}
