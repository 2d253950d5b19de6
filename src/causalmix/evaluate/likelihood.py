"""A model behind lm-eval's interface: likelihoods in packed batches, gathered at the labels.

The same packed forward pass as in training. Logits exist at the scored positions only, a chunk at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lm_eval.api.model import TemplateLM

from causalmix.errors import EvaluateError
from causalmix.train.forward import Prepared, label_states, prepare
from causalmix.train.packing import pack_best_fit
from causalmix.train.reader import Batch, build_batch
from causalmix.train.tokens import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

LOGITS_AT_ONCE = 2**26  # elements: a quarter of a gigabyte in float32
Encoded = tuple[tuple[str, str], list[int], list[int]]  # texts, context ids, continuation ids
Window = tuple[tuple[int, ...], int]  # tokens that the model reads, and from how many of the last it predicts


@dataclass(frozen=True)
class Layout:
    """One packed batch of a set of requests.

    Attributes
    ----------
    batch : Prepared
        On the device of the models. Requests that differ in their last token alone, as a question's lettered
        answers do, are one document of it.
    rows : Tensor of int64, shape (n_asked,)
        The labelled position of the batch that each asked token is predicted from; on the device.
    targets : Tensor of int64, shape (n_asked,)
        The asked tokens; on the device.
    owners : Tensor of int64, shape (n_asked,)
        The request that each belongs to; on the CPU.
    """

    batch: Prepared
    rows: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor


class LikelihoodLM(TemplateLM):  # type: ignore[misc]
    """Likelihood requests of lm-eval on one model after another, with the requests tokenised and packed once.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
    max_length : int
        Tokens of context and continuation; a longer context loses its start.
    batch_size : int
        Documents a forward pass, of about equal length.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, max_length: int, batch_size: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.batch_size = batch_size
        self.model: PreTrainedModel | None = None
        self.n_truncated = 0  # requests of the last call that did not fit into max_length
        self._layouts: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[list[Layout], int]] = {}

    @property
    def eot_token_id(self) -> int:
        """The tokenizer's end of text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def tokenizer_name(self) -> str:
        """Name under which lm-eval would cache requests."""
        return str(self.tokenizer.name_or_path)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokenise; None leaves special tokens to the tokenizer, as lm-eval's own model does."""
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **options))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render turns with the tokenizer's template."""
        text = self.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return str(text)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Score continuations; requests that were scored before are neither tokenised nor packed again."""
        assert self.model is not None, "set model first"
        pairs = tuple(request.args for request in requests)
        key = (str(self.model.device), pairs)
        if key not in self._layouts:
            encoded = [(pair, *self.encode_request(*pair)) for pair in pairs]
            self._layouts[key] = self._lay_out(encoded, self.model.device)
        layouts, self.n_truncated = self._layouts[key]
        return self._run(layouts, len(pairs))

    def encode_request(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokenise one request by lm-eval's rules."""
        if context:
            first, second = self._encode_pair(context, continuation)
            return first, second
        ids = self.tok_encode(continuation, add_special_tokens=False)
        return ([self.prefix_token_id], ids) if ids[0] != self.prefix_token_id else (ids[:1], ids[1:])

    def _loglikelihood_tokens(
        self, requests: list[Encoded], disable_tqdm: bool = True, **_: Any
    ) -> list[tuple[float, bool]]:
        assert self.model is not None, "set model first"
        layouts, self.n_truncated = self._lay_out(requests, self.model.device)
        return self._run(layouts, len(requests))

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """Refuse: no task of ours asks for it."""
        raise EvaluateError("Rolling likelihoods (perplexity of whole texts) are not supported: choose another task.")

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """Generate greedily through lm-eval's own model, in this process."""
        from lm_eval.models.huggingface import HFLM

        assert self.model is not None
        stock = HFLM(
            pretrained=self.model,
            tokenizer=self.tokenizer,
            batch_size=self.batch_size,
            max_length=self.max_length,
        )
        return list(stock.generate_until(list(requests), disable_tqdm=True))

    def _lay_out(self, requests: Sequence[Encoded], device: torch.device) -> tuple[list[Layout], int]:
        # What is computed -> what is asked of it: requests and the tokens that each wants scored.
        asked: dict[Window, list[tuple[int, list[int]]]] = {}
        n_truncated = 0
        for owner, (_, context, continuation) in enumerate(requests):
            if not context or not continuation:
                what = "continuation" if context else "context"
                raise EvaluateError(f"This request has no {what} token: {requests[owner][0]}")
            n_truncated += len(context) + len(continuation) > self.max_length + 1
            for tokens, n_scored in cut_windows(context, continuation, self.max_length):
                window = (tuple(tokens[:-1]), n_scored)
                asked.setdefault(window, []).append((owner, tokens[-n_scored:]))
        store, asking = _store_windows(list(asked)), list(asked.values())
        lengths = store.lengths()
        layouts = []
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(order), self.batch_size):
            group = order[start : start + self.batch_size]
            capacity = int(lengths[group[0]])
            rows = tuple(tuple(group[row].tolist()) for row in pack_best_fit(lengths[group], capacity))
            batch = build_batch(store, rows, capacity)
            layouts.append(_lay_out_batch(batch, [asking[document] for document in batch.documents], device))
        return layouts, n_truncated

    @torch.inference_mode()
    def _run(self, layouts: list[Layout], n_requests: int) -> list[tuple[float, bool]]:
        assert self.model is not None, "set model first"
        head = self.model.get_output_embeddings()
        chunk = max(1, LOGITS_AT_ONCE // head.weight.shape[0])
        sums = torch.zeros(n_requests, dtype=torch.float64)
        misses = torch.zeros(n_requests, dtype=torch.int64)
        for layout in layouts:
            states = label_states(self.model, layout.batch)
            for part in range(0, len(layout.rows), chunk):
                span = slice(part, part + chunk)
                targets = layout.targets[span]
                logits = head(states.index_select(0, layout.rows[span])).float()
                chosen = logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(dim=1)
                sums.index_add_(0, layout.owners[span], chosen.cpu().double())
                misses.index_add_(0, layout.owners[span], logits.argmax(dim=1).ne(targets).cpu().long())
        return [(total, missed == 0) for total, missed in zip(sums.tolist(), misses.tolist())]


class AnswerLM(LikelihoodLM):
    """Likelihood of answers to rendered chats: the answer's tokens are those that training learns.

    lm-eval moves trailing white space of a context into the continuation. A rendered chat ends in a newline,
    which no model was trained to predict; here the tokens that end beyond the context are scored alone.
    """

    def encode_request(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokenise the whole, as the pool does, and split it where the answer starts."""
        encoding = self.tokenizer(context + continuation, add_special_tokens=False, return_offsets_mapping=True)
        ids = list(encoding["input_ids"])
        start = next(at for at, (_, stop) in enumerate(encoding["offset_mapping"]) if stop > len(context))
        return ids[:start], ids[start:]


def cut_windows(context: list[int], continuation: list[int], max_length: int) -> list[tuple[list[int], int]]:
    """Cut a request into windows of ``max_length + 1`` tokens, the last of which is only predicted.

    A context that is too long loses its start, as in lm-eval. A continuation that is longer than a window
    alone is scored in pieces of half a window, each after as many tokens before it as fit.

    Returns
    -------
    list of (tokens, n_scored)
        The last ``n_scored`` tokens of each window are scored; together they are the continuation.
    """
    whole = context + continuation
    piece = len(continuation) if len(continuation) <= max_length else max(1, max_length // 2)
    windows = []
    for start in range(len(context), len(whole), piece):
        stop = min(start + piece, len(whole))
        windows.append((whole[max(0, stop - max_length - 1) : stop], stop - start))
    return windows


def _store_windows(windows: list[Window]) -> TokenStore:
    """Lay windows end to end, each with a token more, which is only predicted: any will do."""
    offsets = np.concatenate([[0], np.cumsum([len(tokens) + 1 for tokens, _ in windows])]).astype(np.int64)
    labels = np.zeros(offsets[-1], dtype=np.uint8)
    for stop, (_, n_scored) in zip(offsets[1:], windows):
        labels[stop - n_scored : stop] = 1
    read = (token for tokens, _ in windows for token in (*tokens, 0))
    return TokenStore(tokens=np.fromiter(read, dtype=np.int64, count=int(offsets[-1])), labels=labels, offsets=offsets)


def _lay_out_batch(batch: Batch, asking: list[list[tuple[int, list[int]]]], device: torch.device) -> Layout:
    """Say where the tokens asked of each document of a batch are predicted, in the batch's order."""
    rows: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    start = 0
    for askers in asking:
        for owner, scored in askers:
            rows += range(start, start + len(scored))
            targets += scored
            owners += [owner] * len(scored)
        start += len(askers[0][1])
    places, tokens, whose = (torch.tensor(part, dtype=torch.int64) for part in (rows, targets, owners))
    return Layout(prepare(batch, device), places.to(device), tokens.to(device), whose)
