"""A model behind lm-eval's interface: likelihoods in packed batches, gathered at the labels.

The same decoder as in training. What requests begin with alike is read once, and logits exist at the scored positions
only, a chunk at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lm_eval.api.model import TemplateLM
from numpy.typing import NDArray

from causalmix.errors import EvaluateError
from causalmix.evaluate.prefixes import Nodes, grow_tree, lay_out_tree, sort_sequences
from causalmix.train.branches import Branches
from causalmix.train.decoder import Decoding, run_decoder, settle

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

LOGITS_AT_ONCE = 2**26  # elements: a quarter of a gigabyte in float32
LOGITS_IN_CACHE = 2**18  # a megabyte, which stays beside a core
KEPT = 4  # sets of requests that stay laid out
Encoded = tuple[tuple[str, str], list[int], list[int]]  # texts, context ids, continuation ids
Asked = list[tuple[int, list[int]]]  # what is asked of a sequence: requests, and the tokens that each wants scored last


@dataclass(frozen=True)
class Layout:
    """One batch of a set of requests.

    Attributes
    ----------
    nodes, branches
        What the decoder reads, on the device of the models.
    rows : ndarray of int64, shape (n_asked,)
        Among the labelled positions, the one that each asked token is predicted from; rising.
    places, targets : Tensor of int64, shape (n_asked,)
        The same, and the asked tokens; on the device.
    owners : ndarray of int64, shape (n_asked,)
        The request that each belongs to.
    """

    nodes: Nodes
    branches: Branches
    rows: NDArray[np.int64]
    places: torch.Tensor
    targets: torch.Tensor
    owners: NDArray[np.int64]


class LikelihoodLM(TemplateLM):  # type: ignore[misc]
    """Likelihood requests of lm-eval on one model after another, with the requests tokenised and packed once.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
    max_length : int
        Tokens of context and continuation; a longer context loses its start.
    batch_size : int
        Sequences a forward pass; what they share counts once.
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
            while len(self._layouts) >= KEPT:
                del self._layouts[next(iter(self._layouts))]
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
        asked: dict[tuple[int, ...], Asked] = {}
        n_truncated = 0
        for owner, (_, context, continuation) in enumerate(requests):
            if not context or not continuation:
                what = "continuation" if context else "context"
                raise EvaluateError(f"This request has no {what} token: {requests[owner][0]}")
            n_truncated += len(context) + len(continuation) > self.max_length + 1
            for tokens, n_scored in cut_windows(context, continuation, self.max_length):
                asked.setdefault(tuple(tokens[:-1]), []).append((owner, tokens[-n_scored:]))
        sequences, asking = [np.array(read, dtype=np.int64) for read in asked], list(asked.values())
        order = sort_sequences(sequences)
        groups = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        layouts = [
            _lay_out_batch([sequences[i] for i in group], [asking[i] for i in group], device) for group in groups
        ]
        # The largest first: where memory does not suffice, that shows at once.
        return sorted(layouts, key=lambda layout: -len(layout.nodes.input_ids)), n_truncated

    @torch.inference_mode()
    def _run(self, layouts: list[Layout], n_requests: int) -> list[tuple[float, bool]]:
        assert self.model is not None, "set model first"
        head = self.model.get_output_embeddings()
        n_logits = min(LOGITS_AT_ONCE, LOGITS_IN_CACHE) if self.model.device.type == "cpu" else LOGITS_AT_ONCE
        chunk = max(1, n_logits // head.weight.shape[0])
        scores, misses = [], []
        how = settle(self.model, Decoding())
        for layout in layouts:
            states = run_decoder(self.model, layout.nodes, layout.branches, how)
            for start in range(0, len(states), chunk):
                logits = head(states[start : start + chunk]).float()
                part = slice(*np.searchsorted(layout.rows, [start, start + chunk]))
                places, targets = layout.places[part] - start, layout.targets[part]
                tokens = find_largest(logits)
                misses.append(tokens[places] != targets)
                logits.sub_(logits.gather(1, tokens[:, None]))
                chosen = logits[places, targets]
                scores.append(chosen - logits.exp_().sum(dim=1).log_()[places])
        owners = np.concatenate([layout.owners for layout in layouts])
        sums = np.bincount(owners, torch.cat(scores).double().cpu().numpy(), n_requests)
        missed = np.bincount(owners, torch.cat(misses).cpu().numpy(), n_requests)
        return list(zip(sums.tolist(), (missed == 0).tolist()))


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


def find_largest(logits: torch.Tensor) -> torch.Tensor:
    """Find each row's largest logit, the first of equal ones."""
    if logits.device.type == "cpu":  # numpy's takes a tenth of the time there
        return torch.from_numpy(logits.numpy().argmax(axis=1))
    return logits.argmax(dim=1)


def _lay_out_batch(sequences: list[NDArray[np.int64]], asking: list[Asked], device: torch.device) -> Layout:
    """Build a batch, and say where in it the asked tokens are predicted."""
    tree = grow_tree(sequences)
    asked = [
        (place, target, owner)
        for path, askers in zip(tree.paths, asking)
        for owner, scored in askers
        for place, target in zip(path[-len(scored) :].tolist(), scored)
    ]
    nodes, targets, owners = np.array(sorted(asked), dtype=np.int64).T
    where, rows = np.unique(nodes, return_inverse=True)
    places, tokens = (torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in (rows, targets))
    return Layout(*lay_out_tree(tree, where, device), rows, places, tokens, owners)
