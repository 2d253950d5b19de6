"""The tasks of a pool's held-out documents, settled before anything is submitted: a run would only tell at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causalmix.errors import EvaluateError, name_some, nearest_name


def settle_tasks(plain: dict[str, Any], heldout: Mapping[str, int]) -> dict[str, Any]:
    """Check a config's tasks against what a pool holds out; where it names none, each of them is an ability.

    Parameters
    ----------
    plain : dict
        Resolved config.
    heldout : mapping
        Task -> documents, of the pool.

    Returns
    -------
    dict
        ``plain``, or a copy with ``evaluate.dev`` filled.

    Raises
    ------
    EvaluateError
        Naming every task that the pool does not have, and those that it has.
    """
    evaluate = plain["evaluate"]
    if evaluate["source"] != "pool":
        return plain
    if not heldout:
        raise EvaluateError("this pool holds no documents out: set pool.heldout_path and prepare the pool again.")
    if not evaluate["dev"]:
        return {**plain, "evaluate": {**evaluate, "dev": {task: [task] for task in sorted(heldout)}}}
    asked = [task for split in ("dev", "unseen") for tasks in evaluate[split].values() for task in tasks]
    missing = [f"{task}{nearest_name(task, heldout)}" for task in asked if task not in heldout]
    if missing:
        raise EvaluateError(
            f"evaluate={evaluate['name']} asks for tasks that the pool has no held-out documents of: "
            f"{name_some(missing)}; it has {name_some(heldout, 30)}. evaluate=heldout takes them all, or name yours in "
            f"a file conf/evaluate/NAME.yaml, as conf/evaluate/pool.yaml does."
        )
    return plain
