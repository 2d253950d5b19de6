"""The state of the target's pool: by hand, from a state file, or the runs' own mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.mappings import is_number, read_mapping
from analysis.roles import Roles
from causalmix.config import TargetConfig
from causalmix.errors import AnalysisError, RecordError, name_some, nearest_name
from causalmix.files import read_json


def list_known_states(targets: Sequence[TargetConfig], state_names: Sequence[str]) -> list[str] | None:
    """Return the states that every target with a state gives, or None where the runs' mean stands in for all.

    Raises
    ------
    AnalysisError
        A state given by hand that is none of ``state_names``, the table's.
    """
    known: list[str] | None = None
    for cfg in targets:
        state_file = find_state_file(cfg)
        if not cfg.state and not state_file:
            continue
        given = cfg.state or read_state_file(str(state_file))["state"]
        flat = flatten_state(read_mapping(given, "target.state"))
        if cfg.state:
            _refuse_unknown(flat, state_names, "target.state")
        known = [name for name in flat if known is None or name in known]
    return known


def flatten_state(given: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{hes: {math: .1}}`` into ``{hes.math: .1}``: both spellings are understood."""
    flat: dict[str, Any] = {}
    for name, value in given.items():
        inner = {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
        flat |= inner
    return flat


def find_state_file(cfg: TargetConfig) -> str | None:
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


def read_state_file(path: str) -> dict[str, Any]:
    """Read a pool's ``state.json``.

    Raises
    ------
    AnalysisError
        No such file, or one that holds no state.
    """
    wanted = "a pool's state.json is wanted, with the object 'state'; write one with `causalmix pool state`."
    if not Path(path).is_file():
        raise AnalysisError(f"target.state_file={path}: no such file; {wanted}")
    try:
        content = read_json(Path(path))
    except RecordError as error:
        raise AnalysisError(f"target.state_file={path}: it is not JSON ({error.__cause__}); {wanted}") from error
    state = content.get("state") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        raise AnalysisError(f"target.state_file={path}: it holds no state; {wanted}")
    return dict(content)


def read_state(
    cfg: TargetConfig,
    measured: Mapping[str, Any],
    roles: Roles,
    state_names: Sequence[str],
    notes: list[str],
) -> dict[str, float]:
    """Return the target's state by name, and note where the runs' mean stands in for it.

    Raises
    ------
    AnalysisError
        A state given twice, unknown, incomplete, or not finite.
    """
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
    wrong = [f"{name}={value!r}" for name, value in given.items() if not is_number(value)]
    if wrong:
        raise AnalysisError(f"{source}: {name_some(wrong)}; finite numbers are wanted, in the table's own units.")
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
