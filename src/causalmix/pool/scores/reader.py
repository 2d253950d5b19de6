"""Texts as the scorers' models read them: raw, no chat template, tokenised once for all scorers of one tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from causalmix.pool.tokenizer import fingerprint_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHARACTERS = 2**21  # encoded at once: what the library keeps of a text takes a hundred times its size


class Reading(NamedTuple):
    """A text's token ids, and the number of its first token that starts at or after the place asked for."""

    ids: NDArray[np.int32]
    first: int


class TextReader:
    """Tokenise texts, some million characters at a time; what was read last is kept for the next who asks.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast

    Attributes
    ----------
    fingerprint : str
        The tokenizer's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.fingerprint = fingerprint_tokenizer(tokenizer)
        self.backend: Any = tokenizer.backend_tokenizer
        self.backend.no_truncation()
        self.backend.no_padding()
        self.asked: tuple[list[str], list[int]] = ([], [])
        self.readings: list[Reading] = []

    def read(self, texts: list[str], starts: list[int]) -> list[Reading]:
        """Tokenise whole texts.

        Parameters
        ----------
        texts : list of str
        starts : list of int
            Of each, a character: where the output starts.
        """
        if (texts, starts) != self.asked:
            self.readings = [
                Reading(np.array(encoding.ids, dtype=np.int32), _find_first(encoding, start))
                for encoding, start in zip(self._encode(texts), starts)
            ]
            self.asked = (texts, starts)
        return self.readings

    def _encode(self, texts: Sequence[str]) -> Iterator[Any]:
        for batch in _cut(texts):
            yield from self.backend.encode_batch(batch, add_special_tokens=False)


def _cut(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
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
