"""Scores beside the three: the cheap ones that come along, a table's, and a user's own.

``pool.scores.extra={compression: {kind: compression_ratio}}`` adds a feature ``compression``. ``kind`` is one
of :data:`KINDS`, or ``my_module:make_scorer``: a factory that takes the entry's other values and returns a
:class:`~causalmix.pool.scores.scorer.Scorer`. The module is named by the user's own config, never by data.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from causalmix.errors import PoolError, name_some, nearest_name
from causalmix.pool.scores import FEATURES
from causalmix.pool.scores.given import GivenScores
from causalmix.pool.scores.plain import compression_ratio, length, moving_type_token_ratio, type_token_ratio
from causalmix.pool.scores.scorer import Scorer

KINDS: dict[str, Callable[..., Scorer]] = {
    "compression_ratio": compression_ratio,
    "given": GivenScores,
    "length": length,
    "moving_type_token_ratio": moving_type_token_ratio,
    "type_token_ratio": type_token_ratio,
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # a column of the runs table: state.<name>, state.<name>.<domain>


def list_features(standard: list[str], extra: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the scores of a pool, in the order of their columns.

    Raises
    ------
    PoolError
        For a standard score that does not exist, a name that cannot be a column or stands there twice, or
        no score at all.
    """
    unknown = [f"{name!r}{nearest_name(name, FEATURES)}" for name in standard if name not in FEATURES]
    if unknown:
        raise PoolError(f"pool.scores.standard has {name_some(unknown)}; allowed are {', '.join(FEATURES)}.")
    bad = [repr(name) for name in extra if not NAME.fullmatch(str(name))]
    if bad:
        raise PoolError(f"pool.scores.extra has {name_some(bad)}: a name has letters, digits and '_'.")
    twice = [name for name in extra if name in standard]
    if twice:
        raise PoolError(f"pool.scores.extra has {name_some(twice)}, which pool.scores.standard has too.")
    features = tuple(name for name in FEATURES if name in standard) + tuple(str(name) for name in extra)
    if not features:
        raise PoolError("pool.scores.standard and pool.scores.extra are both empty: a state needs a score.")
    return features


def make_scorers(extra: Mapping[str, Any]) -> dict[str, Scorer]:
    """Make every extra scorer.

    Raises
    ------
    PoolError
        For an entry without a kind, an unknown one, a module that cannot be imported, or settings that the
        factory does not take.
    """
    scorers = {}
    for name, entry in extra.items():
        kind, settings = _split(name, entry)
        factory = _find_factory(name, kind)
        try:
            scorers[str(name)] = factory(**settings)
        except TypeError as error:
            raise PoolError(f"pool.scores.extra.{name}: {kind} does not take these settings: {error}.") from error
        except PoolError as error:
            raise PoolError(f"pool.scores.extra.{name}: {error}") from error
        if not callable(scorers[str(name)]):
            raise PoolError(f"pool.scores.extra.{name}: {kind} returned no function of texts. See docs/scorers.md.")
    return scorers


def identify_scorers(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Name what decides the extra scores: settings as they are, files and modules by what they hold."""
    named = {}
    for name, entry in extra.items():
        kind, settings = _split(name, entry)
        identity: dict[str, Any] = {key: _identify_value(key, value) for key, value in settings.items()}
        if kind not in KINDS:
            identity["source"] = _hash_file(_locate(name, kind))
        named[str(name)] = {"kind": kind, **identity}
    return named


def _split(name: str, entry: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(entry, Mapping) or "kind" not in entry:
        raise PoolError(
            f"pool.scores.extra.{name}={entry!r} needs a kind: one of {', '.join(KINDS)}, or my_module:make_scorer."
        )
    settings = {str(key): value for key, value in entry.items() if key != "kind"}
    return str(entry["kind"]), settings


def _find_factory(name: str, kind: str) -> Callable[..., Any]:
    if kind in KINDS:
        return KINDS[kind]
    _locate(name, kind)
    module, _, attribute = kind.partition(":")
    factory = getattr(importlib.import_module(module), attribute, None)
    if not callable(factory):
        raise PoolError(f"pool.scores.extra.{name}.kind={kind}: {module} has no function {attribute!r}.")
    made: Callable[..., Any] = factory
    return made


def _locate(name: str, kind: str) -> Path:
    module, colon, attribute = kind.partition(":")
    if not colon or not module or not attribute:
        raise PoolError(
            f"pool.scores.extra.{name}.kind={kind!r} is not one of {', '.join(KINDS)}{nearest_name(kind, KINDS)}, "
            "nor my_module:make_scorer."
        )
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise PoolError(
            f"pool.scores.extra.{name}.kind={kind}: there is no module {module} to import; put its folder on "
            "PYTHONPATH (every machine that scores needs it)."
        )
    return Path(spec.origin)


def _identify_value(key: str, value: Any) -> Any:
    # By its key: a word such as `output` may well be a folder's name too.
    if not isinstance(value, str) or not key.endswith("path"):
        return value
    if Path(value).is_file():
        return {"sha256": _hash_file(Path(value))}
    if Path(value).is_dir():
        files = sorted(path for path in Path(value).rglob("*") if path.is_file())
        return {str(path.relative_to(value)): _hash_file(path) for path in files}
    return value


def _hash_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
