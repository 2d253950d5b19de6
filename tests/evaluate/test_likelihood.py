"""The fast adapter against lm-eval's own model, and against one document at a time."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.instance import Instance

from causalmix.errors import EvaluateError
from causalmix.evaluate import likelihood
from causalmix.evaluate.likelihood import AnswerLM, LikelihoodLM, cut_windows
from tests.evaluate.files import WORDS, make_model, make_tokenizer

torch.set_num_threads(1)


def make_requests(n_requests: int, longest: int = 20) -> list[Instance]:
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(2 * n_requests)]
    pairs = [(context, " " + rest) for context, rest in zip(texts[::2], texts[1::2])]
    pairs += [("", "face"), (texts[0] + " ", "gin"), (texts[0], " gin"), (texts[0], " ice")]
    return [Instance("loglikelihood", {}, pair, 0, ("t", at, 1)) for at, pair in enumerate(pairs)]


def make_lm(kind: type[LikelihoodLM] = LikelihoodLM, **changes: int) -> LikelihoodLM:
    lm = kind(make_tokenizer(), **{"max_length": 256, "batch_size": 5, **changes})
    lm.model = make_model()
    return lm


def make_stock(max_length: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever lm-eval's model and what it imports warn of
        from lm_eval.models.huggingface import HFLM

        return HFLM(
            pretrained=make_model(),
            tokenizer=make_tokenizer(),
            batch_size=4,
            max_length=max_length,
            device="cpu",
        )


@pytest.mark.parametrize("max_length", [256, 24])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_equal_to_the_stock_model(max_length: int) -> None:
    requests = make_requests(30, longest=20 if max_length > 100 else 8)
    fast = make_lm(max_length=max_length).loglikelihood(requests)
    stock = make_stock(max_length).loglikelihood(requests, disable_tqdm=True)
    assert [total for total, _ in fast] == pytest.approx([total for total, _ in stock], rel=1e-5)
    assert [greedy for _, greedy in fast] == [greedy for _, greedy in stock]


def test_greedy_answers_are_recognised() -> None:
    lm = make_lm()
    tokenizer, model = make_tokenizer(), lm.model
    assert model is not None
    ids = tokenizer.encode("face gin")
    greedy = model(torch.tensor([ids])).logits[0, -1].argmax().item()
    (hit, miss) = lm._loglikelihood_tokens([(("", ""), ids, [greedy]), (("", ""), ids, [(greedy + 1) % 300])])
    assert (hit[1], miss[1]) == (True, False)


def test_packing_batches_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = make_requests(20)
    reference = make_lm(batch_size=1).loglikelihood(requests)
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 900)  # three positions
    packed = make_lm(batch_size=50).loglikelihood(requests)
    assert [total for total, _ in packed] == pytest.approx([total for total, _ in reference], rel=1e-5)


def test_requests_are_tokenised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, requests = make_lm(), make_requests(5)
    first = lm.loglikelihood(requests)
    monkeypatch.setattr(LikelihoodLM, "encode_request", lambda *_: pytest.fail("tokenised again"))
    assert lm.loglikelihood(requests) == first
    lm.model = make_model(seed=1)
    assert lm.loglikelihood(requests) != first


def test_answers_of_chats_start_where_training_starts() -> None:
    lm = make_lm(AnswerLM)
    context = lm.apply_chat_template([{"role": "user", "content": "face"}])
    assert context.endswith("assistant\n")
    first, second = lm.encode_request(context, "gin é")
    assert make_tokenizer().decode(first) == context
    assert make_tokenizer().decode(second) == "gin é"
    # lm-eval's rule would also score the newline, which no assistant token is.
    assert make_tokenizer().decode(LikelihoodLM.encode_request(lm, context, "gin é")[1]) == "\ngin é"


@given(n_context=st.integers(1, 30), n_continuation=st.integers(1, 60), max_length=st.integers(2, 20))
def test_windows_score_every_token_once_after_all_that_fits(
    n_context: int, n_continuation: int, max_length: int
) -> None:
    whole = list(range(n_context + n_continuation))
    windows = cut_windows(whole[:n_context], whole[n_context:], max_length)
    scored = [token for tokens, n_scored in windows for token in tokens[-n_scored:]]
    assert scored == whole[n_context:]
    for tokens, n_scored in windows:
        assert n_scored < len(tokens) <= max_length + 1
        assert tokens == whole[tokens[0] : tokens[-1] + 1]
        assert tokens[0] == 0 or len(tokens) == max_length + 1


def test_truncated_requests_are_counted() -> None:
    lm = make_lm(max_length=8)
    lm._loglikelihood_tokens([(("", ""), [5] * 6, [6] * 3), (("", ""), [5] * 7, [6] * 3), (("", ""), [5], [6] * 30)])
    assert lm.n_truncated == 2


def test_requests_without_tokens_and_rolling_requests_are_refused() -> None:
    lm = make_lm()
    with pytest.raises(EvaluateError, match="no continuation token"):
        lm._loglikelihood_tokens([(("a", ""), [1], [])])
    with pytest.raises(EvaluateError, match="Rolling likelihoods"):
        lm.loglikelihood_rolling([])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_question_is_read_once_for_its_lettered_answers() -> None:
    contexts = [" ".join(WORDS[at:] + WORDS[:at]) for at in range(5)]
    pairs = [(context, f" {letter}") for context in contexts for letter in "xyzw"]
    pairs += [(contexts[0], " face xx"), (contexts[0], " face xy"), (contexts[0], " gin xy"), pairs[0]]
    requests = [Instance("loglikelihood", {}, pair, 0, ("t", at, 1)) for at, pair in enumerate(pairs)]
    lm = make_lm()
    answers = [lm.encode_request(*pair)[1] for pair in pairs]
    fast = lm.loglikelihood(requests)
    stock = make_stock(256).loglikelihood(requests, disable_tqdm=True)
    assert [total for total, _ in fast] == pytest.approx([total for total, _ in stock], rel=1e-5)
    assert [greedy for _, greedy in fast] == [greedy for _, greedy in stock]
    ((layouts, _),) = lm._layouts.values()
    whole = {(*lm.encode_request(*pair)[0], *answer[:-1]) for pair, answer in zip(pairs, answers)}
    beginnings = {sequence[:stop] for sequence in whole for stop in range(1, len(sequence) + 1)}
    n_read = sum(len(layout.nodes.input_ids) for layout in layouts)
    assert len(beginnings) <= n_read < sum(map(len, whole))
    assert sum(len(layout.targets) for layout in layouts) == sum(map(len, answers))
    in_one = make_lm(batch_size=len(pairs))
    in_one.loglikelihood(requests)
    (((layout,), _),) = in_one._layouts.values()
    assert len(layout.nodes.input_ids) == len(beginnings)


def test_few_sets_of_requests_stay_laid_out() -> None:
    lm = make_lm()
    for _ in range(likelihood.KEPT + 3):
        lm.loglikelihood(make_requests(len(lm._layouts) + 1))
    assert len(lm._layouts) == likelihood.KEPT
