"""The head in chunks equals the head at once."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from causalmix.train.head import BYTES_A_LOGIT, ChunkedCrossEntropy, rows_at_once, sum_cross_entropy

torch.set_num_threads(1)
VOCAB, HIDDEN = 50, 12


def make(dtype: torch.dtype, n_targets: int = 23) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(n_targets, HIDDEN, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCAB, HIDDEN, generator=generator, dtype=dtype, requires_grad=True)
    return states, weight, torch.randint(0, VOCAB, (n_targets,), generator=generator)


@pytest.mark.parametrize("n_rows", [1, 5, 22, 23, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_chunks_equal_the_whole_in_loss_and_gradients(n_rows: int, dtype: torch.dtype) -> None:
    states, weight, targets = make(dtype)
    whole = cross_entropy(states @ weight.T, targets, reduction="sum")
    chunked = ChunkedCrossEntropy.apply(states, weight, targets, n_rows)
    bound = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(chunked, whole, rtol=bound, atol=bound)
    expected = torch.autograd.grad(whole / 7, (states, weight))
    for found, right in zip(torch.autograd.grad(chunked / 7, (states, weight)), expected):
        torch.testing.assert_close(found, right, rtol=bound, atol=bound)


def test_a_frozen_head_and_autocast() -> None:
    states, weight, targets = make(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        chunked = ChunkedCrossEntropy.apply(states, weight.detach(), targets, 4)
        whole = cross_entropy((states @ weight.T).float(), targets, reduction="sum")
    assert chunked.dtype == torch.float32
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-5)  # the same bfloat16 logits
    found, right = (torch.autograd.grad(loss, states)[0] for loss in (chunked, whole))
    torch.testing.assert_close(found, right, rtol=0.02, atol=0.02)


def test_the_budget_says_how_many_labels_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows_at_once(151_936, 2048) == 2048 * 2**20 // (BYTES_A_LOGIT * 151_936) == 883
    assert rows_at_once(2**30, 1) == 1
    head = torch.nn.Linear(HIDDEN, 70_000, bias=False)
    states = torch.randn(9, HIDDEN, requires_grad=True)
    targets = torch.arange(9)
    assert sum_cross_entropy(head, states, targets, 2).grad_fn.name().startswith("ChunkedCrossEntropy")  # type: ignore[union-attr]
    at_once: list[int] = []
    monkeypatch.setattr(ChunkedCrossEntropy, "apply", lambda *given: at_once.append(given[3]) or torch.zeros(()))
    for budget in (2, 512):
        sum_cross_entropy(head, states, targets, budget)
    assert at_once == [rows_at_once(70_000, 2), rows_at_once(70_000, 512)]
    assert at_once[0] < 9 < at_once[1]
    with torch.no_grad():  # no gradient to make: whole where it fits
        assert sum_cross_entropy(head, states, targets, 512) > 0
    assert len(at_once) == 2


def test_a_head_with_a_bias_is_never_chunked() -> None:
    head = torch.nn.Linear(HIDDEN, 70_000)
    loss = sum_cross_entropy(head, torch.randn(9, HIDDEN), torch.arange(9), 1)
    assert loss.grad_fn is not None
    assert loss.grad_fn.name().startswith("NllLoss")
