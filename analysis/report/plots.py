"""The report's plots, drawn by hand: shares, intervals, effect curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from analysis.curves import Curve
from analysis.report.svg import Scale, bar, frame, line, mark, polygon, polyline, text
from analysis.report.words import choose_ticks, spell_interval, spell_points, spell_share, spell_tick

Floats = NDArray[np.float64]

WIDTH = 760.0
LEFT = 150.0  # room for a domain's name
MOST_BARS = 12  # of a bar plot of shares
NAME_LENGTH = 17  # longer names lose their middle in a plot; the tables have them whole


def plot_mixture(
    weights: Mapping[str, float],
    spread: Mapping[str, float],
    marks: Mapping[str, Mapping[str, float]],
    name: str,
) -> Markup:
    """Draw one bar a domain, with the other mixtures as marks on it.

    Parameters
    ----------
    weights : mapping
        Share of each domain in the mixture named ``name``.
    spread : mapping
        Standard deviation of each share over refits, drawn as a whisker; may be empty.
    marks : mapping
        Other mixtures: name -> shares; the first is the reference.
    name : str
        The bars' own name in the legend.
    """
    row, top = 40.0, 34.0
    shares = [*weights.values(), *(share for other in marks.values() for share in other.values())]
    shares += [weights[domain] + spread.get(domain, 0.0) for domain in weights]
    right = WIDTH - 66
    x = Scale(0.0, max(shares) * 1.04, LEFT, right)
    bottom = top + row * len(weights)
    parts = _draw_legend(name, list(marks))
    for tick in choose_ticks(0.0, x.high):
        parts += [line(x(tick), top, x(tick), bottom, "grid")]
        parts += [text(x(tick), bottom + 18, f"{100 * tick:g} %", "tick", "middle")]
    for index, (domain, share) in enumerate(weights.items()):
        middle = top + row * (index + 0.5)
        parts += [text(LEFT - 12, middle + 4.5, cut_name(domain), "name", "end")]
        parts += [bar(LEFT, middle - 10, x(share) - LEFT, 20.0, "bar")]
        sd = spread.get(domain, 0.0)
        if sd > 0:
            parts += _draw_whisker(x(max(share - sd, 0.0)), x(share + sd), middle)
        for kind, other in enumerate(marks.values()):
            if domain in other:
                # A lane for each mixture, so that equal shares do not hide each other.
                lane = 0.0 if kind == 0 else 16.0 * (kind / len(marks) - 0.5)
                parts += [_draw_other(x(other[domain]), middle + lane, kind)]
        parts += [text(WIDTH - 4, middle + 4.5, spell_share(share), "value", "end")]
    parts += [line(LEFT, top, LEFT, bottom, "axis")]
    label = f"Shares of {name}: " + ", ".join(f"{d} {spell_share(s)}" for d, s in weights.items())
    return frame(WIDTH, bottom + 28, label, parts)


def plot_intervals(rows: Sequence[tuple[str, float, float, float]], unit: str, what: str) -> Markup:
    """Draw one estimate with its interval a row, around a line at zero.

    Parameters
    ----------
    rows : sequence of (name, estimate, low, high)
    unit : str
        What the axis counts.
    what : str
        What a screen reader calls the plot.
    """
    row, top = 32.0, 8.0
    low = min(0.0, *(values[2] for values in rows))
    high = max(0.0, *(values[3] for values in rows))
    margin = 0.04 * ((high - low) or 1.0)
    x = Scale(low - margin, high + margin, LEFT, WIDTH - 150)
    bottom = top + row * len(rows)
    parts: list[Markup] = []
    for tick in choose_ticks(x.low, x.high, 6):
        parts += [line(x(tick), top, x(tick), bottom, "grid")]
        parts += [text(x(tick), bottom + 18, spell_tick(tick), "tick", "middle")]
    parts += [line(x(0.0), top, x(0.0), bottom, "zero")]
    for index, (name, estimate, start, end) in enumerate(rows):
        middle = top + row * (index + 0.5)
        tone = "gain" if start > 0 else "loss" if end < 0 else "open"
        parts += [text(LEFT - 12, middle + 4.5, cut_name(name), "name", "end")]
        parts += [line(x(start), middle, x(end), middle, f"range {tone}")]
        parts += [mark(x(estimate), middle, 0, f"dot {tone}", 5.5)]
        value = f"{spell_points(estimate)}  ({spell_interval(start, end)})"
        parts += [text(WIDTH - 2, middle + 4.5, value, "small", "end")]
    parts += [text((LEFT + WIDTH - 150) / 2, bottom + 38, unit, "tick", "middle")]
    label = f"{what}: " + "; ".join(f"{n} {spell_points(e)} ({spell_interval(a, b)})" for n, e, a, b in rows)
    return frame(WIDTH, bottom + 46, label, parts)


def plot_shares(shares: Mapping[str, float], what: str) -> Markup:
    """Draw one bar a name for shares of a whole, the largest first; names that have next to none are left out."""
    shown = sorted(((name, share) for name, share in shares.items() if share >= 0.005), key=lambda pair: -pair[1])
    shown = shown[:MOST_BARS] or list(shares.items())[:1]
    row, left = 24.0, 210.0
    x = Scale(0.0, max(1e-9, *(share for _, share in shown)), left, WIDTH - 66)
    parts: list[Markup] = [line(left, 4.0, left, 4 + row * len(shown), "axis")]
    for index, (name, share) in enumerate(shown):
        middle = 4 + row * (index + 0.5)
        parts += [text(left - 12, middle + 4.5, cut_name(name, 27), "name", "end")]
        parts += [bar(left, middle - 6, x(share) - left, 12.0, "bar")]
        parts += [text(WIDTH - 4, middle + 4.5, f"{100 * share:.0f} %", "value", "end")]
    label = f"{what}: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shown)
    return frame(WIDTH, 10 + row * len(shown), label, parts)


def plot_curve(curve: Curve, k: int, domain: str, seen: Floats, limits: tuple[float, float]) -> Markup:
    """Draw the effect of domain ``k`` along one state feature.

    Parameters
    ----------
    curve : Curve
    k : int
    domain : str
    seen : ndarray (n,)
        The feature in the training runs, drawn as ticks under the curve.
    limits : tuple of float
        The page's common vertical scale, points per unit of log share.
    """
    width, left, bottom = 170.0, 28.0, 92.0
    ends = [curve.grid[0], curve.grid[-1], curve.at_target]
    x = Scale(float(min(ends)), float(max(ends)), left, width - 8)
    y = Scale(*limits, bottom, 8.0)
    parts: list[Markup] = []
    for tick in choose_ticks(*limits, 4):
        parts += [line(left, y(tick), width - 8, y(tick), "grid")]
        parts += [text(left - 5, y(tick) + 4, spell_tick(tick), "tick", "end")]
    parts += [line(left, y(0.0), width - 8, y(0.0), "zero")]
    upper = [(x(a), y(b)) for a, b in zip(curve.grid, curve.high[:, k])]
    lower = [(x(a), y(b)) for a, b in zip(curve.grid, curve.low[:, k])]
    theta = curve.theta[:, k]
    parts += [polygon([*upper, *reversed(lower)], "band")]
    parts += [line(x(curve.at_target), 8.0, x(curve.at_target), bottom, "here")]
    parts += [polyline([(x(a), y(b)) for a, b in zip(curve.grid, theta)], "curve")]
    inside = [float(value) for value in seen if x.low <= value <= x.high]
    parts += [line(x(value), bottom + 1, x(value), bottom + 5, "rug") for value in inside]
    for tick in choose_ticks(x.low, x.high, 4):
        parts += [text(x(tick), bottom + 19, spell_tick(tick), "tick", "middle")]
    label = (
        f"Effect of {domain}: from {spell_points(float(theta[0]))} to {spell_points(float(theta[-1]))} as "
        f"{curve.feature} goes from {curve.grid[0]:.3g} to {curve.grid[-1]:.3g}; "
        f"the target is at {curve.at_target:.3g}"
    )
    return frame(width, bottom + 24, label, parts)


def choose_limits(panels: Sequence[tuple[Curve, int]]) -> tuple[float, float]:
    """Return one vertical scale for all curves: every line and zero, bands up to twice their usual width."""
    halves = np.concatenate([(curve.high - curve.low)[:, k] / 2 for curve, k in panels])
    usual = 2 * float(np.median(halves))
    low = min(0.0, *(_reach(curve.theta[:, k], curve.low[:, k], -usual) for curve, k in panels))
    high = max(0.0, *(_reach(curve.theta[:, k], curve.high[:, k], usual) for curve, k in panels))
    margin = 0.05 * ((high - low) or 1.0)
    return low - margin, high + margin


def _reach(theta: Floats, band: Floats, usual: float) -> float:
    """Return how far a band goes on one side of its line, but no further than ``usual``."""
    if usual < 0:
        return float(max(band.min(), theta.min() + usual))
    return float(min(band.max(), theta.max() + usual))


def _draw_legend(name: str, others: list[str]) -> list[Markup]:
    parts = [bar(LEFT, 4.0, 18.0, 12.0, "bar"), text(LEFT + 24, 14, name, "small")]
    x = LEFT + 24 + 6.8 * len(name) + 22
    for kind, other in enumerate(others):
        parts += [_draw_other(x, 10.0, kind), text(x + 11, 14, other, "small")]
        x += 11 + 6.8 * len(other) + 22
    return parts


def _draw_other(x: float, middle: float, kind: int) -> Markup:
    if kind == 0:  # the reference: a tick across the bar
        return bar(
            x - 1.75,
            middle - 14 if middle > 20 else middle - 8,
            3.5,
            28.0 if middle > 20 else 16.0,
            "tickmark",
            1.0,
        )
    return mark(x, middle, kind, "other")


def _draw_whisker(start: float, end: float, middle: float) -> list[Markup]:
    return [
        line(start, middle, end, middle, "whisker"),
        line(start, middle - 4, start, middle + 4, "whisker"),
        line(end, middle - 4, end, middle + 4, "whisker"),
    ]


def cut_name(name: str, length: int = NAME_LENGTH) -> str:
    """Return a name that fits: the middle of a longer one gives way to an ellipsis."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"
