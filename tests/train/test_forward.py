"""The packed forward pass against documents one by one, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from causalmix.train.batches import plan_batches
from causalmix.train.forward import block_causal_mask, sum_loss
from causalmix.train.schedule import split_rows
from causalmix.train.tokens import TokenStore
from tests.train.stores import VOCAB, make_model, make_store

torch.set_num_threads(1)
MAX_LENGTH = 40


def sum_loss_unpacked(model: PreTrainedModel, store: TokenStore) -> tuple[torch.Tensor, int]:
    """Reference: each document alone through transformers' own forward, with full logits."""
    total, n_targets = torch.zeros((), dtype=torch.float64), 0
    for index in range(len(store)):
        tokens, labels = (torch.from_numpy(part[:MAX_LENGTH].astype(np.int64)) for part in store.document(index))
        log_probs = model(input_ids=tokens[None]).logits[0, :-1].log_softmax(-1)
        mask = labels[1:].bool()
        total = total - log_probs.gather(1, tokens[1:, None]).squeeze(1)[mask].sum()
        n_targets += int(mask.sum())
    return total, n_targets


def make_qwen3() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model: PreTrainedModel = Qwen3ForCausalLM(Qwen3Config(vocab_size=VOCAB, **sizes, **heads))
    return model.double()


@pytest.mark.parametrize("make", [lambda: make_model(dtype=torch.float64), make_qwen3], ids=["qwen2", "qwen3"])
@pytest.mark.parametrize("rows_per_pass", [0, 1])
def test_packed_equals_unpacked_in_loss_and_gradients(make: object, rows_per_pass: int) -> None:
    model = make()  # type: ignore[operator]
    store = make_store([12, 25, 7, 60, 3, 18, 33, 2, 9])  # the fourth is cut, the last but one has one target
    reference, n_targets = sum_loss_unpacked(model, store)
    (reference / n_targets).backward()  # type: ignore[no-untyped-call]
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()

    plan = plan_batches(store.lengths(), np.arange(len(store)), max_length=MAX_LENGTH, batch_rows=99, seed=0)
    loss = 0.0
    for rows in split_rows(plan.steps[0], rows_per_pass):
        part = sum_loss(model, type(plan)((rows,), MAX_LENGTH).build(store, 0)) / n_targets
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.item()
    assert loss == pytest.approx(reference.item() / n_targets, rel=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-6, atol=1e-6)


def test_no_document_sees_another() -> None:
    mask = block_causal_mask(torch.tensor([[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]]))
    assert mask is not None
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert mask[1, 0].int().sum(dim=1).tolist() == [1, 1, 2, 3, 4]
    assert block_causal_mask(torch.arange(5)[None]) is None
