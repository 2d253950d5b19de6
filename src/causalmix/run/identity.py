"""What makes two runs the same run: everything that changes the result, nothing of where it ran."""

from __future__ import annotations

import re
from typing import Any

from causalmix.files import fingerprint

IDENTITY_VERSION = 2
"""Raised when the same settings would give another result, so that old records are not reused."""

TRAINED = re.compile(r"runs/([0-9a-f]{16})/model/?$")

_GROUPS = ("model", "mixture", "train", "evaluate")
_WITHOUT_EFFECT = {
    "model": ("name",),
    "mixture": ("name", "file", "use_candidate"),  # a file's weights are read in at submission
    "train": (
        "name",
        "checkpoint_every",
        "keep_checkpoints",
        "log_every",
        "device",
        "attention",
        "head_budget_mib",
        "recompute",
        "compile",
        "profile",
        "batch_runs",
    ),
    "evaluate": ("name", "batch_size", "allow_code_execution"),
}
# Keys that came later count where they are not what every earlier run had: no earlier id moves.
_LATER = {
    "train": {"rescored_documents": 0, "packing_window": 4096, "too_long": "truncate", "half_weights": False},
}
# A kind's own keys alone: a key that another kind reads, or a new one, moves no id.
_MIXTURE_KEYS = {
    "dirichlet": ("kind", "prior", "concentration_min", "concentration_max", "floor", "repeats_max"),
    "dirichlet_confounded": (
        "kind",
        "prior",
        "concentration_min",
        "concentration_max",
        "floor",
        "repeats_max",
        "confounding",
        "confounding_feature",
    ),
    "grid": ("kind", "levels", "design_seed", "floor", "repeats_max"),
    "sobol": ("kind", "design_seed", "floor", "repeats_max"),
    "optimal": ("kind", "n_points", "design_seed", "floor", "repeats_max"),
    "perturbation": ("kind", "repeats_max"),
    "regmix": ("kind", "prior", "design_seed", "floor", "repeats_max"),
    "equal": ("kind", "repeats_max"),
    "natural": ("kind", "repeats_max"),
    "fixed": ("kind", "weights", "repeats_max"),
    "odm": ("kind", "odm_rule", "odm_memory", "repeats_max"),
}


def describe_identity(config: dict[str, Any], pool_fingerprint: str) -> dict[str, Any]:
    """Return the settings that a run's result depends on.

    Parameters
    ----------
    config : dict
        The resolved config of one run (the fields of :class:`causalmix.config.Config`).
    pool_fingerprint : str
        Content hash of the prepared pool; it stands for the pool's own settings.

    Returns
    -------
    dict
        Nested plain values, shared with ``config``. Cluster, resources, tracker, paths, cohort and verbosity
        are absent; a policy's weights count as the numbers they are, so a fixed mixture of the same
        numbers is the same run.
    """
    identity: dict[str, Any] = {"version": IDENTITY_VERSION}
    for group in _GROUPS:
        ignored, later = _WITHOUT_EFFECT[group], _LATER.get(group, {})
        identity[group] = {
            key: value
            for key, value in config[group].items()
            if key not in ignored and not (key in later and value == later[key])
        }
    identity["model"]["path"] = _name_model(identity["model"]["path"])
    kind = "fixed" if config["mixture"]["kind"] == "policy" else config["mixture"]["kind"]
    identity["mixture"] = {key: config["mixture"][key] for key in _MIXTURE_KEYS[kind]} | {"kind": kind}
    weights = identity["mixture"].get("weights")
    if isinstance(weights, dict):  # 1 and 1.0 are one share
        identity["mixture"]["weights"] = {domain: _as_float(share) for domain, share in weights.items()}
    identity["pool"] = {
        "fingerprint": pool_fingerprint,
        "candidate": config["pool"]["candidate"],
    }
    identity["seed"] = config["seed"]
    identity["replicate"] = config["replicate"]
    return identity


def make_run_id(identity: dict[str, Any]) -> str:
    """Hash an identity into the run's id: directory name, W&B id and key of the runs table."""
    return fingerprint(identity, length=16)


def _name_model(path: str | None) -> str | None:
    """Name a model that a run trained by the run: its id says all, and its folder may move."""
    found = TRAINED.search(path or "")
    return f"run {found[1]}" if found else path


def _as_float(value: Any) -> Any:
    return float(value) if isinstance(value, int) else value
