"""What a second model finds ready of lm-eval's tasks: the requests made for the first."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def keep_requests(task: Any) -> None:
    """Let a task make its requests once, and forget nothing but their responses between models.

    lm-eval renders every prompt again for every model, and reads the source of the task's functions to describe it.

    Parameters
    ----------
    task : Task
        Asked with the same options every time, as one :class:`~causalmix.evaluate.evaluator.Evaluator` does.
    """
    build = task.build_all_requests

    def clear(**_: Any) -> None:
        for instance in task.instances:
            instance.resps, instance.filtered_resps = [], {}

    def build_once(**options: Any) -> None:
        build(**options)
        task.build_all_requests = clear

    task.build_all_requests = build_once
    task.dump_config = lru_cache(maxsize=1)(task.dump_config)
