"""Which runs a worker trains as one computation: those whose models and steps have the same shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from causalmix.files import fingerprint

OWN = (
    *("name", "n_samples", "n_epochs", "packing_window", "too_long"),
    *("lr_peak", "lr_final_fraction", "warmup_fraction", "weight_decay", "beta1", "beta2", "grad_clip"),
    *("checkpoint_every", "keep_checkpoints", "log_every", "rescored_documents"),
)
"""Keys of ``train`` in which runs of one group may differ: each has its own documents, schedule and optimiser."""

AUTO_RUNS = 8  # more gain little: benchmarks/batched.py
AUTO_NUMBERS = 2**13  # of a pass's hidden states, above which a CPU computes as long as calls take: the same benchmark


def form_groups(run_ids: Sequence[str], entries: Mapping[str, dict[str, Any]], n_workers: int) -> list[list[str]]:
    """Put runs together, up to ``train.batch_runs`` of them; no worker is left idle for the sake of larger groups.

    Parameters
    ----------
    run_ids : sequence of str
    entries : mapping
        Run -> its entry in the table of points.
    n_workers : int
        That share the runs.

    Returns
    -------
    list of list of str
        Every run once; in the order of their first ones.
    """
    alike: dict[str, list[str]] = {}
    for run_id in run_ids:
        alike.setdefault(find_kind(entries[run_id]) or run_id, []).append(run_id)
    groups = []
    for found in alike.values():
        size = min(count_together(entries[found[0]]["plain"]), math.ceil(len(found) / max(1, n_workers)))
        groups += [found[at : at + size] for at in range(0, len(found), size)]
    places = {run_id: at for at, run_id in enumerate(run_ids)}
    return sorted(groups, key=lambda group: places[group[0]])


def describe_groups(groups: Sequence[Sequence[str]], asked: int | str) -> str | None:
    """Say how many runs train together and how many alone; None where nobody asked."""
    if asked == 1:
        return None
    shared = [group for group in groups if len(group) > 1]
    n_alone = len(groups) - len(shared)
    together = f"{sum(map(len, shared))} runs train in {len(shared)} groups of up to {max(map(len, shared), default=1)}"
    return f"train.batch_runs={asked}: {together}, {n_alone} alone"


def find_kind(entry: Mapping[str, Any]) -> str | None:
    """Name what a run shares with those that it can be trained with; None for one that trains alone."""
    plain = entry["plain"]
    if count_together(plain) == 1:
        return None
    shared = {key: value for key, value in plain["train"].items() if key not in OWN}
    return fingerprint([plain["model"], shared, entry["pool_dir"], entry["base_dir"]])


def count_together(plain: Mapping[str, Any]) -> int:
    """Read ``train.batch_runs``; a run that must train alone has 1, and so has ``auto`` where more would not pay."""
    train, model = plain["train"], plain["model"]
    asked = train["batch_runs"]
    if asked == 1 or list_obstacles(plain):
        return 1
    if asked != "auto":
        return int(asked)
    if model["source"] != "config":
        return 1
    n_rows = train["rows_per_pass"] or train["batch_rows"]
    return AUTO_RUNS if n_rows * train["max_length"] * model["hidden_size"] <= AUTO_NUMBERS else 1


def list_obstacles(plain: Mapping[str, Any]) -> list[str]:
    """Say what keeps a run from being trained together with others, and how to mend it."""
    train, resources = plain["train"], plain["resources"]
    found = {
        f"resources.ranks={resources['ranks']} (a run is one process's: resources.ranks=1)": resources["ranks"] > 1,
        "mixture.kind=odm (it waits for its own losses)": plain["mixture"]["kind"] == "odm",
        "job=stages (it is one training)": plain["job"] == "stages",
        f"train.lora.dropout={train['lora']['dropout']} (one generator for all runs: 0)": train["lora"]["dropout"] > 0,
        "train.compile=true (it wants fixed shapes: false)": train["compile"],
        "train.attention=flex (it wants fixed shapes: auto)": train["attention"] == "flex",
        "train.profile=true (a trace is of one run: false)": train["profile"],
    }
    return [what for what, is_so in found.items() if is_so]
