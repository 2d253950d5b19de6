"""Tasks of a pool's held-out documents, settled before anything is submitted."""

from __future__ import annotations

from typing import Any

import pytest

from causalmix.cli import compose_config
from causalmix.errors import EvaluateError
from causalmix.sweep.held_out import settle_tasks

HELDOUT = {"chat": 60, "code": 60, "math": 60}


def compose(*overrides: str) -> dict[str, Any]:
    return compose_config(["pool=jsonl", "pool.path=x", *overrides])


def test_every_task_of_the_pool_is_an_ability_where_none_is_named() -> None:
    plain = compose("evaluate=heldout")
    settled = settle_tasks(plain, HELDOUT)
    assert settled["evaluate"]["dev"] == {"chat": ["chat"], "code": ["code"], "math": ["math"]}
    assert plain["evaluate"]["dev"] == {}, "what was given stays as it was"
    assert {**settled, "evaluate": None} == {**plain, "evaluate": None}


def test_tasks_that_the_pool_does_not_have_are_named_before_a_run_begins() -> None:
    with pytest.raises(EvaluateError) as caught:
        settle_tasks(compose("evaluate=pool"), HELDOUT)
    said = str(caught.value)
    assert "evaluate=pool asks for" in said
    assert "coding (did you mean 'code'?)" in said
    assert "it has chat, code, math. evaluate=heldout takes them all" in said
    assert "math," not in said.partition("it has")[0], "what is there is not named"
    with pytest.raises(EvaluateError, match=r"holds no documents out: set pool\.heldout_path"):
        settle_tasks(compose("evaluate=heldout"), {})


def test_other_tasks_are_not_the_pools_affair() -> None:
    plain = compose("evaluate=qwen_sft")
    assert settle_tasks(plain, {}) is plain
    plain = compose("evaluate=pool")
    tasks = [task for split in ("dev", "unseen") for tasks in plain["evaluate"][split].values() for task in tasks]
    assert settle_tasks(plain, dict.fromkeys(tasks, 3)) is plain
