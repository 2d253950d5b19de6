"""Batches without padding, and the three ways to attend in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.errors import TrainError
from causalmix.train.attention import attend, choose_attention, document_of, lay_out, make_block_mask
from causalmix.train.batches import Batch, build_batch, pack_best_fit
from causalmix.train.flat import Flat, flatten, flatten_rows, pad_flat
from causalmix.train.tokens import TokenStore
from tests.train.stores import make_store

torch.set_num_threads(1)
CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(2, 90), min_size=1, max_size=12)


def make_batch(lengths: list[int], capacity: int = 100) -> tuple[TokenStore, Batch]:
    store = make_store(lengths)
    rows = tuple(tuple(row) for row in pack_best_fit(store.lengths(), capacity))
    return store, build_batch(store, rows, capacity)


@settings(deadline=None)
@given(lengths=LENGTHS)
def test_labels_and_what_they_depend_on_are_all_there(lengths: list[int]) -> None:
    store, batch = make_batch(lengths)
    flat = flatten(batch)
    expected_tokens, expected_targets = [], []
    for document in batch.documents:
        tokens, labels = store.document(document)
        last = int(np.flatnonzero(labels)[-1])  # predicted from the one before it
        expected_tokens.append(tokens[:last])
        expected_targets.append(tokens[1:][labels[1:].astype(bool)])
    assert flat.input_ids.tolist() == np.concatenate(expected_tokens).tolist()
    assert flat.targets.tolist() == np.concatenate(expected_targets).tolist()
    assert flat.lengths.tolist() == [len(tokens) for tokens in expected_tokens]
    assert flat.boundaries.tolist() == [0, *np.cumsum(flat.lengths).tolist()]
    assert flat.position_ids.tolist() == [at for length in flat.lengths for at in range(length)]
    # A label's position holds the token before it in the same document.
    whole = np.concatenate([store.document(document)[0] for document in batch.documents])
    assert all(token in whole for token in flat.input_ids[flat.where].tolist())
    assert len(flat.where) == batch.n_targets


def test_padding_and_documents_without_labels_are_left_out() -> None:
    ids = np.array([[5, 6, 7, 8, 0, 0], [1, 2, 3, 4, 9, 9]])
    positions = np.array([[0, 1, 2, 3, 0, 1], [0, 1, 0, 1, 2, 3]])
    labels = np.array([[-100, 7, -100, -100, -100, -100], [-100, -100, -100, 9, 9, -100]])
    flat = flatten_rows(ids, positions, labels, np.array([0, 4, 6, 8, 12], dtype=np.int32))
    assert flat.input_ids.tolist() == [5, 6, 3, 4, 9]
    assert flat.lengths.tolist() == [2, 3]
    assert flat.where.tolist() == [1, 3, 4]
    assert flat.targets.tolist() == [7, 9, 9]


@settings(deadline=None)
@given(lengths=LENGTHS, spare=st.integers(0, 70), longest=st.integers(90, 120))
def test_filling_up_keeps_what_is_there(lengths: list[int], spare: int, longest: int) -> None:
    flat = flatten(make_batch(lengths)[1])
    n_tokens = len(flat.input_ids) + spare
    padded = pad_flat(flat, n_tokens, longest)
    assert len(padded.input_ids) == len(padded.position_ids) == n_tokens
    n_documents = len(padded.boundaries) - 1
    assert n_documents & (n_documents - 1) == 0  # a power of two: few shapes
    assert padded.boundaries[: len(flat.boundaries)].tolist() == flat.boundaries.tolist()
    assert padded.boundaries[-1] == n_tokens
    assert padded.boundaries.diff().max() <= longest
    assert torch.equal(padded.where, flat.where)
    assert torch.equal(padded.targets, flat.targets)


def block_diagonal(flat: Flat) -> torch.Tensor:
    blocks = [torch.ones(size, size).tril() for size in flat.boundaries.diff().tolist()]
    return torch.block_diag(*blocks).bool()


@pytest.mark.parametrize("spare", [0, 37])
def test_boundaries_with_padding_are_the_block_diagonal_mask(spare: int) -> None:
    from torch.nn.attention.flex_attention import create_mask

    flat = flatten(make_batch([12, 25, 7, 60, 3])[1])
    padded = pad_flat(flat, len(flat.input_ids) + spare, 60)
    n_tokens = len(padded.input_ids)
    mask = create_mask(make_block_mask(padded.boundaries, n_tokens).mask_mod, 1, 1, n_tokens, n_tokens, device="cpu")
    assert torch.equal(mask[0, 0], block_diagonal(padded))
    assert torch.equal(document_of(padded.boundaries, n_tokens).diff() > 0, padded.position_ids[1:] == 0)


def draw(flat: Flat, n_heads: int = 4, n_kv_heads: int = 2, size: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(len(flat.input_ids), heads, size, generator=generator, dtype=torch.float64, requires_grad=True)
        for heads in (n_heads, n_kv_heads, n_kv_heads)
    ]


def attend_plainly(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, flat: Flat) -> torch.Tensor:
    key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], dim=1) for part in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * 0.3
    weights = scores.masked_fill(~block_diagonal(flat), float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value).flatten(1)


@settings(deadline=None, max_examples=20)
@given(lengths=LENGTHS)
def test_attention_over_documents_is_the_masked_product(lengths: list[int]) -> None:
    flat = flatten(make_batch(lengths)[1])
    parts = draw(flat)
    weights = torch.randn(len(flat.input_ids), 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for out in (attend(*parts, lay_out(flat, "documents"), 0.3), attend_plainly(*parts, flat)):
        results.append((out, *torch.autograd.grad((out * weights).sum(), parts)))
    for fast, plain in zip(*results):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-9)


def test_each_length_class_is_padded_to_its_own_longest() -> None:
    layout = lay_out(flatten(make_batch([20, 33, 40, 90, 80, 64])[1]), "documents")
    assert layout.whole is not None
    assert layout.whole.groups == ((4, 63), (2, 89))  # the last token of a document predicts nothing


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about its own jit
def test_flex_attention_is_the_masked_product() -> None:
    """On a CPU torch compiles it to C++, without a backward pass."""
    flat = pad_flat(flatten(make_batch([12, 25, 7, 60, 3])[1]), 128, 60)
    parts = [part.detach().float() for part in draw(flat)]
    out = attend(*parts, lay_out(flat, "flex", 60), 0.3)
    torch.testing.assert_close(out, attend_plainly(*parts, flat), rtol=1e-5, atol=1e-5)


def test_ways_that_are_not_there_are_refused() -> None:
    assert choose_attention("auto", CPU, torch.float32) == "documents"
    with pytest.raises(TrainError, match=r"varlen needs an NVIDIA GPU .* here it is cpu"):
        choose_attention("varlen", CPU, torch.bfloat16)
    with pytest.raises(TrainError, match=r"flex has no gradients on a CPU"):
        choose_attention("flex", CPU, torch.bfloat16)
    with pytest.raises(TrainError, match=r"train.attention='flax' is not one of auto, documents.* flex"):
        choose_attention("flax", CPU, torch.float32)
