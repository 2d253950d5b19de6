"""Which runs are trained together, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalmix.errors import ConfigError
from causalmix.run.identity import describe_identity
from causalmix.sweep.groups import AUTO_RUNS, OWN, count_together, describe_groups, form_groups
from causalmix.sweep.settings import check_settings
from tests.plain import make_plain


def make_entry(run: int = 0, **changes: Any) -> dict[str, Any]:
    """One entry of a table of points; ``train__batch_runs=2`` changes that key."""
    plain = make_plain()
    plain["seed"] = run
    for name, value in changes.items():
        *path, last = name.split("__")
        node = plain
        for part in path:
            node = node[part]
        node[last] = value
    return {"plain": plain, "pool_dir": "pool", "base_dir": "base"}


def form(entries: list[dict[str, Any]], n_workers: int = 1) -> list[list[int]]:
    groups = form_groups(
        list(map(str, range(len(entries)))), {str(at): each for at, each in enumerate(entries)}, n_workers
    )
    return [list(map(int, group)) for group in groups]


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 20))
def test_every_run_once_and_no_worker_idle(size: int, n_workers: int, n_runs: int) -> None:
    groups = form([make_entry(run, train__batch_runs=size) for run in range(n_runs)], n_workers)
    assert [run for group in groups for run in group] == list(range(n_runs))
    assert max(map(len, groups)) <= size
    assert size == 1 or len(groups) >= min(n_workers, n_runs) or max(map(len, groups)) * n_workers <= n_runs + n_workers


def test_nobody_asked_and_every_run_trains_alone() -> None:
    assert form([make_entry(run) for run in range(4)]) == [[0], [1], [2], [3]]
    assert describe_groups([["0"], ["1"]], 1) is None


def test_shapes_must_agree_and_schedules_need_not() -> None:
    entries = [
        make_entry(0, train__batch_runs=4),
        make_entry(1, train__batch_runs=4, model__hidden_size=32),
        make_entry(2, train__batch_runs=4, train__lr_peak=1e-2, train__n_epochs=3),
        make_entry(3, train__batch_runs=4, train__max_length=64),
        make_entry(4, train__batch_runs=4, mixture__kind="odm"),
        make_entry(5, train__batch_runs=4, replicate=1, train__n_samples=70),
        make_entry(6, train__batch_runs=4, model__hidden_size=32),
        {**make_entry(7, train__batch_runs=4), "pool_dir": "another"},
    ]
    groups = form(entries)
    assert groups == [[0, 2, 5], [1, 6], [3], [4], [7]]
    told = describe_groups([list(map(str, group)) for group in groups], 4)
    assert told == "train.batch_runs=4: 5 runs train in 2 groups of up to 3, 3 alone"


def test_auto_follows_the_size_of_a_step() -> None:
    tiny = {"train__batch_rows": 1, "train__max_length": 64, "model__hidden_size": 32}
    assert count_together(make_entry(train__batch_runs="auto", **tiny)["plain"]) == AUTO_RUNS
    assert count_together(make_entry(train__batch_runs="auto")["plain"]) == 1, "the demo's proxy gains nothing"
    assert count_together(make_entry(train__batch_runs="auto", model__source="pretrained", **tiny)["plain"]) == 1
    assert count_together(make_entry(train__batch_runs="auto", resources__ranks=2, **tiny)["plain"]) == 1


def test_own_keys_are_keys() -> None:
    assert set(OWN) <= set(make_plain()["train"])


@pytest.mark.parametrize("value", [0, -1, 2.5, "many", None])
def test_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"train.batch_runs=.*: 1 or more runs trained together, or auto"):
        check_settings(make_entry(train__batch_runs=value)["plain"])


@pytest.mark.parametrize(
    ("changes", "mend"),
    [
        ({"resources__ranks": 2}, "resources.ranks=1"),
        ({"mixture__kind": "odm", "cohort": "confirmation"}, "its own losses"),
        ({"job": "stages"}, "one training"),
        ({"train__lora__dropout": 0.1}, "for all runs: 0"),
        ({"train__compile": True}, "fixed shapes: false"),
        ({"train__attention": "flex"}, "fixed shapes: auto"),
        ({"train__profile": True}, "of one run: false"),
    ],
)
def test_what_cannot_be_trained_together_is_refused_with_the_mend(changes: dict[str, Any], mend: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_settings(make_entry(train__batch_runs=4, **changes)["plain"])
    assert mend in str(refused.value)
    assert "or train.batch_runs=1, or auto" in str(refused.value)
    check_settings(make_entry(train__batch_runs=1, **changes)["plain"])
    check_settings(make_entry(train__batch_runs="auto", **changes)["plain"])


def test_it_is_no_part_of_a_run() -> None:
    plain = make_plain()
    changed = copy.deepcopy(plain)
    changed["train"]["batch_runs"] = "auto"
    assert describe_identity(plain, "pool") == describe_identity(changed, "pool")
