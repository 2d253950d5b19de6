"""Documents: the two shapes a record may have, checked, and the one shape the pool keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from causalmix.errors import PoolError, nearest_name

ROLES = ("system", "user", "assistant")
# ShareGPT's words for them.
ALIASES = {"human": "user", "gpt": "assistant", **{role: role for role in ROLES}}
DOMAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class BadRecordError(PoolError):
    """What is wrong with one record; :class:`Problems` adds the file and line."""


class UnmappedError(BadRecordError):
    """A name that ``pool.domain_map`` does not have; counted over all sources before anything is raised."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is not in pool.domain_map")
        self.name = name


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Document:
    """One training document.

    Attributes
    ----------
    id : str
        Unique in its pool. A name, never a path.
    domain : str
    messages : tuple of Message
        At least one from the assistant.
    quality : float or None
        Label in [0, 1] where the source has one (``rater.pairs=quality``). No run ever sees it.
    """

    id: str
    domain: str
    messages: tuple[Message, ...]
    quality: float | None = None


@dataclass(frozen=True, slots=True)
class HeldoutDocument:
    """One evaluation document: its last assistant turn is the answer that is scored."""

    id: str
    ability: str
    task: str
    split: str | None
    messages: tuple[Message, ...]


class Problems:
    """Offending records, the first ten with their place, the rest counted."""

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit
        self.count = 0
        self.first: list[str] = []

    def add(self, place: str, problem: object) -> None:
        """Remember one offender."""
        self.count += 1
        if len(self.first) < self.limit:
            self.first.append(f"{place}: {problem}")

    def extend(self, count: int, first: Sequence[str]) -> None:
        """Add what another process found, after what is here."""
        self.first.extend(first[: max(0, self.limit - len(self.first))])
        self.count += count

    def raise_any(self, what: str) -> None:
        """Raise one error that names them, if there are any.

        Raises
        ------
        PoolError
        """
        if not self.count:
            return
        lines = "\n  ".join(self.first)
        rest = f"\n  and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        raise PoolError(
            f"{what}: {self.count} problem{'s' if self.count > 1 else ''}.\n  {lines}{rest}\n"
            f"Mend or remove what is named, then run the same command again."
        )


def split_text(messages: Sequence[Message]) -> tuple[str, str]:
    """Split a conversation into what is given and what is answered, as raw text.

    Returns
    -------
    prompt, output : str
        The output is the last assistant turn; the prompt joins every turn before it with newlines, so that
        ``prompt + "\\n" + output`` is "instruction, input, output" for a document of that shape.
    """
    last = max(at for at, message in enumerate(messages) if message.role == "assistant")
    return "\n".join(message.content for message in messages[:last]), messages[last].content


def parse_messages(record: Mapping[str, Any]) -> tuple[Message, ...]:
    """Read ``messages``, ShareGPT's ``conversations``, or ``instruction`` / ``input`` / ``output``, from a record.

    Raises
    ------
    BadRecordError
        Naming the field that is missing, null, or of the wrong kind.
    """
    if record.get("messages") is not None:
        return _parse_turns(record["messages"])
    if record.get("conversations") is not None:
        return _parse_turns(_rename_turns(record))
    if "instruction" in record or "output" in record:
        instruction = _require_text(record, "instruction")
        # An empty or absent `input` is part of this format (tables hold a null there).
        given = _require_text(record, "input") if record.get("input") is not None else ""
        output = _require_text(record, "output")
        prompt = f"{instruction}\n{given}" if given else instruction
        return (Message("user", prompt), Message("assistant", output))
    found = ", ".join(f"{name} (null)" if record[name] is None else name for name in sorted(record))
    raise BadRecordError(f"has neither 'messages' nor 'instruction' and 'output' (it has {found or 'no field at all'})")


def parse_id(record: Mapping[str, Any], place: str) -> str:
    """Read a record's ``id``; without that field its place (file and line) is the id."""
    if "id" not in record:
        return place
    given = record["id"]
    if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        raise BadRecordError(f"'id' is {_spell(given)}; it must be a non-empty string or an integer")
    if isinstance(given, str) and (CONTROL.search(given) or not is_unicode(given)):
        raise BadRecordError(f"'id' is {given[:80]!r}; a name has no control characters")
    return str(given)


def read_field(record: Mapping[str, Any], field: str, default: Any = None) -> Any:
    """Read a field; where no field has that very name, its dots lead into objects (``info.source``)."""
    if field in record:
        return record[field]
    value: Any = record
    for part in field.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return value


def parse_domain(record: Mapping[str, Any], field: str, default: str, names: Mapping[str, str | None]) -> str | None:
    """Read a document's domain, by way of ``names`` (``pool.domain_map``) where it has any; None drops it.

    Raises
    ------
    UnmappedError
        For a name that is not in ``names``.
    BadRecordError
        For a name that can be none.
    """
    given = read_field(record, field, default)
    if names and isinstance(given, str):
        if given not in names:
            raise UnmappedError(given)
        mapped = names[given]
        return None if mapped is None else check_name(mapped, f"pool.domain_map[{given}]")
    return check_name(given, field)


def parse_name(record: Mapping[str, Any], field: str, default: str) -> str:
    """Read a domain, ability or task: the record's ``field``, else what its file is called."""
    return check_name(record.get(field, default), field)


def check_name(given: Any, field: str) -> str:
    """Refuse what can be no name of a domain, ability or task.

    Raises
    ------
    BadRecordError
    """
    if not isinstance(given, str) or not DOMAIN_NAME.fullmatch(given):
        raise BadRecordError(
            f"'{field}' is {_spell(given)}; a name has letters, digits, '_' and '-' (it becomes a column of the runs "
            f"table)"
        )
    return given


def parse_quality(record: Mapping[str, Any]) -> float:
    """Read a ``quality`` label in [0, 1]."""
    given = record.get("quality")
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        raise BadRecordError(f"'quality' is {_spell(given)}; pool.scores.rater.pairs=quality needs a number in [0, 1]")
    return float(given)


def require_known(domain: str, allowed: Sequence[str]) -> None:
    """Refuse a domain that is not among ``allowed`` (where any are given)."""
    if allowed and domain not in allowed:
        raise BadRecordError(
            f"unknown domain {domain!r}{nearest_name(domain, allowed)}; pool.domains allows {', '.join(allowed)}"
        )


def _rename_turns(record: Mapping[str, Any]) -> Any:
    """ShareGPT's ``from`` and ``value`` as role and content; ``system``, where there is one, comes first."""
    turns = record["conversations"]
    if not isinstance(turns, list):
        raise BadRecordError(f"'conversations' is {_describe(turns)}; it must be a non-empty list of turns")
    system = record.get("system")
    renamed: list[Any] = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        is_known = isinstance(turn, Mapping) and isinstance(turn.get("from"), str)
        renamed.append(
            {"role": ALIASES.get(turn["from"], turn["from"]), "content": turn.get("value")} if is_known else turn
        )
    return renamed


def _parse_turns(turns: Any) -> tuple[Message, ...]:
    if not isinstance(turns, list) or not turns:
        raise BadRecordError(f"'messages' is {_describe(turns)}; it must be a non-empty list of turns")
    messages = []
    for at, turn in enumerate(turns):
        if not isinstance(turn, Mapping):
            raise BadRecordError(f"messages[{at}] is {_describe(turn)}, not an object with role and content")
        role = turn.get("role")
        if role not in ROLES:
            raise BadRecordError(f"messages[{at}] has role {role!r}; allowed are {', '.join(ROLES)}")
        messages.append(Message(role, _require_text(turn, "content", f"messages[{at}] ")))
    if not any(message.role == "assistant" for message in messages):
        raise BadRecordError("no assistant turn: there is nothing to learn or to score")
    return tuple(messages)


def _require_text(record: Mapping[str, Any], field: str, where: str = "") -> str:
    given = record.get(field)
    if not isinstance(given, str):
        raise BadRecordError(f"{where}'{field}' is {_describe(given)}, not text")
    if not is_unicode(given):
        raise BadRecordError(f"{where}'{field}' holds half of a surrogate pair, which is no character")
    return given


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: JSON can spell half of a surrogate pair, which cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spell(value: Any) -> str:
    return "null" if value is None else repr(value)[:80]


def _describe(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
