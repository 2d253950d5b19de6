from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.coordinates import NAMES, make_coordinates, move_share, tabulate_moves, to_log
from causalmix.errors import AnalysisError

SHARES = st.integers(2, 39).flatmap(
    lambda k: st.lists(st.floats(1e-3, 1.0), min_size=k, max_size=k).map(lambda v: np.array(v) / sum(v))
)


@given(SHARES, st.sampled_from(NAMES), st.sampled_from([0.0, 1e-3]))
def test_coordinates_round_trip(shares, name, offset):
    coordinates = make_coordinates(name, len(shares), offset)
    Z = coordinates.transform(shares)
    assert Z.shape == (len(shares) - (name not in ("log", "ilr_even")),)
    assert np.allclose(coordinates.inverse(Z), shares, atol=1e-10)
    assert np.allclose(coordinates.inverse(np.stack([Z, Z])), shares, atol=1e-10)


@given(SHARES, st.sampled_from(NAMES))
def test_the_jacobian_is_the_derivative(shares, name):
    coordinates, step = make_coordinates(name, len(shares)), 1e-6
    numeric = np.stack(
        [
            (coordinates.transform(shares + step * e) - coordinates.transform(shares - step * e)) / (2 * step)
            for e in np.eye(len(shares))
        ],
        axis=1,
    )
    assert np.allclose(coordinates.jacobian(shares), numeric, rtol=1e-3, atol=1e-6)


@given(SHARES, st.sampled_from(NAMES), st.integers(0, 10))
def test_lifted_effects_say_what_effects_on_the_coordinates_say(shares, name, seed):
    coordinates = make_coordinates(name, len(shares))
    effects = np.random.default_rng(seed).normal(size=coordinates.basis.shape[1])
    lifted = coordinates.lift(effects)
    assert np.isclose(effects @ coordinates.transform(shares), lifted @ coordinates.embed(shares))
    covariance = coordinates.lift_covariance(np.outer(effects, effects))
    assert np.allclose(covariance, np.outer(lifted, lifted))


def test_moving_share_reads_as_the_formula_says():
    theta, q = np.array([2.0, -1.0, 0.5]), np.array([0.2, 0.3, 0.5])
    expected = 2.0 * np.log(1 + 0.05 / 0.2) + -1.0 * np.log(1 - 0.05 / 0.3)
    assert move_share(theta, q, source=1, destination=0, delta=0.05) == pytest.approx(expected)
    assert np.isnan(move_share(theta, q, source=0, destination=1, delta=0.2))
    table = tabulate_moves(lambda mixtures: np.log(mixtures) @ theta, q, 0.05)
    assert np.isnan(tabulate_moves(lambda mixtures: np.log(mixtures) @ theta, q, 0.2)[0, 1:]).all()
    assert table[1, 0] == pytest.approx(expected)
    assert np.all(np.diag(table) == 0)


def test_raw_shares_are_refused_with_the_reason():
    with pytest.raises(AnalysisError, match="raw shares sum to one, so their effects are not identified"):
        make_coordinates("raw", 5)
    with pytest.raises(AnalysisError, match=r"lgo \(did you mean 'log'\?\); allowed: log"):
        make_coordinates("lgo", 5)


def test_a_zero_share_is_refused():
    with pytest.raises(AnalysisError, match=r"target\.floor.*estimator\.log_offset"):
        to_log(np.array([0.0, 1.0]))
