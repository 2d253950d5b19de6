"""Writing_Style of every document: logit 0 of a rater, averaged over chunks by their number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from causalmix.pool.scores.rater import STYLE_LOGIT
from causalmix.pool.scores.reader import TextReader
from causalmix.pool.scores.scorer import ScoredText, bucket_by_length, pad_right

# Of a rater without a padding token: no token of a chunk is taken for padding, and a batch has one length.
NO_PAD = -1

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


class WritingStyleScorer:
    """Writing_Style, after QuRater: chunks without special tokens, weighted by their tokens; unbounded.

    Parameters
    ----------
    model : PreTrainedModel
        A sequence classifier with QuRater's four logits.
    tokenizer : PreTrainedTokenizerFast
        The rater's own.
    chunk_length : int
        Tokens a chunk.
    batch_tokens : int
        Padded tokens a forward pass.
    """

    features = ("writing_style",)

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        chunk_length: int,
        batch_tokens: int,
    ) -> None:
        self.model = model.eval()
        self.reader = TextReader(tokenizer)
        self.chunk_length = chunk_length
        self.batch_tokens = batch_tokens
        self.never_pads = model.config.pad_token_id is None or model.config.pad_token_id == NO_PAD
        if self.never_pads:
            model.config.pad_token_id = NO_PAD

    def score(self, texts: Sequence[ScoredText]) -> NDArray[np.float64]:
        """Score texts; shape (n_texts, 1). A text without tokens scores 0."""
        if not texts:
            return np.zeros((0, 1))
        readings = self.reader.read([text.text for text in texts], [text.boundary for text in texts])
        chunks, owners = [], []
        for at, reading in enumerate(readings):
            for start in range(0, len(reading.ids), self.chunk_length):
                chunks.append(reading.ids[start : start + self.chunk_length])
                owners.append(at)
        sizes = np.array([len(chunk) for chunk in chunks], dtype=np.int64)
        logits = np.zeros(len(chunks))
        for batch in bucket_by_length(sizes, self.batch_tokens, exact=self.never_pads):
            logits[batch] = self._rate([chunks[at] for at in batch])
        total = np.bincount(owners, weights=logits * sizes, minlength=len(texts))
        weight = np.bincount(owners, weights=sizes, minlength=len(texts))
        return np.asarray(total / np.maximum(weight, 1))[:, None]

    @torch.inference_mode()
    def _rate(self, chunks: list[NDArray[np.int32]]) -> NDArray[np.float64]:
        device, pad = self.model.device, max(0, int(self.model.config.pad_token_id))
        ids = torch.from_numpy(pad_right(chunks, pad)).to(device)
        mask = torch.from_numpy(pad_right([np.ones(len(chunk), dtype=np.int64) for chunk in chunks], 0)).to(device)
        logits = self.model(input_ids=ids, attention_mask=mask).logits[:, STYLE_LOGIT]
        return np.asarray(logits.double().cpu().numpy())
