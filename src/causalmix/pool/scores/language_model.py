"""Normalized_Loss and HES of every document, out of one forward pass of a fixed language model.

Definitions after the public OpenDataArena tools. With ``text=joined`` both read one text, instruction, input
and output joined with newlines: a named departure (published HES has no newline before the output, and reads
4,096 tokens instead of 2,048), which one pass requires. ``text=published`` takes a pass for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from causalmix.pool.scores.reader import TextReader
from causalmix.pool.scores.scorer import ScoredText, bucket_by_length, pad_right

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

HIGH_ENTROPY_QUANTILE = 0.995
VOCABULARY_CHUNK = 8192  # columns of the output layer at once
CHUNK_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}  # logits at once: what a core's cache holds; a quarter GiB


class LanguageModelScorer:
    """Normalized_Loss and HES.

    Normalized_Loss is the mean negative log-likelihood of a text's tokens, in bits a token, all tokens after
    the first counted; 0 for a text of no or one token. HES is the sum, in bits, of the entropies of the
    predictions of the output's tokens that are at or above the 99.5th percentile of that document (linear
    interpolation; at least one token); 0 for an empty output. A token that holds the end of the prompt and
    the start of the output counts as prompt.

    Parameters
    ----------
    model : PreTrainedModel
        Causal, with a linear output layer.
    tokenizer : PreTrainedTokenizerFast
        The model's own.
    max_length : int
        Tokens of a text that are read.
    batch_tokens : int
        Padded tokens a forward pass; changes time and memory, not the scores.
    hes_max_length : int, optional
        Where given, HES takes a pass of its own, as published: over so many tokens of prompt and output with
        nothing between them.

    Attributes
    ----------
    truncated : dict of str to int
        Feature -> texts longer than what is read, counted over all calls.
    """

    features = ("hes", "normalized_loss")

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        max_length: int,
        batch_tokens: int,
        hes_max_length: int | None = None,
    ) -> None:
        self.model = model.eval()
        self.reader = TextReader(tokenizer)
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.hes_max_length = hes_max_length
        self.truncated = dict.fromkeys(self.features, 0)

    def score(self, texts: Sequence[ScoredText]) -> NDArray[np.float64]:
        """Score texts.

        Returns
        -------
        ndarray of float64, shape (n_texts, 2)
            HES and Normalized_Loss, in bits.
        """
        apart, n_cut_hes = None, 0
        if self.hes_max_length is not None:
            bare = [text.prompt + text.output for text in texts]
            apart, n_cut_hes = self._read(bare, [len(text.prompt) for text in texts], self.hes_max_length)
        # Last: the rater reads the same texts, and need not tokenise them again where its tokenizer is this one.
        scores, n_cut = self._read([text.text for text in texts], [text.boundary for text in texts], self.max_length)
        if apart is not None:
            scores[:, 0] = apart[:, 0]
        else:
            n_cut_hes = n_cut
        self.truncated["normalized_loss"] += n_cut
        self.truncated["hes"] += n_cut_hes
        return scores

    def _read(self, texts: list[str], starts: list[int], max_length: int) -> tuple[NDArray[np.float64], int]:
        """Score texts whose outputs start at character ``starts``; count those that are longer."""
        readings = self.reader.read(texts, starts)
        rows = [reading.ids[:max_length] for reading in readings]
        scores = np.zeros((len(texts), 2))
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        # A text of one token has nothing to predict: it keeps its zeros.
        for batch in bucket_by_length(np.where(lengths > 1, lengths, 0), self.batch_tokens):
            losses, entropies = self._predict([rows[at] for at in batch])
            for at, loss, entropy in zip(batch, losses, entropies):
                first = max(readings[at].first, 1)  # nothing predicts a text's first token
                scores[at] = sum_high_entropies(entropy[first - 1 :]), loss.mean()
        return scores, sum(len(reading.ids) > max_length for reading in readings)

    @torch.inference_mode()
    def _predict(self, rows: list[NDArray[np.int32]]) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        device = self.model.device
        ids = torch.from_numpy(pad_right(rows, pad=0)).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        # Padding stands at the end, where causal attention never looks back from: no mask is needed.
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        is_predicting = torch.arange(ids.shape[1] - 1, device=device)[None] < (lengths - 1)[:, None]
        head = self.model.get_output_embeddings()
        losses, entropies = stream_vocabulary(
            hidden[:, :-1][is_predicting], head.weight, getattr(head, "bias", None), ids[:, 1:][is_predicting]
        )
        cuts = np.cumsum([len(row) - 1 for row in rows])[:-1]
        return np.split(losses, cuts), np.split(entropies, cuts)


def sum_high_entropies(entropies: NDArray[np.float64]) -> float:
    """Sum the entropies at or above their 99.5th percentile (bits); 0 where there are none."""
    if len(entropies) == 0:
        return 0.0
    # np.quantile to the last bit, without the overhead that it has for each document.
    ranked = np.sort(entropies)
    place = HIGH_ENTROPY_QUANTILE * (len(ranked) - 1)
    at = int(place)
    below, above, share = ranked[at], ranked[min(at + 1, len(ranked) - 1)], place - at
    threshold = below + (above - below) * share if share < 0.5 else above - (above - below) * (1 - share)
    # Interpolation between equal values may round a hair above them.
    return float(entropies[entropies >= min(threshold, ranked[-1])].sum())


def stream_vocabulary(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss and entropy of predictions, with the vocabulary taken in chunks and no logits kept.

    With l the logits, ``H = (logsumexp(l) - sum(p l)) / ln 2``; the maximum, the sum of exponentials and the
    sum of weighted logits are carried from chunk to chunk.

    Parameters
    ----------
    hidden : Tensor, shape (n, hidden_size)
    weight : Tensor, shape (vocab_size, hidden_size)
    bias : Tensor, shape (vocab_size,), optional
    targets : Tensor of int64, shape (n,)

    Returns
    -------
    losses, entropies : ndarray of float64, shape (n,)
        In bits.
    """
    losses, entropies = [], []
    n_rows = max(1, CHUNK_ELEMENTS[hidden.device.type] // min(len(weight), VOCABULARY_CHUNK))
    for start in range(0, len(hidden), n_rows):
        states, wanted = hidden[start : start + n_rows], targets[start : start + n_rows]
        top = torch.full((len(states),), -torch.inf, dtype=torch.float32, device=states.device)
        mass, weighted = torch.zeros_like(top), torch.zeros_like(top)
        chosen = torch.zeros_like(top)
        for column in range(0, len(weight), VOCABULARY_CHUNK):
            logits = states @ weight[column : column + VOCABULARY_CHUNK].T
            if bias is not None:
                logits = logits + bias[column : column + VOCABULARY_CHUNK]
            logits = logits.float()
            raised = torch.maximum(top, logits.amax(dim=1))
            # Where `top` is still -inf the sums are zero: exp(-inf) = 0 keeps them so.
            shrink = torch.exp(top - raised)
            inside = (wanted >= column) & (wanted < column + logits.shape[1])
            at = (wanted - column).clamp(0, logits.shape[1] - 1)
            chosen = torch.where(inside, logits.gather(1, at[:, None])[:, 0], chosen)
            shifted = logits.sub_(raised[:, None])
            weights = torch.exp(shifted)
            # sum(e^(l - top) (l - top)) must follow `top` when it rises.
            drift = torch.where(mass > 0, (top - raised) * mass, torch.zeros_like(mass))
            mass = shrink * mass + weights.sum(dim=1)
            weighted = shrink * (weighted + drift) + weights.mul_(shifted).sum(dim=1)
            top = raised
        log_mass = torch.log(mass)
        losses.append((top + log_mass - chosen) / math.log(2))
        entropies.append((log_mass - weighted / mass) / math.log(2))
    return _to_numpy(losses), np.maximum(_to_numpy(entropies), 0.0)


def _to_numpy(parts: list[torch.Tensor]) -> NDArray[np.float64]:
    return np.asarray(torch.cat(parts).double().cpu().numpy())
