"""A few SVG shapes. Colours are classes of the page's style sheet, so that plots follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Scale:
    """A straight line from data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of ``value``, kept between the ends."""
        span = (self.high - self.low) or 1.0
        inside = min(max(value, min(self.low, self.high)), max(self.low, self.high))
        return self.start + (inside - self.low) / span * (self.end - self.start)


def draw(tag: str, css: str = "", content: object = "", **attributes: object) -> Markup:
    """Return one element; numbers are rounded to a hundredth of a pixel, text is escaped."""
    parts = [f'class="{escape(css)}"'] if css else []
    for name, value in attributes.items():
        text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f'{name.rstrip("_").replace("_", "-")}="{escape(text)}"')
    opening = " ".join([tag, *parts])
    return Markup(f"<{opening}>{escape(content)}</{tag}>")  # every part is escaped above


def frame(width: float, height: float, label: str, parts: Sequence[Markup]) -> Markup:
    """Return a picture that a screen reader announces as ``label``."""
    body = Markup("").join(parts)
    return draw("svg", "plot", body, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label)


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """Return a straight line."""
    return draw("line", css, x1=x1, y1=y1, x2=x2, y2=y2)


def text(x: float, y: float, content: object, css: str = "label", anchor: str = "start") -> Markup:
    """Return text at its baseline."""
    return draw("text", css, content, x=x, y=y, text_anchor=anchor)


def bar(x: float, y: float, width: float, height: float, css: str, radius: float = 2.0) -> Markup:
    """Return a rectangle with rounded corners."""
    return draw("rect", css, x=x, y=y, width=max(width, 0.0), height=height, rx=radius)


def mark(x: float, y: float, kind: int, css: str, size: float = 4.5) -> Markup:
    """Return one of six shapes, so that marks differ in more than their colour."""
    if kind == 0:
        return draw("circle", css, cx=x, cy=y, r=size)
    corners = {
        1: [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        2: [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
        3: [(-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)],
        4: [(0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
        5: [(-1.3, -0.45), (1.3, -0.45), (1.3, 0.45), (-1.3, 0.45)],
    }[(kind - 1) % 5 + 1]
    return polygon([(x + dx * size, y + dy * size) for dx, dy in corners], css)


def polygon(points: Sequence[tuple[float, float]], css: str) -> Markup:
    """Return a filled shape."""
    return draw("polygon", css, points=join_points(points))


def polyline(points: Sequence[tuple[float, float]], css: str) -> Markup:
    """Return a line through points."""
    return draw("polyline", css, points=join_points(points))


def join_points(points: Sequence[tuple[float, float]]) -> str:
    """Return points as SVG spells them."""
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
