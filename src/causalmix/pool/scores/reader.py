"""Texts as the scorers' models read them: raw, no chat template, tokenised once for all scorers of one tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from causalmix.pool.tokenizer import fingerprint_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHARACTERS = 2**21  # of one text, encoded at once: what the library keeps of it takes a hundred times its size
BATCH_CHARACTERS = 2**18  # of several; 30 MB then
BREAK = re.compile(r"(?<=\S) (?=\S)")  # a lone space between words, where no token goes across


class Reading(NamedTuple):
    """A text's token ids, and the number of its first token that starts at or after the place asked for."""

    ids: NDArray[np.int32]
    first: int


class TextReader:
    """Tokenise texts; what was read last is kept for the next scorer who asks.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast

    Attributes
    ----------
    fingerprint : str
        The tokenizer's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint_tokenizer(tokenizer)
        self.asked: tuple[list[str], list[int]] = ([], [])
        self.readings: list[Reading] = []

    def read(self, texts: list[str], starts: list[int]) -> list[Reading]:
        """Tokenise whole texts; ``starts`` says at which character each one's output begins."""
        if (texts, starts) != self.asked:
            self.readings = list(read_texts(self.tokenizer, texts, starts))
            self.asked = (texts, starts)
        return self.readings


def read_texts(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], starts: Sequence[int] | None = None
) -> Iterator[Reading]:
    """Tokenise raw texts without special tokens around them, some hundred thousand characters at a time.

    A longer text is cut at a space between two words. Tokenizers that begin their words with the space before
    them, as byte-level ones do, give the tokens of the whole text.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
    texts : sequence of str
    starts : sequence of int, optional
        Of each text a character, 0 unless given.
    """
    backend: Any = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    pieces = [list(_cut(text)) for text in texts]
    encodings = (
        encoding
        for batch in _batch(piece for some in pieces for piece in some)
        for encoding in backend.encode_batch(batch, add_special_tokens=False)
    )
    for some, start in zip(pieces, starts or [0] * len(texts)):
        parts: list[NDArray[np.int32]] = []
        first, begin, count = None, 0, 0
        for piece, encoding in zip(some, encodings):
            if first is None and (at := _find_first(encoding, max(0, start - begin))) < len(encoding):
                first = count + at
            parts.append(np.array(encoding.ids, dtype=np.int32))
            begin, count = begin + len(piece), count + len(encoding)
        yield Reading(parts[0] if len(parts) == 1 else np.concatenate(parts), count if first is None else first)


def _cut(text: str) -> Iterator[str]:
    """Cut a text that is too long to encode at once."""
    start = 0
    while len(text) - start > CHARACTERS:
        found = BREAK.search(text, start + CHARACTERS // 2, start + CHARACTERS)
        stop = found.start() if found else start + CHARACTERS
        yield text[start:stop]
        start = stop
    yield text[start:]


def _batch(pieces: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for piece in pieces:
        if batch and size + len(piece) > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += len(piece)
    if batch:
        yield batch


def _find_first(encoding: Any, start: int) -> int:
    """Find the first token that starts at character ``start`` or after it: all tokens, where none does."""
    count = len(encoding)
    at = encoding.char_to_token(start)
    if at is None:  # no token holds that character, or there is none
        return next((at for at in range(count) if encoding.token_to_chars(at)[0] >= start), count)
    while at < count and encoding.token_to_chars(at)[0] < start:
        at += 1
    return int(at)
