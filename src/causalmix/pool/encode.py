"""From a conversation to token ids and the mask of what is learnt: the assistant's turns.

The chat template is rendered up to each assistant turn and again with it; the characters in between are
the turn. That holds for any template in which a shorter conversation is a prefix of a longer one. Where a
conversation is what its roles' layout says it would be, which one rendering shows, the turns are read off that.

What a document says is text, whatever it spells: a special token written out in it (``<|im_end|>``) is encoded
as the characters it is made of. Only the template's own are special tokens; else a document could end its turn
and begin another's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmix.pool.documents import Message
from causalmix.pool.layout import Layout, Span, learn_layout, render, render_spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Encoded", "Encoder", "encode_conversations", "mark_spans", "render_spans"]

CHARACTERS = 2**21  # encoded at once: what the library keeps of a text takes a hundred times its size
SLACK = 4  # a text is cut at so many times the characters that the tokens to keep can have


@dataclass(frozen=True)
class Encoded:
    """One document's tokens and, for each, whether it is a target.

    ``is_truncated`` where some were cut, ``is_literal`` where the text spells a special token.
    """

    tokens: NDArray[np.int64]
    labels: NDArray[np.uint8]
    is_truncated: bool
    is_literal: bool = False


class Encoder:
    """Tokenise conversations with a tokenizer's chat template.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        With a chat template.
    max_length : int
        Tokens a document; longer ones lose their end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.backend = tokenizer.backend_tokenizer
        self.backend.no_truncation()
        self.backend.no_padding()
        self.layouts: dict[tuple[str, ...], Layout | None] = {}
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self.special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        longest = max((len(token) for token in tokenizer.get_vocab()), default=1)
        self.characters = SLACK * max_length * longest

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        """Tokenise conversations.

        Returns
        -------
        list of Encoded
            A label is 1 from the first token of an assistant's answer to its end-of-turn token.

        Raises
        ------
        PoolError
            Where the template refuses a conversation or changes earlier turns when later ones follow.
        """
        return [document for batch in self._cut(conversations) for document in self._encode_batch(batch)]

    def _cut(self, conversations: Sequence[Sequence[Message]]) -> Iterator[list[Sequence[Message]]]:
        batch: list[Sequence[Message]] = []
        size = 0
        for messages in conversations:
            length = min(self.characters, sum(len(message.content) for message in messages))
            if batch and size + length > CHARACTERS:
                yield batch
                batch, size = [], 0
            batch.append(messages)
            size += length
        yield batch

    def _encode_batch(self, batch: list[Sequence[Message]]) -> list[Encoded]:
        literal = [any(self.special.search(message.content) for message in messages) for messages in batch]
        plain = [messages for messages, is_literal in zip(batch, literal) if not is_literal]
        rendered = self._render(plain)
        encodings = self.backend.encode_batch(
            [text[: self.characters] for text, _ in rendered], add_special_tokens=False
        )
        encoded = iter(
            [
                self._finish(encoding, spans, len(text) > self.characters)
                for encoding, (text, spans) in zip(encodings, rendered)
            ]
        )
        return [
            self._encode_literal(messages) if is_literal else next(encoded)
            for messages, is_literal in zip(batch, literal)
        ]

    def _render(self, batch: list[Sequence[Message]]) -> list[tuple[str, list[Span]]]:
        texts = render(self.tokenizer, batch)
        rendered = []
        for messages, text in zip(batch, texts):
            roles = tuple(message.role for message in messages)
            if roles not in self.layouts:
                self.layouts[roles] = learn_layout(self.tokenizer, roles)
            layout = self.layouts[roles]
            spans = layout.find_spans(messages, text) if layout else None
            rendered.append(render_spans(self.tokenizer, messages) if spans is None else (text, spans))
        return rendered

    def _finish(self, encoding: Any, spans: list[Span], is_cut: bool) -> Encoded:
        ids = encoding.ids
        labels = np.zeros(len(ids), dtype=np.uint8)
        for start, stop in spans:
            bounds = find_tokens(encoding, start, min(stop, self.characters))
            if bounds is None:  # a character that no token holds: look at all of them
                labels = mark_spans(np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2), spans)
                break
            labels[bounds[0] : bounds[1]] = 1
        tokens = np.array(ids[: self.max_length], dtype=np.int64)
        return Encoded(tokens, labels[: self.max_length], is_cut or len(ids) > self.max_length)

    def _encode_literal(self, messages: Sequence[Message]) -> Encoded:
        """Encode a conversation whose text spells special tokens: those become characters, the template's stay.

        While the template is rendered, a character of private use stands for each spelt token; then the text
        is cut at the tokens that are left, as the library itself cuts it, and each piece encoded as plain text.
        """
        names = sorted({match for message in messages for match in self.special.findall(message.content)})
        free = _find_free("".join(message.content for message in messages), len(names))
        masks = dict(zip(names, free))
        masked = [
            Message(message.role, self.special.sub(lambda match: masks[match[0]], message.content))
            for message in messages
        ]
        whole, spans = render_spans(self.tokenizer, masked)
        text = whole[: self.characters]
        spelt = dict(zip(free, names))
        at = [0, *np.cumsum([len(spelt.get(character, character)) for character in text]).tolist()]
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, stop, is_special in _cut_at(self.special, text):
            piece = "".join(spelt.get(character, character) for character in text[start:stop])
            if is_special:
                ids.append(self.tokenizer.convert_tokens_to_ids(piece))
                offsets.append((at[start], at[stop]))
                continue
            encoding = self._encode_plain(piece)
            ids.extend(encoding.ids)
            offsets.extend((at[start] + first, at[start] + last) for first, last in encoding.offsets)
        labels = mark_spans(
            np.asarray(offsets, dtype=np.int64).reshape(-1, 2),
            [(at[start], at[min(stop, len(text))]) for start, stop in spans if start < len(text)],
        )
        tokens = np.array(ids[: self.max_length], dtype=np.int64)
        is_truncated = len(text) < len(whole) or len(ids) > self.max_length
        return Encoded(tokens, labels[: self.max_length], is_truncated, is_literal=True)

    def _encode_plain(self, text: str) -> Any:
        self.backend.encode_special_tokens = True
        try:
            return self.backend.encode(text, add_special_tokens=False)
        finally:
            self.backend.encode_special_tokens = False


def encode_conversations(
    tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Sequence[Message]], max_length: int
) -> list[Encoded]:
    """Tokenise conversations once: :meth:`Encoder.encode`."""
    return Encoder(tokenizer, max_length).encode(conversations)


def find_tokens(encoding: Any, start: int, stop: int) -> Span | None:
    """Find the tokens that lie within ``start`` to ``stop`` (characters): first, and one after the last.

    None where a character at the edge belongs to no token.
    """
    if start >= stop:
        return (0, 0)
    first, last = encoding.char_to_token(start), encoding.char_to_token(stop - 1)
    if first is None or last is None:
        return None
    count = len(encoding)
    while first < count and encoding.token_to_chars(first)[0] < start:
        first += 1
    # Bytes of one character are tokens of the same place.
    while last + 1 < count and encoding.token_to_chars(last + 1)[1] <= stop:
        last += 1
    while last >= first and encoding.token_to_chars(last)[1] > stop:
        last -= 1
    return (first, max(first, last + 1))


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


def _find_free(text: str, count: int) -> list[str]:
    """Find characters of private use that a text does not hold."""
    used = set(text)
    return [character for character in map(chr, range(0xF0000, 0xFFFFE)) if character not in used][:count]


def _cut_at(special: re.Pattern[str], text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield first character, the one after the last, and whether it is a special token, of each piece."""
    start = 0
    for match in special.finditer(text):
        if match.start() > start:
            yield start, match.start(), False
        yield match.start(), match.end(), True
        start = match.end()
    if start < len(text):
        yield start, len(text), False
