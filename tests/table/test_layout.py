"""Tables of text, and means over seeds."""

import math
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalmix.table.layout import to_html, to_latex, to_markdown
from causalmix.table.paired import estimate_mean, mean_and_se

ROWS = [["mixture", "dev"], ["causalmix_a & 5%", "1.00 ± 0.10"], ["<b>", "–"]]


def test_markdown():
    assert to_markdown(ROWS)[:3] == ["| mixture | dev |", "|---|---|", "| causalmix_a & 5% | 1.00 ± 0.10 |"]


def test_latex_escapes():
    lines = to_latex(ROWS, "50% of_all")
    assert r"\caption{50\% of\_all}" in lines
    assert r"\begin{tabular}{lr}" in lines
    assert r"causalmix\_a \& 5\% & 1.00 $\pm$ 0.10 \\" in lines


def test_html_is_well_formed_and_escaped():
    tree = ElementTree.fromstring("".join(to_html(ROWS, "a < b")))
    assert tree.find("caption").text == "a < b"
    assert [cell.text for cell in tree.iter("th")] == ["mixture", "dev", "causalmix_a & 5%", "<b>"]
    assert [cell.get("scope") for cell in tree.iter("th")] == ["col", "col", "row", "row"]


def test_t_interval_by_hand():
    """Three seeds: t_2(.975) = 4.302653, s = 1, so 2 -+ 4.302653 / sqrt(3)."""
    found = estimate_mean(pd.Series([1.0, 2.0, 3.0]), 0.95)
    assert (found.mean, found.n) == (2.0, 3)
    assert found.se == pytest.approx(1 / math.sqrt(3))
    assert found.high - found.mean == pytest.approx(4.30265272991 / math.sqrt(3))
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert not found.excludes_zero
    assert estimate_mean(pd.Series([2.0, 2.1, 1.9]), 0.95).excludes_zero
    assert estimate_mean(pd.Series([-2.0, -2.1, -1.9]), 0.95).excludes_zero


def test_one_seed_has_no_interval():
    found = estimate_mean(pd.Series([4.0]), 0.95)
    assert (found.mean, found.se, found.low, found.high, found.n) == (4.0, None, None, None, 1)
    assert not found.excludes_zero


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), st.floats(-10, 10))
def test_means_move_with_the_data_and_errors_do_not(values, shift):
    mean, se = mean_and_se(pd.Series(values))
    moved, same = mean_and_se(pd.Series(values) + shift)
    assert moved == pytest.approx(mean + shift, abs=1e-6)
    assert same == pytest.approx(se, abs=1e-6)
