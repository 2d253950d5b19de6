from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.coordinates import check_coordinates, from_log, log_jacobian, move_share, tabulate_moves, to_log
from causalmix.errors import AnalysisError

SHARES = st.integers(2, 39).flatmap(
    lambda k: st.lists(st.floats(1e-3, 1.0), min_size=k, max_size=k).map(lambda v: np.array(v) / sum(v))
)


@given(SHARES, st.sampled_from([0.0, 1e-3]))
def test_log_coordinates_round_trip(shares, offset):
    assert np.allclose(from_log(to_log(shares, offset), offset), shares, atol=1e-12)


@given(SHARES)
def test_the_jacobian_is_the_derivative(shares):
    step = 1e-6
    numeric = np.stack(
        [(to_log(shares + step * e) - to_log(shares - step * e)) / (2 * step) for e in np.eye(len(shares))]
    )
    assert np.allclose(log_jacobian(shares), numeric, rtol=1e-3, atol=1e-6)


def test_moving_share_reads_as_the_formula_says():
    theta, q = np.array([2.0, -1.0, 0.5]), np.array([0.2, 0.3, 0.5])
    expected = 2.0 * np.log(1 + 0.05 / 0.2) + -1.0 * np.log(1 - 0.05 / 0.3)
    assert move_share(theta, q, source=1, destination=0, delta=0.05) == pytest.approx(expected)
    assert np.isnan(move_share(theta, q, source=0, destination=1, delta=0.2))
    table = tabulate_moves(theta, q, 0.05)
    assert table[1, 0] == pytest.approx(expected)
    assert np.all(np.diag(table) == 0)


def test_raw_shares_are_refused_with_the_reason():
    with pytest.raises(AnalysisError, match="raw shares sum to one, so their effects are not identified"):
        check_coordinates("raw")
    with pytest.raises(AnalysisError, match=r"lgo \(did you mean 'log'\?\); allowed: log"):
        check_coordinates("lgo")


def test_a_zero_share_is_refused():
    with pytest.raises(AnalysisError, match=r"target\.floor.*estimator\.log_offset"):
        to_log(np.array([0.0, 1.0]))
