"""Mappings that a user typed: ``{math: .1, code: .2}``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from causalmix.errors import AnalysisError


def read_mapping(given: object, key: str) -> dict[str, Any]:
    """Return a mapping that a user gave under ``key``, or say that it is none."""
    given = parse_text(given)
    if not isinstance(given, Mapping) or not given:
        raise AnalysisError(f"{key}={given!r}: a mapping is wanted, for example '{key}={{name: 1, other: 2}}'.")
    return {str(name): value for name, value in given.items()}


def parse_text(given: object) -> object:
    """Read a mapping that was given as text, which a command line takes whatever the names in it: ``"{C#: .1}"``."""
    if not isinstance(given, str):
        return given
    try:
        return yaml.safe_load(given)
    except yaml.YAMLError:
        return given


def is_number(value: object) -> bool:
    """Say whether a value is a finite number; yes and no are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
