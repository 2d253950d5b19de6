"""A run is its settings, never where it ran: run_id moves only with what matters."""

import copy
from typing import Any

import pytest

from causalmix.mixture.designs.build import KINDS
from causalmix.run.identity import _MIXTURE_KEYS, describe_identity, make_run_id
from tests.plain import make_plain

POOL = "0123456789abcdef"


def run_id(plain: dict[str, Any], pool: str = POOL) -> str:
    return make_run_id(describe_identity(plain, pool))


def test_one_exact_id() -> None:
    """Old records are found again by this value: change it only together with IDENTITY_VERSION."""
    assert run_id(make_plain()) == "6eaee78635e1252e"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cluster.name", "elsewhere"),
        ("resources.n_workers", 7),
        ("tracker.mode", "disabled"),
        ("outputs", "other"),
        ("sweep_dir", "other"),
        ("cohort", "anchor"),
        ("train.log_every", 1),
        ("train.checkpoint_every", 5),
        ("train.keep_checkpoints", "all"),
        ("train.device", "cpu"),
        ("train.attention", "documents"),
        ("train.head_budget_mib", 64),
        ("train.recompute", True),
        ("train.compile", True),
        ("train.profile", True),
        ("evaluate.batch_size", 3),
        ("evaluate.allow_code_execution", True),
        ("pool.path", "moved/elsewhere"),
        ("pool.store_dir", "moved"),
        ("policy.rho", 0.1),
        ("estimator.n_trees", 8),
        ("model.name", "renamed"),
    ],
)
def test_where_it_ran_does_not_matter(path: str, value: object) -> None:
    assert run_id(change(make_plain(), path, value)) == run_id(make_plain())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("replicate", 1),
        ("model.hidden_size", 32),
        ("model.base.n_steps", 1),
        ("model.revision", "other"),
        ("mixture.floor", 0.01),
        ("mixture.concentration_max", 2.0),
        ("train.n_samples", 5),
        ("train.lr_peak", 1e-5),
        ("train.lora.rank", 2),
        ("train.packing_window", 0),
        ("train.too_long", "drop"),
        ("train.half_weights", True),
        ("evaluate.limit", 4),
        ("pool.candidate.tau_sd", 0.1),
    ],
)
def test_what_changes_the_result_changes_the_id(path: str, value: object) -> None:
    assert run_id(change(make_plain(), path, value)) != run_id(make_plain())


@pytest.mark.parametrize("kind", sorted(_MIXTURE_KEYS))
def test_a_run_is_moved_by_the_keys_of_its_own_design_alone(kind: str) -> None:
    plain = change(make_plain(), "mixture.kind", kind)
    others = {"levels": 9, "n_points": 99, "design_seed": 3, "confounding": 2.0, "concentration_min": 0.25}
    for key, value in others.items():
        moved = run_id(change(plain, f"mixture.{key}", value)) != run_id(plain)
        assert moved == (key in _MIXTURE_KEYS[kind]), key


def test_every_kind_of_mixture_has_its_keys() -> None:
    assert set(_MIXTURE_KEYS) | {"policy"} == set(KINDS)  # a policy is the fixed mixture it gave


def test_another_pool_is_another_run() -> None:
    assert run_id(make_plain(), "f" * 16) != run_id(make_plain())


def test_a_policy_is_the_numbers_it_gave() -> None:
    weights = {"math": 0.25, "coding": 0.75}
    fixed = change(change(make_plain(), "mixture.kind", "fixed"), "mixture.weights", weights)
    policy = change(fixed, "mixture.kind", "policy")
    assert run_id(fixed) == run_id(policy)


def test_the_order_of_keys_does_not_matter() -> None:
    plain = make_plain()
    shuffled = {key: plain[key] for key in reversed(list(plain))}
    assert run_id(shuffled) == run_id(plain)


def change(plain: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(plain)
    *parents, leaf = path.split(".")
    inner = changed
    for parent in parents:
        inner = inner[parent]
    assert leaf in inner
    inner[leaf] = value
    return changed
