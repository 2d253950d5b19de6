"""Documents as one flat array of tokens with a mask of the tokens to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import TrainError


@dataclass(frozen=True)
class TokenStore:
    """Tokenised documents, one after the other.

    Parameters
    ----------
    tokens : ndarray, shape (n_tokens,)
        Token ids, uint16 or uint32; an array or a memory map.
    labels : ndarray, shape (n_tokens,)
        1 where the token is a target (the assistant's tokens, the end of turn included), else 0.
    offsets : ndarray of int64, shape (n_documents + 1,)
        Document ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``.

    Raises
    ------
    TrainError
        Where the three arrays do not fit each other.
    """

    tokens: NDArray[Any]
    labels: NDArray[Any]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.labels):
            raise TrainError(f"The store has {len(self.tokens)} tokens but {len(self.labels)} labels.")
        offsets = self.offsets
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(self.tokens) or np.any(np.diff(offsets) < 0):
            raise TrainError("The store's offsets must rise from 0 to its number of tokens.")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, shape (n_documents,)."""
        return np.diff(self.offsets)

    def document(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the tokens and labels of document ``index``."""
        start, stop = int(self.offsets[index]), int(self.offsets[index + 1])
        return self.tokens[start:stop], self.labels[start:stop]

    def count_targets(self, doc_ids: NDArray[np.int64], max_length: int) -> NDArray[np.int64]:
        """Count the tokens of each document that a model is trained to predict.

        Parameters
        ----------
        doc_ids : ndarray of int64, shape (n,)
        max_length : int
            Tokens of a document beyond this are cut off and do not count; neither does a document's first
            token, which nothing predicts.

        Returns
        -------
        ndarray of int64, shape (n,)
        """
        # Plain integers and a plain array: items of arrays and slices of a memmap cost several times more.
        starts = self.offsets[doc_ids] + 1
        stops = np.minimum(self.offsets[np.asarray(doc_ids) + 1], starts - 1 + max_length)
        labels = np.asarray(self.labels)
        labels = labels.view(np.bool_) if labels.dtype == np.uint8 else labels
        spans = zip(starts.tolist(), stops.tolist())
        return np.fromiter((np.count_nonzero(labels[a:b]) for a, b in spans), dtype=np.int64, count=len(starts))
