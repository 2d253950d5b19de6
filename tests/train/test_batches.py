from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.errors import TrainError
from causalmix.train.batches import plan_batches
from causalmix.train.packing import pack_best_fit
from causalmix.train.reader import IGNORED
from causalmix.train.tokens import TokenStore
from tests.train.stores import make_store

LENGTHS = st.lists(st.integers(2, 60), min_size=1, max_size=40)


@settings(deadline=None)
@given(lengths=LENGTHS, max_length=st.integers(2, 64), batch_rows=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_document_once_an_epoch_and_rows_never_overflow(
    lengths: list[int], max_length: int, batch_rows: int, seed: int
) -> None:
    ids = np.arange(len(lengths))
    sizes = np.array(lengths)
    plan = plan_batches(sizes, ids, max_length=max_length, batch_rows=batch_rows, seed=seed)
    seen = [document for step in range(len(plan)) for document in plan.documents(step)]
    assert sorted(seen) == ids.tolist()
    rows = [row for step in plan.steps for row in step]
    assert max(np.minimum(sizes, max_length)[list(row)].sum() for row in rows) <= max_length
    assert {len(step) for step in plan.steps[:-1]} <= {batch_rows}
    again = plan_batches(sizes, ids, max_length=max_length, batch_rows=batch_rows, seed=seed)
    assert again == plan


@settings(deadline=None)
@given(lengths=LENGTHS, max_length=st.integers(2, 64))
def test_batches_hold_the_documents_and_their_shifted_labels(lengths: list[int], max_length: int) -> None:
    store = make_store(lengths)
    plan = plan_batches(store.lengths(), np.arange(len(lengths)), max_length=max_length, batch_rows=2, seed=1)
    n_tokens = n_targets = 0
    for step in range(len(plan)):
        batch = plan.build(store, step)
        assert batch.input_ids.shape[1] <= max_length
        n_tokens += batch.n_tokens
        n_targets += batch.n_targets
        at = 0
        for row, documents in enumerate(plan.steps[step]):
            at = 0
            for document in documents:
                tokens, labels = (part[:max_length].astype(np.int64) for part in store.document(document))
                span = slice(at, at + len(tokens))
                assert batch.input_ids[row, span].tolist() == tokens.tolist()
                assert batch.position_ids[row, span].tolist() == list(range(len(tokens)))
                expected = [*np.where(labels[1:], tokens[1:], IGNORED).tolist(), IGNORED]
                assert batch.labels[row, span].tolist() == expected
                at += len(tokens)
            assert batch.labels[row, at:].eq(IGNORED).all()
            assert batch.position_ids[row, at:].tolist() == list(range(batch.input_ids.shape[1] - at))
    assert n_tokens == np.minimum(lengths, max_length).sum()
    assert n_targets == store.count_targets(np.arange(len(lengths)), max_length).sum()


def test_best_fit_fills_rows() -> None:
    lengths = np.array([5, 3, 7, 3, 2])
    rows = pack_best_fit(lengths, 10)
    assert sorted(sum(int(lengths[i]) for i in row) for row in rows) == [10, 10]
    assert Counter(item for row in rows for item in row) == Counter(range(5))


def test_repeated_documents_are_packed_as_often_as_they_are_given() -> None:
    plan = plan_batches(np.array([4, 4, 4]), np.array([7, 7, 9]), max_length=8, batch_rows=1, seed=0)
    assert Counter(d for step in range(len(plan)) for d in plan.documents(step)) == {7: 2, 9: 1}


def test_a_plan_is_pinned() -> None:
    # A change of the order would change every run: it has to be meant.
    lengths = np.array([5, 9, 3, 8, 2, 7, 4, 6])
    plan = plan_batches(lengths, np.arange(8), max_length=16, batch_rows=2, seed=[3, 0])
    assert plan.steps == (((3, 7, 4), (1, 5)), ((0, 6, 2),))


def test_a_store_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TrainError, match="3 tokens but 2 labels"):
        TokenStore(np.zeros(3, np.uint16), np.zeros(2, np.uint8), np.array([0, 3]))
    with pytest.raises(TrainError, match="offsets must rise"):
        TokenStore(np.zeros(3, np.uint16), np.zeros(3, np.uint8), np.array([0, 2]))
