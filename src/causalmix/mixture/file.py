"""Reading the mixture that an analysis wrote (mixture.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from causalmix.errors import MixtureError


def read_answer(path: str | Path) -> dict[str, Any]:
    """Read a ``mixture.json`` as the object that it holds.

    Parameters
    ----------
    path : str or Path
        What an analysis wrote, or a file of your own with ``weights``.

    Returns
    -------
    dict
        Its content, not looked into.

    Raises
    ------
    MixtureError
        No such file, no JSON, or no object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MixtureError(f"mixture.file={path}: cannot be read ({error}).") from error
    except json.JSONDecodeError as error:
        raise MixtureError(f"mixture.file={path}, line {error.lineno}: not JSON ({error.msg}).") from error
    if not isinstance(content, dict):
        raise MixtureError(
            f"mixture.file={path}: a JSON object with 'weights' is needed, not a {type(content).__name__}."
        )
    return content


def read_mixture(path: str | Path, *, use_candidate: bool = False) -> dict[str, float]:
    """Read the shares of a ``mixture.json``.

    Parameters
    ----------
    path : str or Path
        A JSON object with ``weights`` {domain: share} and, from an analysis, ``candidate`` and ``advice``.
    use_candidate : bool
        Take the policy's own answer, ``candidate``, where advice was withheld.

    Returns
    -------
    dict of str to float
        Not yet checked against a pool's domains.

    Raises
    ------
    MixtureError
        No such file, no JSON, or a key that is missing.
    """
    return find_weights(read_answer(path), path, use_candidate=use_candidate)


def find_weights(content: dict[str, Any], path: str | Path, *, use_candidate: bool = False) -> dict[str, float]:
    """Take the shares out of what :func:`read_answer` read; see :func:`read_mixture`."""
    key = "candidate" if use_candidate and content.get("advice") == "withheld" else "weights"
    weights = content.get(key)
    if not isinstance(weights, dict) or not weights:
        raise MixtureError(f"mixture.file={path}: '{key}' must be an object {{domain: share}}, not {weights!r}.")
    return weights
