import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.errors import MixtureError
from causalmix.mixture.simplex import Box, default_floor, feasible_box, project_to_box, validate_weights

DOMAINS = ("coding", "math", "safety")


@st.composite
def boxes(draw):
    """A feasible box of 2 to 8 domains, with a reference that may have zeros."""
    size = draw(st.integers(2, 8))
    floor = draw(st.floats(0, 0.9)) / size
    cap = np.array(draw(st.lists(st.floats(floor, 1), min_size=size, max_size=size)))
    if cap.sum() < 1:
        cap = cap + (1.001 - cap.sum()) / size
    shares = draw(
        st.lists(st.floats(0, 1) | st.just(0.0), min_size=size, max_size=size).filter(lambda x: sum(x) > 1e-3)
    )
    box = Box(tuple(f"d{k}" for k in range(size)), np.full(size, floor), np.minimum(cap, 1.0))
    return np.array(shares), box


def test_weights_come_back_in_the_order_of_the_domains():
    weights = validate_weights({"safety": 0.5, "coding": 0.3, "math": 0.2}, DOMAINS)
    assert weights.tolist() == [0.3, 0.2, 0.5]


def test_rounding_in_a_file_is_divided_out():
    weights = validate_weights({"coding": 0.3333333, "math": 0.3333333, "safety": 0.3333333}, DOMAINS)
    assert math.fsum(weights) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"coding": 0.5, "math": 0.5, "safety": 0.1}, "sum to 1.1, not to 1"),
        ({"coding": 1.0, "math": 0.5, "safety": -0.5}, "safety=-0.5"),
        ({"coding": 0.5, "math": 0.5, "safety": math.nan}, "safety=nan"),
        ({"coding": 0.5, "math": 0.5, "safety": math.inf}, "safety=inf"),
        ({"coding": 0.5, "math": 0.5, "safety": "0"}, "safety='0'"),
        ({"coding": 0.5, "math": 0.5, "safety": True}, "safety=True"),
        ({"coding": 0.5, "mth": 0.5, "safety": 0.0}, "unknown domain 'mth' (did you mean 'math'?)"),
        ({"coding": 0.5, "math": 0.5}, "no share given for safety"),
        ({}, "no share given for coding, math, safety"),
    ],
)
def test_wrong_weights_are_named(weights, message):
    with pytest.raises(MixtureError) as caught:
        validate_weights(weights, DOMAINS)
    assert message in str(caught.value)


def test_all_faults_are_named_at_once():
    with pytest.raises(MixtureError) as caught:
        validate_weights({"cod": 0.5, "math": -1.0, "safety": math.nan}, DOMAINS)
    for part in ("'cod'", "coding", "math=-1.0", "safety=nan"):
        assert part in str(caught.value)


def test_default_floor_is_golden():
    assert [default_floor(k) for k in (2, 5, 10, 20, 40)] == [0.02, 0.02, 0.02, 0.01, 0.005]


def test_box_takes_caps_from_repeats():
    box = feasible_box(1000, {"coding": 100, "math": 1000}, 2.5)
    assert box.domains == ("coding", "math")
    assert box.floor.tolist() == [0.02, 0.02]
    assert box.cap.tolist() == [0.25, 1.0]


@pytest.mark.parametrize(
    ("size", "available", "floor", "message"),
    [
        (1000, {"a": 500, "b": 2}, None, "b (2 documents): too few for the floor"),
        (1000, {"a": 500, "b": 0}, 0.001, "b (0 documents)"),
        (1000, {"a": 200, "b": 100}, None, "(600: a 200, b 100)"),
        (10, {"a": 200, "b": 100}, 0.6, "floor=0.6 over 2 domains"),
        (10, {"a": 200, "b": 100}, math.nan, "floor=nan"),
        (0, {"a": 200}, None, "n_samples=0"),
        (10, {}, None, "empty pool"),
        (10, {"a": 5, "b": -3}, None, "b=-3"),
    ],
)
def test_infeasible_boxes_name_the_domains(size, available, floor, message):
    with pytest.raises(MixtureError) as caught:
        feasible_box(size, available, 2.0, floor)
    assert message in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(boxes())
def test_projection_lies_in_the_box_and_repeats_itself(case):
    reference, box = case
    once = project_to_box(reference, box)
    assert box.contains(once)
    np.testing.assert_allclose(project_to_box(once, box), once, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(boxes(), st.randoms(use_true_random=False))
def test_projection_follows_a_permutation(case, random):
    reference, box = case
    order = list(range(len(reference)))
    random.shuffle(order)
    moved = Box(tuple(box.domains[k] for k in order), box.floor[order], box.cap[order])
    np.testing.assert_allclose(
        project_to_box(reference[order], moved), project_to_box(reference, box)[order], atol=1e-9
    )


@settings(max_examples=60, deadline=None)
@given(boxes(), st.integers(0, 2**32 - 1))
def test_projection_is_nearest_in_kl(case, seed):
    reference, box = case
    reference = reference + 0.01
    best = project_to_box(reference, box)
    if not (best > 1e-12).all():
        return
    rng = np.random.default_rng(seed)
    for _ in range(20):
        other = project_to_box(rng.dirichlet(np.ones(len(best))) + 1e-6, box)
        assert reference @ np.log(np.maximum(other, 1e-300)) <= reference @ np.log(best) + 1e-9


def test_a_feasible_reference_is_left_alone():
    box = feasible_box(100, {"a": 100, "b": 100, "c": 100}, 1.0)
    reference = np.array([0.2, 0.3, 0.5])
    assert project_to_box(reference, box).tolist() == reference.tolist()


def test_projection_is_golden():
    box = Box(("a", "b", "c"), np.full(3, 0.02), np.array([1.0, 1.0, 0.2]))
    np.testing.assert_allclose(project_to_box(np.array([0.1, 0.3, 0.6]), box), [0.2, 0.6, 0.2], atol=1e-12)


def test_mass_over_the_caps_goes_to_domains_without_a_share():
    box = Box(("a", "b", "c"), np.zeros(3), np.array([0.4, 1.0, 1.0]))
    np.testing.assert_allclose(project_to_box(np.array([1.0, 0.0, 0.0]), box), [0.4, 0.3, 0.3])


@pytest.mark.parametrize("reference", [[0.0, 0.0], [math.nan, 1.0], [-1.0, 2.0], [1.0]])
def test_nothing_to_project_is_refused(reference):
    with pytest.raises(MixtureError, match="to project needs"):
        project_to_box(np.array(reference), feasible_box(10, {"a": 10, "b": 10}, 1.0))
