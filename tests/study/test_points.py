"""The runs of a study: who shares a pool with whom, and what differs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from causalmix.run.identity import describe_identity, make_run_id
from causalmix.run.proxy import spawn_integer
from causalmix.study.points import list_anchors, list_proxies, make_confirmation, make_target
from causalmix.sweep.points import to_config
from tests.plain import make_plain

TARGETS = {"swap": {"math": {"hes": 1.0}}, "back": {"coding": {"hes": 1.0}}}


@pytest.fixture
def plain() -> dict[str, Any]:
    plain = make_plain()
    plain["study"].update(n_proxies=5, n_anchor_mixtures=3, n_replicates=2, targets=copy.deepcopy(TARGETS))
    plain["study"]["confirm_model"] = {**plain["model"], "name": "small", "hidden_size": 96}
    return plain


def run_id(point: dict[str, Any]) -> str:
    return make_run_id(describe_identity(point, "0" * 16))


def test_every_proxy_has_a_pool_a_mixture_and_a_training_of_its_own(plain: dict[str, Any]) -> None:
    proxies = list_proxies(plain)
    assert [point["seed"] for point in proxies] == [0, 1, 2, 3, 4]
    assert {point["cohort"] for point in proxies} == {"signal"}
    for stream in ("state", "design", "training"):
        assert len({spawn_integer(to_config(point), stream) for point in proxies}) == 5


def test_anchors_share_one_pool_and_repeat_their_mixtures(plain: dict[str, Any]) -> None:
    anchors = list_anchors(plain)
    assert [(point["seed"], point["replicate"]) for point in anchors] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1),
    ]  # fmt: skip
    assert len({point["pool"]["candidate"]["seed"] for point in anchors}) == 1
    assert anchors[0]["pool"]["candidate"]["seed"] is not None
    designs = [spawn_integer(to_config(point), "design") for point in anchors]
    assert len(set(designs)) == 3
    assert designs[0] == designs[1]
    assert len({spawn_integer(to_config(point), "training") for point in anchors}) == 6


def test_no_anchor_is_a_proxy(plain: dict[str, Any]) -> None:
    assert not {run_id(point) for point in list_anchors(plain)} & {run_id(point) for point in list_proxies(plain)}


def test_runs_on_a_target_share_its_one_pool(plain: dict[str, Any]) -> None:
    points = [
        make_confirmation(plain, target, {"math": 1.0}, size, seed)
        for target in TARGETS
        for size in (2, 8)
        for seed in range(3)
    ]
    for target, tau in TARGETS.items():
        pools = [point["pool"]["candidate"] for point in points if point["pool"]["candidate"]["tau"] == tau]
        assert len(pools) == 6, target
        assert all(pool == pools[0] for pool in pools)
        assert (pools[0]["kind"], pools[0]["seed"]) == ("fixed", 0)
    assert make_target(plain, "swap")["pool"]["candidate"] == points[0]["pool"]["candidate"]
    assert len({run_id(point) for point in points}) == len(points)


def test_a_confirmation_is_larger_and_trains_a_fixed_mixture(plain: dict[str, Any]) -> None:
    point = make_confirmation(plain, "swap", {"math": 0.25, "coding": 0.75}, 2, seed=1)
    assert point["model"]["hidden_size"] == 96
    assert point["train"]["n_samples"] == 2 * plain["train"]["n_samples"]
    assert (point["mixture"]["kind"], point["mixture"]["weights"]) == (
        "fixed",
        {"math": 0.25, "coding": 0.75},
    )
    assert (point["seed"], point["cohort"]) == (1, "confirmation")


def test_a_confirmation_says_what_chose_its_mixture_and_is_the_same_run(plain: dict[str, Any]) -> None:
    named, bare = (make_confirmation(plain, "swap", {"math": 1.0}, 2, 1, *arm) for arm in (("regmix for swap",), ()))
    assert (named["mixture"]["name"], bare["mixture"]["name"]) == ("regmix for swap", "fixed")
    assert run_id(named) == run_id(bare)


def test_nothing_changes_the_study_itself(plain: dict[str, Any]) -> None:
    before = copy.deepcopy(plain)
    list_proxies(plain)
    list_anchors(plain)
    make_confirmation(plain, "back", {"math": 1.0}, 2, 0)
    assert plain == before
