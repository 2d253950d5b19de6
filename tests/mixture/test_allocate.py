import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.errors import MixtureError
from causalmix.mixture.allocate import allocate
from causalmix.mixture.simplex import feasible_box, project_to_box

PLENTY = 10**9


@st.composite
def mixtures(draw):
    raw = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=12).filter(lambda x: sum(x) > 0))
    return {f"d{k:02d}": value / sum(raw) for k, value in enumerate(raw)}


@settings(max_examples=300, deadline=None)
@given(mixtures(), st.integers(1, 10**6))
def test_counts_are_exact_and_within_one_of_the_quota(weights, size):
    available = dict.fromkeys(weights, PLENTY)
    counts = allocate(weights, size, available, 1.0)
    assert counts.dtype == np.int64
    assert counts.sum() == size
    assert np.all(np.abs(counts - size * np.array(list(weights.values()))) < 1 + 1e-5)
    assert all(count == 0 for count, share in zip(counts, weights.values()) if share == 0)


@settings(max_examples=150, deadline=None)
@given(mixtures(), st.integers(1, 5000), st.randoms(use_true_random=False))
def test_counts_follow_a_permutation_ties_included(weights, size, random):
    available = dict.fromkeys(weights, PLENTY)
    expected = dict(zip(available, allocate(weights, size, available, 1.0).tolist()))
    names = list(weights)
    random.shuffle(names)
    moved = dict.fromkeys(names, PLENTY)
    assert dict(zip(names, allocate(weights, size, moved, 1.0).tolist())) == expected


def test_counts_are_golden():
    available = {"a": 100, "b": 100, "c": 100}
    assert allocate(np.array([0.45, 0.45, 0.1]), 10, available, 1.0).tolist() == [5, 4, 1]
    assert allocate(np.array([1 / 3, 1 / 3, 1 / 3]), 100, available, 1.0).tolist() == [34, 33, 33]
    assert allocate(np.array([0.29, 0.29, 0.42]), 100, available, 1.0).tolist() == [29, 29, 42]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=6),
    st.floats(1.0, 4.0),
    st.floats(0.05, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_every_mixture_of_the_box_can_be_allocated(documents, repeats, part, seed):
    available = {f"d{k}": count for k, count in enumerate(documents)}
    total = sum(math.floor(count * repeats + 1e-9) for count in documents)
    size = max(1, int(total * part))
    box = feasible_box(size, available, repeats, 0.0)
    weights = project_to_box(np.random.default_rng(seed).dirichlet(np.full(len(documents), 0.3)) + 1e-9, box)
    counts = allocate(weights, size, available, repeats)
    assert all(count <= repeats * available[name] + 1e-6 for name, count in zip(available, counts))


def test_more_than_the_repeats_allow_names_the_domains():
    with pytest.raises(MixtureError) as caught:
        allocate({"a": 0.5, "b": 0.3, "c": 0.2}, 100, {"a": 10, "b": 5, "c": 100}, 4.0)
    message = str(caught.value)
    assert "a (50 asked; 10 documents x 4 repeats = 40)" in message
    assert "b (30 asked; 5 documents x 4 repeats = 20)" in message
    assert "c (" not in message
    assert "allow about 66" in message


@pytest.mark.parametrize(
    ("weights", "size", "message"),
    [
        (np.array([0.5, 0.6]), 10, "sum to 1.1"),
        (np.array([1.5, -0.5]), 10, "b=-0.5"),
        (np.array([np.nan, 1.0]), 10, "a=nan"),
        (np.array([1.0]), 10, "1 shares for 2 domains"),
        ({"a": 0.5, "z": 0.5}, 10, "unknown domain 'z'"),
        (np.array([0.5, 0.5]), 0, "n_samples=0"),
    ],
)
def test_hostile_input(weights, size, message):
    with pytest.raises(MixtureError) as caught:
        allocate(weights, size, {"a": 100, "b": 100}, 1.0)
    assert message in str(caught.value)


@pytest.mark.parametrize("repeats", [0.0, -1.0, math.nan, math.inf])
def test_repeats_that_mean_nothing(repeats):
    with pytest.raises(MixtureError, match="repeats_max"):
        allocate(np.array([1.0]), 10, {"a": 100}, repeats)
