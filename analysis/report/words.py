"""Numbers as people read them."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EM DASH}"


def spell_share(share: float) -> str:
    """Return a share as a percentage, ``12.3 %``."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else DASH


def spell_points(value: float | None, digits: int = 2) -> str:
    """Return a difference with its sign, ``+1.23`` or a true minus; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    rounded = round(value, digits)
    if rounded == 0:
        return f"{0:.{digits}f}"
    return f"{'+' if rounded > 0 else MINUS}{abs(rounded):.{digits}f}"


def spell_interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return ``+0.31 to +2.10``; a dash where an end is missing."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return DASH
    return f"{spell_points(low, digits)} to {spell_points(high, digits)}"


def spell_number(value: object) -> str:
    """Return any scalar for a table: four significant digits, thousands apart, booleans as yes and no."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return f"{value:.4g}".replace("-", MINUS) if abs(value) > 1e-12 else "0"
    return str(value)


def spell_list(names: list[str]) -> str:
    """Return ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def choose_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers from ``low`` to ``high``."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    raw = span / count
    base = 10.0 ** math.floor(math.log10(raw))
    step = next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def spell_tick(value: float) -> str:
    """Return a tick's label, without trailing zeros."""
    return f"{value:.10g}".replace("-", MINUS) if abs(value) > 1e-12 else "0"
