"""Where the runs' mixtures lie, coloured by what came out: a triangle for three domains, pairs for more."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from analysis.report.plots import WIDTH, cut_name
from analysis.report.svg import Scale, draw, frame, line, mark, polygon, text
from analysis.report.words import choose_ticks, spell_list, spell_number, spell_share, spell_tick

Floats = NDArray[np.float64]
Shares = Mapping[str, float]

N_TONES = 5  # fifths of the outcome
MOST_RUNS = 250  # dots a panel
MOST_PAIRED = 4  # domains that are paired with each other: those whose share moves most
SIZE = 3.2


def plot_runs(mixtures: Floats, outcomes: Floats, marks: Mapping[str, Shares]) -> list[Markup]:
    """Draw every run's mixture, with the answer and the reference marked.

    Parameters
    ----------
    mixtures : ndarray (n, K)
    outcomes : ndarray (n,)
        They choose the tone, by fifths.
    marks : mapping
        Name -> shares of the K domains in the order of ``mixtures``; the first is the answer.

    Returns
    -------
    list of Markup
        One triangle (K = 3), one panel of share against outcome (K = 2), or one panel a pair of domains.
    """
    step = max(1, math.ceil(len(mixtures) / MOST_RUNS))
    seen, tones = mixtures[::step], find_tones(outcomes)[::step]
    domains = list(next(iter(marks.values())))
    if len(domains) == 2:
        return [_plot_line(seen, outcomes[::step], tones, marks)]
    if len(domains) == 3:
        return [_plot_triangle(seen, tones, marks)]
    kept = choose_paired(marks)
    pairs = itertools.combinations([domains.index(name) for name in kept], 2)
    return [_plot_pair(seen, tones, marks, a, b) for a, b in pairs]


def plot_legend(outcomes: Floats, marks: Sequence[str]) -> Markup:
    """Explain the tones and the marks."""
    edges = np.quantile(outcomes, np.linspace(0, 1, N_TONES + 1))
    parts = [text(4, 15, "outcome", "small")]
    for tone in range(N_TONES):
        x = 72.0 + 86 * tone
        parts += [mark(x, 11, 0, f"run t{tone}", 5.0)]
        parts += [text(x + 9, 15, f"to {spell_number(float(edges[tone + 1]))}", "small")]
    x = 72.0 + 86 * N_TONES + 8
    for kind, name in enumerate(marks):
        parts += [_draw_mark(x, 11, kind), text(x + 12, 15, name, "small")]
        x += 24 + 6.8 * len(name)
    label = f"Tones are fifths of the outcome, from {edges[0]:.4g} to {edges[-1]:.4g}; marked: {spell_list([*marks])}"
    return frame(WIDTH, 22, label, parts)


def find_tones(outcomes: Floats) -> NDArray[np.int64]:
    """Return the fifth (0 to 4) that each outcome falls in."""
    edges = np.quantile(outcomes, np.linspace(0, 1, N_TONES + 1)[1:-1])
    return np.searchsorted(edges, outcomes, side="left").astype(np.int64)


def choose_paired(marks: Mapping[str, Shares]) -> list[str]:
    """Return the domains to pair: all of four, else those whose share the answer moves most."""
    answer, reference, *_ = [*marks.values()] * 2
    moved = sorted(answer, key=lambda name: -abs(answer[name] - reference[name]))
    return [name for name in answer if name in moved[:MOST_PAIRED]]


def _plot_triangle(mixtures: Floats, tones: NDArray[np.int64], marks: Mapping[str, Shares]) -> Markup:
    side, left, top = 400.0, 180.0, 34.0
    height = side * math.sqrt(3) / 2
    corners = np.array([[left + side / 2, top], [left, top + height], [left + side, top + height]])
    parts = [polygon([(x, y) for x, y in corners.tolist()], "triangle")]
    for tenth in (0.2, 0.4, 0.6, 0.8):
        for k in range(3):
            other, third = (k + 1) % 3, (k + 2) % 3
            weights = np.zeros((2, 3))
            weights[:, k], weights[0, other], weights[1, third] = tenth, 1 - tenth, 1 - tenth
            (x1, y1), (x2, y2) = (weights @ corners).tolist()
            parts += [line(x1, y1, x2, y2, "grid")]
        x, y = (np.array([tenth, 1 - tenth, 0]) @ corners).tolist()
        parts += [text(x - 7, y + 4, f"{100 * tenth:.0f} %", "tick", "end")]
    domains = list(next(iter(marks.values())))
    parts += [text(corners[0, 0], top - 12, cut_name(domains[0]), "name", "middle")]
    parts += [text(corners[1, 0], top + height + 22, cut_name(domains[1]), "name", "middle")]
    parts += [text(corners[2, 0], top + height + 22, cut_name(domains[2]), "name", "middle")]
    parts += [_draw_run(x, y, tone) for (x, y), tone in zip((mixtures @ corners).tolist(), tones)]
    for kind, shares in reversed(list(enumerate(marks.values()))):
        x, y = (np.array([shares[name] for name in domains]) @ corners).tolist()
        parts += [_draw_mark(x, y, kind)]
    return frame(WIDTH, top + height + 34, _describe(marks, "A triangle of the three shares"), parts)


def _plot_pair(mixtures: Floats, tones: NDArray[np.int64], marks: Mapping[str, Shares], a: int, b: int) -> Markup:
    width, left, bottom = 250.0, 40.0, 196.0
    domains = list(next(iter(marks.values())))
    own = [[shares[domains[k]] for shares in marks.values()] for k in (a, b)]
    x = Scale(0.0, max(float(mixtures[:, a].max()), *own[0]) * 1.03, left, width - 8)
    y = Scale(0.0, max(float(mixtures[:, b].max()), *own[1]) * 1.03, bottom, 22.0)
    parts = _draw_axes(x, y, left, width - 8, bottom, percent=True)
    parts += [text(left, 13, f"{cut_name(domains[b], 13)} against {cut_name(domains[a], 13)}", "small")]
    parts += [_draw_run(x(u), y(v), tone) for (u, v), tone in zip(mixtures[:, [a, b]].tolist(), tones)]
    for kind, (u, v) in reversed(list(enumerate(zip(*own)))):
        parts += [_draw_mark(x(u), y(v), kind)]
    return frame(width, bottom + 24, _describe(marks, f"Shares of {domains[b]} against {domains[a]}"), parts)


def _plot_line(mixtures: Floats, outcomes: Floats, tones: NDArray[np.int64], marks: Mapping[str, Shares]) -> Markup:
    left, bottom = 60.0, 240.0
    first, second = next(iter(marks.values()))
    x = Scale(0.0, 1.0, left, WIDTH - 30)
    margin = 0.05 * (float(np.ptp(outcomes)) or 1.0)
    y = Scale(float(outcomes.min()) - margin, float(outcomes.max()) + margin, bottom, 24.0)
    parts = _draw_axes(x, y, left, WIDTH - 30, bottom, percent=False)
    parts += [text(left, 14, f"outcome against the share of {first}; the rest is {second}", "small")]
    points = zip(mixtures[:, 0].tolist(), outcomes.tolist(), tones)
    parts += [_draw_run(x(u), y(v), tone) for u, v, tone in points]
    for kind, shares in reversed(list(enumerate(marks.values()))):
        parts += [line(x(shares[first]), 24.0, x(shares[first]), bottom, "here" if kind == 0 else "zero")]
        parts += [_draw_mark(x(shares[first]), bottom - 8, kind)]
    return frame(WIDTH, bottom + 26, _describe(marks, f"Outcome against the share of {first}"), parts)


def _draw_axes(x: Scale, y: Scale, left: float, right: float, bottom: float, *, percent: bool) -> list[Markup]:
    parts: list[Markup] = []
    for tick in choose_ticks(x.low, x.high, 4):
        parts += [line(x(tick), y.end, x(tick), bottom, "grid")]
        parts += [text(x(tick), bottom + 17, f"{100 * tick:g} %", "tick", "middle")]
    for tick in choose_ticks(y.low, y.high, 4):
        parts += [line(left, y(tick), right, y(tick), "grid")]
        label = f"{100 * tick:g} %" if percent else spell_tick(tick)
        parts += [text(left - 5, y(tick) + 4, label, "tick", "end")]
    return parts


def _draw_run(x: float, y: float, tone: int) -> Markup:
    return draw("circle", f"run t{tone}", cx=x, cy=y, r=SIZE)


def _draw_mark(x: float, y: float, kind: int) -> Markup:
    if kind == 0:  # the answer: a ring around a dot, seen on any tone
        ring = [draw("circle", "answer", cx=x, cy=y, r=7.5), draw("circle", "answerdot", cx=x, cy=y, r=2.6)]
        return Markup("").join(ring)
    return mark(x, y, kind, "other", 6.0)


def _describe(marks: Mapping[str, Shares], what: str) -> str:
    told = "; ".join(
        f"{name}: " + ", ".join(f"{d} {spell_share(s)}" for d, s in shares.items()) for name, shares in marks.items()
    )
    return f"{what} in the runs, coloured by outcome. {told}"
