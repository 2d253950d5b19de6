"""The packed forward pass against documents one by one through transformers, in float64 and below."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from causalmix.config import LoraConfig
from causalmix.train.batches import plan_batches
from causalmix.train.decoder import Decoding
from causalmix.train.forward import prepare, sum_loss
from causalmix.train.lora import add_lora
from causalmix.train.schedule import split_rows
from causalmix.train.tokens import TokenStore
from tests.train.stores import VOCAB, make_model, make_store

torch.set_num_threads(1)
CPU = torch.device("cpu")
MAX_LENGTH = 40
# The fourth is cut, the last but one has one target; 70 and 90 of the long store are two lengths' classes.
STORE = make_store([12, 25, 7, 60, 3, 18, 33, 2, 9])
LONG = make_store([12, 90, 7, 70, 3, 130, 33, 64, 65])
Gradients = dict[str, torch.Tensor]


def make_qwen3() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model: PreTrainedModel = Qwen3ForCausalLM(Qwen3Config(vocab_size=VOCAB, **sizes, **heads))
    return model.double()


def make_adapted() -> PreTrainedModel:
    model = make_model(dtype=torch.float64)
    add_lora(model, LoraConfig(rank=3, target_modules=["q_proj", "v_proj", "up_proj"]), seed=0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen2": lambda: make_model(dtype=torch.float64),
    "qwen3": make_qwen3,
    "adapted": make_adapted,
}


def collect(model: PreTrainedModel) -> Gradients:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def learn_unpacked(model: PreTrainedModel, store: TokenStore, max_length: int) -> tuple[float, Gradients]:
    """Reference: each document alone through transformers' own forward, with full logits."""
    total, n_targets = torch.zeros((), dtype=torch.float64), 0
    for index in range(len(store)):
        tokens, labels = (torch.from_numpy(part[:max_length].astype(np.int64)) for part in store.document(index))
        log_probs = model(input_ids=tokens[None]).logits[0, :-1].double().log_softmax(-1)
        mask = labels[1:].bool()
        total = total - log_probs.gather(1, tokens[1:, None]).squeeze(1)[mask].sum()
        n_targets += int(mask.sum())
    loss = total / n_targets
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), collect(model)


def learn_packed(
    model: PreTrainedModel,
    store: TokenStore,
    max_length: int,
    rows_per_pass: int = 0,
    attention: str = "documents",
    how: Decoding | None = None,
    head_budget_mib: int = 512,
) -> tuple[float, Gradients]:
    plan = plan_batches(store.lengths(), np.arange(len(store)), max_length=max_length, batch_rows=99, seed=0)
    passes = [type(plan)((rows,), max_length).build(store, 0) for rows in split_rows(plan.steps[0], rows_per_pass)]
    n_targets = sum(batch.n_targets for batch in passes)
    loss = 0.0
    for batch in passes:
        part = sum_loss(model, prepare(batch, CPU, attention), how, head_budget_mib) / n_targets
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.item()
    return loss, collect(model)


def assert_equal(first: tuple[float, Gradients], second: tuple[float, Gradients], bound: float = 1e-6) -> None:
    assert first[0] == pytest.approx(second[0], rel=bound)
    assert first[1].keys() == second[1].keys()
    for name in first[1]:
        torch.testing.assert_close(first[1][name].double(), second[1][name].double(), rtol=bound, atol=bound, msg=name)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rows_per_pass", [0, 1])
def test_packed_equals_unpacked_in_loss_and_gradients(name: str, rows_per_pass: int) -> None:
    model = MODELS[name]()
    assert_equal(learn_packed(model, STORE, MAX_LENGTH, rows_per_pass), learn_unpacked(model, STORE, MAX_LENGTH))


def test_documents_of_several_length_classes_are_no_different() -> None:
    model = make_model(dtype=torch.float64)
    assert_equal(learn_packed(model, LONG, 200), learn_unpacked(model, LONG, 200))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float32_is_as_close_as_its_digits_allow(dtype: torch.dtype) -> None:
    model = make_model(dtype=dtype)
    packed = learn_packed(model, STORE, MAX_LENGTH)
    assert_equal(packed, learn_unpacked(model.double(), STORE, MAX_LENGTH), 1e-6 if dtype == torch.float64 else 5e-6)


def test_recomputed_activations_change_no_bit() -> None:
    model = make_model()
    plain = learn_packed(model, STORE, MAX_LENGTH)
    again = learn_packed(model, STORE, MAX_LENGTH, how=Decoding(recompute=True))
    assert plain[0] == again[0]
    assert all(torch.equal(plain[1][name], again[1][name]) for name in plain[1])


def test_a_document_does_not_feel_its_neighbours() -> None:
    """Another document in the same row, of any content, changes no digit of this one's loss."""
    model = make_model(dtype=torch.float64)
    losses = []
    for seed in (0, 1):
        store = make_store([20, 15], seed=0)
        tokens, labels = store.tokens.copy(), store.labels.copy()
        labels[:20] = 0  # the first document, which changes, is not scored itself
        labels[19] = 1  # its last token alone is, so that it is not left out
        tokens[:19] = np.random.default_rng(seed).integers(0, VOCAB, 19)
        plan = plan_batches(store.lengths(), np.arange(2), max_length=40, batch_rows=1, seed=0)
        batch = plan.build(TokenStore(tokens, labels, store.offsets), 0)
        whole = sum_loss(model, prepare(batch, CPU))
        alone = plan_batches(store.lengths()[:1], np.arange(1), max_length=40, batch_rows=1, seed=0)
        first = sum_loss(model, prepare(alone.build(TokenStore(tokens, labels, store.offsets), 0), CPU))
        losses.append((whole - first).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_bfloat16_stays_within_its_bounds() -> None:
    """Eight bits of mantissa: the loss within 1%, each gradient within 5% of its length."""
    model = make_model()
    exact = learn_packed(model, STORE, MAX_LENGTH)
    with torch.autocast("cpu", torch.bfloat16):
        half = learn_packed(model, STORE, MAX_LENGTH)
    assert half[0] == pytest.approx(exact[0], rel=0.01)
    for name, gradient in exact[1].items():
        error = (half[1][name].float() - gradient).norm() / gradient.norm()
        assert error < 0.05, (name, error)
