"""Chat templates: what they write around the turns, and where the assistant's turns lie in what they write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from causalmix.errors import PoolError
from causalmix.pool.documents import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Span = tuple[int, int]
Turn = dict[str, str]


@dataclass(frozen=True)
class Layout:
    """What a template writes around the turns of one sequence of roles.

    Attributes
    ----------
    affixes : tuple of str
        Before the first turn, between turns, after the last.
    edges : tuple of (Span, Span)
        Start and stop of each assistant's span, as (turns before it, characters of affixes before it).
    """

    affixes: tuple[str, ...]
    edges: tuple[tuple[Span, Span], ...]

    def find_spans(self, messages: Sequence[Message], text: str) -> list[Span] | None:
        """Find the assistant's spans in a rendered conversation; None where it is not written after this layout.

        A template that trims turns, or treats some of them otherwise, writes another text than the layout's.
        """
        contents = [message.content for message in messages]
        parts = [self.affixes[0]]
        for content, affix in zip(contents, self.affixes[1:]):
            parts.append(content)
            parts.append(affix)
        if "".join(parts) != text:
            return None
        before = [0]
        for content in contents:
            before.append(before[-1] + len(content))
        return [(start + before[at], stop + before[until]) for (at, start), (until, stop) in self.edges]


def learn_layout(tokenizer: PreTrainedTokenizerFast, roles: Sequence[str]) -> Layout | None:
    """Learn a template's layout from turns that hold a marker each; None where it has none that markers show."""
    markers = [f"\ue000{at}\ue001" for at in range(len(roles))]
    try:
        text, spans = render_spans(tokenizer, [Message(role, marker) for role, marker in zip(roles, markers)])
    except PoolError:
        return None  # rendering a real conversation will say why
    places = [text.find(marker) for marker in markers]
    if any(text.count(marker) != 1 for marker in markers) or places != sorted(places):
        return None
    stops = [place + len(marker) for place, marker in zip(places, markers)]
    affixes = [text[start:stop] for start, stop in zip([0, *stops], [*places, len(text)])]

    def locate(position: int) -> Span:
        turns = sum(stop <= position for stop in stops)
        return turns, position - sum(len(marker) for marker in markers[:turns])

    # A span that ends with its turn ends before its trailing spaces, which the marker does not have.
    if any(
        stop in stops or any(a < edge < b for a, b in zip(places, stops) for edge in (start, stop))
        for start, stop in spans
    ):
        return None
    return Layout(tuple(affixes), tuple((locate(start), locate(stop)) for start, stop in spans))


def render_spans(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> tuple[str, list[Span]]:
    """Render a conversation and find the characters of its assistant turns, end-of-turn token included.

    Returns
    -------
    text : str
    spans : list of (start, stop)

    Raises
    ------
    PoolError
        Where the template refuses the conversation or changes earlier turns when later ones follow.
    """
    turns = _to_turns(messages)
    text = _render(tokenizer, turns, prompt=False)
    spans = []
    for at, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = _render(tokenizer, turns[:at], prompt=True) if at else _prompt_of_first(tokenizer, turns)
        through = text if at + 1 == len(turns) else _render(tokenizer, turns[: at + 1], prompt=False)
        if not (through.startswith(before) and text.startswith(through)):
            raise PoolError(
                "the tokenizer's chat template rewrites earlier turns when later ones follow, so the "
                "assistant's "
                "tokens cannot be told apart; take a template that only appends (ChatML does)."
            )
        # What follows the end-of-turn token (a newline in ChatML) is layout, not the answer.
        spans.append((len(before), max(len(before), len(through.rstrip()))))
    return text, spans


def render(tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Sequence[Message]]) -> list[str]:
    """Render whole conversations.

    Raises
    ------
    PoolError
        Where the template refuses one.
    """
    from jinja2.exceptions import TemplateError

    turns = [_to_turns(messages) for messages in conversations]
    if not turns:
        return []
    try:
        texts: Any = tokenizer.apply_chat_template(turns, tokenize=False)
    except TemplateError as error:
        raise PoolError(f"the tokenizer's chat template refuses a conversation: {error}") from error
    return list(texts)


def _to_turns(messages: Sequence[Message]) -> list[Turn]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _prompt_of_first(tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, str]]) -> str:
    # No turn comes before: the template cannot render nothing, so its prompt is read off an empty answer.
    marker = "\x00"
    text = _render(tokenizer, [{"role": "assistant", "content": marker}, *turns[1:]], prompt=False)
    return text[: text.index(marker)] if marker in text else ""


def _render(tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, str]], *, prompt: bool) -> str:
    from jinja2.exceptions import TemplateError

    try:
        text: Any = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    except TemplateError as error:
        raise PoolError(f"the tokenizer's chat template refuses a conversation: {error}") from error
    return str(text)
