"""The layers that are written out: every way through them says the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from causalmix.train import documents
from causalmix.train.decoder import Decoding
from causalmix.train.forward import Prepared, prepare, sum_loss
from causalmix.train.reader import build_batch
from causalmix.train.tokens import TokenStore
from tests.train.stores import make_model, make_store

torch.set_num_threads(1)
ROWS = ((0, 1, 2), (3, 4))


def answer_last(lengths: list[int], n_labels: int) -> TokenStore:
    """Documents whose last tokens alone carry labels."""
    store = make_store(lengths)
    labels = store.labels.copy()
    for start, stop in zip(store.offsets, store.offsets[1:]):
        labels[start : stop - n_labels] = 0
        labels[stop - n_labels : stop] = 1
    return TokenStore(store.tokens, labels, store.offsets)


STORE = answer_last([20, 35, 12, 50, 9], 3)


def prepare_rows(store: TokenStore = STORE) -> Prepared:
    return prepare(build_batch(store, ROWS, 80), torch.device("cpu"))


def learn(batch: Prepared, how: Decoding | None = None) -> list[torch.Tensor]:
    model = make_model(dtype=torch.float64)
    loss = sum_loss(model, batch, how)
    loss.backward()  # type: ignore[no-untyped-call]
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def assert_same(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_queries_of_labels_alone_are_the_last_layers_of_all_tokens() -> None:
    batch = prepare_rows()
    assert batch.layout.asked is not None
    assert batch.layout.asked.groups == ((5, 3),)
    assert_same(learn(batch), learn(replace(batch, layout=replace(batch.layout, asked=None, masks=()))))


def test_labels_on_most_tokens_are_not_asked_for_alone() -> None:
    """A mask for each of them would cost more than it saves."""
    batch = prepare_rows(answer_last([20, 20, 20, 20, 20], 15))
    assert batch.layout.asked is None


@pytest.mark.parametrize("recompute", [False, True])
def test_long_documents_are_no_different(monkeypatch: pytest.MonkeyPatch, recompute: bool) -> None:
    batch = prepare_rows()
    dense = learn(batch)
    monkeypatch.setattr(documents, "DENSE", 5)
    assert_same(learn(batch, Decoding(recompute=recompute)), dense)


def test_the_parts_equal_the_models_own_modules() -> None:
    plain = learn(prepare_rows(), Decoding(is_settled=True))  # settled without looking: the modules run
    assert_same(learn(prepare_rows()), plain)


def test_without_a_gradient_the_loss_is_the_same() -> None:
    model, batch = make_model(), prepare_rows()
    with torch.no_grad():
        alone = sum_loss(model, batch)
    assert alone.grad_fn is None
    torch.testing.assert_close(alone, sum_loss(model, batch).detach(), rtol=1e-6, atol=0.0)
