"""From a conversation to token ids and the mask of what is learnt: the assistant's turns.

The chat template is rendered up to each assistant turn and again with it; the characters in between are
the turn. That holds for any template in which a shorter conversation is a prefix of a longer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import PoolError
from causalmix.pool.documents import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Span = tuple[int, int]


@dataclass(frozen=True)
class Encoded:
    """One document's tokens and, for each, whether it is a target; ``is_truncated`` where some were cut."""

    tokens: NDArray[np.int64]
    labels: NDArray[np.uint8]
    is_truncated: bool


def encode_conversations(
    tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Sequence[Message]], max_length: int
) -> list[Encoded]:
    """Tokenise conversations with the chat template.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        With a chat template.
    conversations : sequence of sequences of Message
    max_length : int
        Tokens a document; longer ones lose their end.

    Returns
    -------
    list of Encoded
        A label is 1 from the first token of an assistant's answer to its end-of-turn token.

    Raises
    ------
    PoolError
        Where the template refuses a conversation or changes earlier turns when later ones follow.
    """
    rendered = [render_spans(tokenizer, messages) for messages in conversations]
    encodings = tokenizer(
        [text for text, _ in rendered],
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    encoded = []
    for (_, spans), ids, offsets in zip(rendered, encodings["input_ids"], encodings["offset_mapping"]):
        tokens = np.asarray(ids[:max_length], dtype=np.int64)
        labels = mark_spans(np.asarray(offsets[:max_length], dtype=np.int64).reshape(-1, 2), spans)
        encoded.append(Encoded(tokens, labels, len(ids) > max_length))
    return encoded


def render_spans(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> tuple[str, list[Span]]:
    """Render a conversation and find the characters of its assistant turns, end-of-turn token included.

    Returns
    -------
    text : str
    spans : list of (start, stop)
    """
    turns = [{"role": message.role, "content": message.content} for message in messages]
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


def mark_spans(offsets: NDArray[np.int64], spans: Sequence[Span]) -> NDArray[np.uint8]:
    """Mark the tokens that lie inside one of the spans.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n_tokens, 2)
        First character and the one after the last, of each token.
    spans : sequence of (start, stop)

    Returns
    -------
    ndarray of uint8, shape (n_tokens,)
    """
    starts, stops = offsets[:, 0], offsets[:, 1]
    labels = np.zeros(len(offsets), dtype=np.uint8)
    for start, stop in spans:
        labels |= ((starts >= start) & (stops <= stop) & (stops > starts)).astype(np.uint8)
    return labels


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
