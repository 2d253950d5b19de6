from __future__ import annotations

import re

import numpy as np
import pytest

from analysis.report.mixture_plots import choose_paired, find_tones, plot_legend, plot_runs
from analysis.report.plots import plot_shares
from analysis.report.tree_plot import choose_domains, plot_tree, spell_rule

TREE = [
    {"rule": "all runs", "n_runs": 512, "depth": 0, "children": [1, 4]},
    {"rule": "loss <= 0.703", "n_runs": 206, "depth": 1, "children": [2, 3]},
    {"rule": "hes <= 0.011", "n_runs": 56, "depth": 2, "children": []},
    {"rule": "hes > 0.011", "n_runs": 150, "depth": 2, "children": []},
    {"rule": "loss > 0.703", "n_runs": 306, "depth": 1, "children": []},
]


def fill(tree, domains=("code", "if", "math")):
    rng = np.random.default_rng(0)
    return [
        {
            **node,
            "theta": dict(zip(domains, rng.normal(size=len(domains)).tolist())),
            "mixture": dict(zip(domains, rng.dirichlet(np.ones(len(domains))).tolist())) if i else None,
        }
        for i, node in enumerate(tree)
    ]


def make_runs(n_domains, n=60):
    rng = np.random.default_rng(1)
    names = [f"d{k}" for k in range(n_domains)]
    marks = {name: dict(zip(names, rng.dirichlet(np.ones(n_domains)).tolist())) for name in ("mixture", "reference")}
    return rng.dirichlet(np.ones(n_domains), n), rng.normal(40, 2, n), marks


def find_boxes(svg):
    return [
        (float(x), float(y), float(w), float(h))
        for x, y, w, h in re.findall(
            r'class="(?:node|leaf)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg
        )
    ]


def test_the_tree_shows_every_node_once_and_apart():
    svg = str(plot_tree(fill(TREE)))
    boxes = find_boxes(svg)
    assert len(boxes) == 5
    assert svg.count('class="leaf"') == 3
    for i, (x, y, w, h) in enumerate(boxes):
        for u, v, _, _ in boxes[i + 1 :]:
            assert abs(x - u) >= w - 1e-9 or abs(y - v) >= h
        assert x >= 0
        assert x + w <= 760
    for node in TREE:
        assert f">{node['rule'].replace('<', '&lt;').replace('>', '&gt;')}<" in svg
        assert f">{node['n_runs']} runs<" in svg
    assert svg.count('class="branch"') == 3 * 4


def test_a_node_without_a_mixture_shows_a_dash():
    nodes = fill([{**TREE[0], "children": []}])
    assert str(plot_tree(nodes)).count("\N{EM DASH}") == 3


def test_a_deeper_tree_grows_wider():
    deep = [{"rule": "all runs", "n_runs": 80, "depth": 0, "children": list(range(1, 9))}]
    deep += [{"rule": f"x > {i}", "n_runs": 10, "depth": 1, "children": []} for i in range(8)]
    svg = str(plot_tree(fill(deep)))
    width = float(re.search(r'viewBox="0 0 ([\d.]+) ', svg)[1])
    assert width > 1500
    assert all(x + w <= width for x, _, w, _ in find_boxes(svg))


def test_many_domains_are_those_that_differ_most():
    domains = tuple(f"d{k}" for k in range(12))
    nodes = fill(TREE, domains)
    for node in nodes:
        node["theta"]["d11"] = 5.0 * node["n_runs"]
        node["theta"]["d0"] = 7.0
    kept = choose_domains(nodes)
    assert len(kept) == 8
    assert "d11" in kept
    assert "d0" not in kept
    assert kept == [d for d in domains if d in kept]


def test_a_long_rule_keeps_its_number():
    assert spell_rule("hes <= -0.0328") == "hes <= -0.0328"
    cut = spell_rule("normalized_loss.instruction_following <= -0.0328")
    assert cut.endswith(" <= -0.0328")
    assert len(cut) <= 25


@pytest.mark.parametrize(("n_domains", "n_panels"), [(2, 1), (3, 1), (4, 6), (5, 6), (17, 6)])
def test_every_number_of_domains_has_its_plot(n_domains, n_panels):
    mixtures, outcomes, marks = make_runs(n_domains)
    panels = plot_runs(mixtures, outcomes, marks)
    assert len(panels) == n_panels
    for panel in panels:
        svg = str(panel)
        assert svg.count('class="run t') == 60
        assert svg.count('class="answer"') == 1
        assert svg.count('class="other"') == 1
        width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
        for x, y in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', svg):
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height


def test_corners_of_the_triangle_are_single_domains():
    marks = {"mixture": {"a": 1.0, "b": 0.0, "c": 0.0}, "reference": {"a": 0.0, "b": 1.0, "c": 0.0}}
    (panel,) = plot_runs(np.eye(3), np.arange(3.0), marks)
    dots = [(float(x), float(y)) for x, y in re.findall(r'class="run t\d" cx="([\d.]+)" cy="([\d.]+)"', str(panel))]
    (ax, ay), (bx, by), (cx, cy) = dots
    assert ax == pytest.approx((bx + cx) / 2)
    assert by == cy > ay
    answer = re.search(r'class="answer" cx="([\d.]+)" cy="([\d.]+)"', str(panel))
    assert (float(answer[1]), float(answer[2])) == (ax, ay)


def test_tones_are_fifths():
    tones = find_tones(np.random.default_rng(0).normal(size=100))
    assert np.bincount(tones).tolist() == [20] * 5
    assert set(find_tones(np.ones(10)).tolist()) == {0}


def test_many_runs_are_thinned():
    mixtures, outcomes, marks = make_runs(3, n=2000)
    (panel,) = plot_runs(mixtures, outcomes, marks)
    assert 200 <= str(panel).count('class="run t') <= 250


def test_paired_are_the_domains_that_move():
    names = [f"d{k}" for k in range(6)]
    marks = {"mixture": dict(zip(names, [0.3, 0.1, 0.1, 0.1, 0.3, 0.1])), "reference": dict.fromkeys(names, 1 / 6)}
    marks["mixture"] |= {"d1": 1 / 6, "d2": 1 / 6}
    assert choose_paired(marks) == ["d0", "d3", "d4", "d5"]


def test_the_legend_and_the_bars_speak():
    outcomes = np.linspace(30, 40, 50)
    assert "from 30 to 40; marked: mixture and reference" in str(plot_legend(outcomes, ["mixture", "reference"]))
    svg = str(plot_shares({"hes": 0.65, "loss": 0.2, "style": 0.001}, "What features explain"))
    assert svg.count('class="bar"') == 2
    assert "65 %" in svg
    assert "style" not in svg
