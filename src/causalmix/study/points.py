"""The runs of a study: proxies, anchors, confirmations, as plain configs."""

from __future__ import annotations

import copy
from typing import Any

Plain = dict[str, Any]

ANCHOR_POOL_SEED = 1_000_003  # the one candidate pool of all anchor runs


def list_proxies(plain: Plain) -> list[Plain]:
    """Signal runs: one state, one mixture and one training seed each."""
    return [change(plain, seed=seed, cohort="signal") for seed in range(plain["study"]["n_proxies"])]


def list_anchors(plain: Plain) -> list[Plain]:
    """Anchor runs: a few mixtures on one fixed pool, each trained several times.

    The spread between their means against the spread within tells how much of an outcome is mixture
    and how much is the training seed.
    """
    study = plain["study"]
    pooled = copy.deepcopy(plain)
    pooled["pool"]["candidate"]["seed"] = ANCHOR_POOL_SEED
    return [
        change(pooled, seed=seed, replicate=replicate, cohort="anchor")
        for seed in range(study["n_anchor_mixtures"])
        for replicate in range(study["n_replicates"])
    ]


def make_target(plain: Plain, target: str) -> Plain:
    """Set the config's candidate pool to a named target pool: fixed tilts, one draw for all runs."""
    changed = copy.deepcopy(plain)
    changed["pool"]["candidate"].update(kind="fixed", tau=plain["study"]["targets"][target], seed=0)
    return changed


def make_confirmation(
    plain: Plain, target: str, weights: dict[str, float], size: int, seed: int, arm: str = "fixed"
) -> Plain:
    """One confirmation run: the larger model, more documents, a fixed mixture, on a target pool.

    ``arm`` names what chose the mixture; it becomes the table's ``design.name`` and is no part of a run's identity.
    """
    changed = make_target(plain, target)
    if plain["study"]["confirm_model"] is not None:
        changed["model"] = copy.deepcopy(plain["study"]["confirm_model"])
    changed["mixture"].update(name=arm, kind="fixed", weights=weights, file=None)
    changed["train"]["n_samples"] = size * plain["train"]["n_samples"]
    return change(changed, seed=seed, cohort="confirmation")


def list_shares(plain: Plain, target: str, size: int, seed: int) -> list[tuple[str, Plain]]:
    """Confirmation runs of the mixtures that need no fit: Equal and natural shares, each with its name."""
    points = []
    for share in plain["study"]["shares"]:
        point = make_confirmation(plain, target, {}, size, seed)
        point["mixture"] = {**point["mixture"], "name": share, "kind": share, "weights": None}
        points.append((share, point))
    return points


def change(plain: Plain, **values: Any) -> Plain:
    """Copy a config with other top-level values; groups are shared, so do not change them in place."""
    return {**plain, **values}
