"""Scores beside the three: the cheap ones that come along, a table's, and a user's own.

``pool.scores.extra={compression: {kind: compression_ratio}}`` adds a feature ``compression``. ``kind`` is one
of :data:`KINDS`, or ``my_module:make_scorer``: a factory that takes the entry's other values and returns a
:class:`~causalmix.pool.scores.scorer.Scorer`. The module is named by the user's own config, never by data.
"""

from __future__ import annotations

import glob
import hashlib
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from causalmix.errors import PoolError, name_some, nearest_name
from causalmix.pool.scores import FEATURES
from causalmix.pool.scores.given import GivenScores, find_tables
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


def read_entries(extra: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """Read ``pool.scores.extra``: feature -> kind and settings.

    Raises
    ------
    PoolError
        For an entry that is no mapping or has no kind.
    """
    example = "'pool.scores.extra={compression: {kind: compression_ratio}}'"
    if not isinstance(extra or {}, Mapping):
        raise PoolError(f"pool.scores.extra={extra!r} is no mapping; write for example {example}.")
    entries = {}
    for name, entry in (extra or {}).items():
        if not isinstance(entry, Mapping) or "kind" not in entry:
            allowed = f"one of {', '.join(KINDS)}, or my_module:make_scorer"
            raise PoolError(f"pool.scores.extra.{name}={entry!r} needs a kind: {allowed}; for example {example}.")
        settings = {str(key): value for key, value in entry.items() if key != "kind"}
        entries[str(name)] = (str(entry["kind"]), settings)
    return entries


def list_features(standard: Sequence[str], extra: Any) -> tuple[str, ...]:
    """Name the scores of a pool, in the order of their columns.

    Raises
    ------
    PoolError
        For a standard score that does not exist, a name that cannot be a column or stands there twice, or
        no score at all.
    """
    extra = read_entries(extra)
    unknown = [f"{name!r}{nearest_name(name, FEATURES)}" for name in standard if name not in FEATURES]
    if unknown:
        raise PoolError(f"pool.scores.standard has {name_some(unknown)}; allowed are {', '.join(FEATURES)}.")
    bad = [repr(name) for name in extra if not NAME.fullmatch(name)]
    if bad:
        raise PoolError(f"pool.scores.extra has {name_some(bad)}: a name has letters, digits and '_'.")
    twice = [name for name in extra if name in standard]
    if twice:
        raise PoolError(f"pool.scores.extra has {name_some(twice)}, which pool.scores.standard has too.")
    features = tuple(name for name in FEATURES if name in standard) + tuple(extra)
    if not features:
        raise PoolError("pool.scores.standard and pool.scores.extra are both empty: a state needs a score.")
    return features


def make_scorers(extra: Any) -> dict[str, Scorer]:
    """Make every extra scorer.

    Raises
    ------
    PoolError
        For an unknown kind, a module that cannot be imported, or settings that the factory does not take.
    """
    check_scorers(extra)
    scorers = {}
    for name, (kind, settings) in read_entries(extra).items():
        try:
            scorers[name] = _find_factory(name, kind)(**settings)
        except PoolError as error:
            raise PoolError(f"pool.scores.extra.{name}: {error}") from error
        if not callable(scorers[name]):
            raise PoolError(f"pool.scores.extra.{name}: {kind} returned no function of texts. See docs/scorers.md.")
    return scorers


def check_scorers(extra: Any) -> None:
    """Refuse what cannot be made, without making it: a scorer may be a large model.

    Raises
    ------
    PoolError
        For an unknown kind, a module that cannot be imported, settings that the factory does not take, or a
        table that is not there.
    """
    for name, (kind, settings) in read_entries(extra).items():
        try:
            inspect.signature(_find_factory(name, kind)).bind(**settings)
        except TypeError as error:
            raise PoolError(f"pool.scores.extra.{name}: {kind} does not take these settings: {error}.") from error
        if kind == "given":
            find_tables(str(settings["path"]), f"pool.scores.extra.{name}.path")


def identify_scorers(extra: Any) -> dict[str, Any]:
    """Name what decides the extra scores: settings as they are, files and modules by what they hold."""
    named = {}
    for name, (kind, settings) in read_entries(extra).items():
        identity: dict[str, Any] = {key: _identify_value(key, value) for key, value in settings.items()}
        if kind not in KINDS:
            identity["source"] = _hash_file(_locate(name, kind))
        named[name] = {"kind": kind, **identity}
    return named


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
    matches = sorted(Path(match) for match in glob.glob(value) if Path(match).is_file())  # noqa: PTH207
    return {path.name: _hash_file(path) for path in matches} or value


def _hash_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
