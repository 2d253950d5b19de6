"""What is wrong with a config whatever the runs are, and the targets that it names."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from analysis.checks.run import check_allowed
from analysis.mappings import read_mapping
from analysis.policies.propose import check_kind
from causalmix.config import AnalysisConfig, TargetConfig
from causalmix.errors import ConfigError, name_some, nearest_name

AT_LEAST = {
    "seed": 0,
    "estimator.seed": 0,
    "policy.seed": 0,
    "n_refits": 0,
    "n_placebo": 0,
    "n_threads": 1,
    "estimator.n_trees": 1,
    "estimator.min_samples_leaf": 1,
    "estimator.max_search": 0,
    "estimator.log_offset": 0,
    "policy.kappa": 0,
}


_FREE = ("state", "available", "floors", "caps", "reference_weights")  # mappings; read and checked where they are used


def check_settings(cfg: AnalysisConfig) -> None:
    """Refuse what is wrong with a config whatever the runs are.

    Raises
    ------
    ConfigError
        A check that does not exist, a number out of range.
    AnalysisError
        An unknown policy or baseline.
    """
    check_allowed(cfg.allow_failed_checks)
    check_kind(cfg.policy.kind, "policy.kind")
    for name in cfg.baselines:
        check_kind(name, "baselines")
    if not 0.5 <= cfg.confidence < 1:
        raise ConfigError(f"confidence={cfg.confidence}: from .5 to below 1, for example .95.")
    if not 0 < cfg.estimator.max_samples <= 0.5:
        raise ConfigError(
            f"estimator.max_samples={cfg.estimator.max_samples}: above 0 and at most .5, for a forest's variance is "
            "read off trees grown on halves."
        )
    given = {key: _look_up(cfg, key) for key in AT_LEAST}
    wrong = [f"{key}={v} (at least {AT_LEAST[key]})" for key, v in given.items() if v is not None and v < AT_LEAST[key]]
    if wrong:
        raise ConfigError(f"numbers out of range: {name_some(wrong)}.")


def check_folder(path: Path) -> None:
    """Refuse a folder that answers cannot be written to, before the fit rather than after it."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        what = "cannot be written to" if there.is_dir() else "is no folder"
        raise ConfigError(f"output_dir={path}: {there} {what}; name another folder.")


def read_targets(cfg: AnalysisConfig) -> dict[str, TargetConfig]:
    """Return the targets by folder: those of ``targets``, each on top of ``target``, or ``target`` alone.

    Raises
    ------
    ConfigError
        A name that is no folder's, a key that a target does not have, or a value of another type.
    """
    if not cfg.targets:
        return {"": cfg.target}
    targets = {}
    for name, changes in read_mapping(cfg.targets, "targets").items():
        if not name.replace("_", "").replace("-", "").replace(".", "").isalnum() or name.startswith("."):
            raise ConfigError(f"targets: '{name}' names a folder: letters, digits, '_', '-' and '.' are allowed.")
        targets[name] = _read_target(cfg.target, read_mapping(changes, f"targets.{name}"), f"targets.{name}")
    return targets


def _read_target(base: TargetConfig, changes: dict[str, Any], source: str) -> TargetConfig:
    allowed = [item.name for item in dataclasses.fields(TargetConfig)]
    unknown = [key for key in changes if key not in allowed]
    if unknown:
        named = name_some(f"'{key}'{nearest_name(key, allowed)}" for key in unknown)
        raise ConfigError(f"{source}: no key {named}; allowed: {', '.join(allowed)}.")
    try:
        typed: Any = OmegaConf.merge(OmegaConf.structured(TargetConfig), changes)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{source}: {str(error).splitlines()[0]} ({error.full_key}).") from error
    return dataclasses.replace(base, **{key: changes[key] if key in _FREE else typed[key] for key in changes})


def _look_up(cfg: AnalysisConfig, key: str) -> Any:
    value: Any = cfg
    for part in key.split("."):
        value = getattr(value, part)
    return value
