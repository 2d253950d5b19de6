"""The reader of whole batches against a literal one, token by token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalmix.train.batches import plan_batches
from causalmix.train.reader import IGNORED, Batch, BatchReader, build_batch
from causalmix.train.tokens import TokenStore
from tests.train.stores import make_store

Steps = list[tuple[tuple[int, ...], ...]]


def read_literally(store: TokenStore, rows: tuple[tuple[int, ...], ...], max_length: int) -> dict[str, list[list[int]]]:
    """One token after the other, as the rules say."""
    longest = max(sum(min(len(store.document(i)[0]), max_length) for i in row) for row in rows)
    length = min((longest + 7) // 8 * 8, max_length)
    out: dict[str, list[list[int]]] = {"input_ids": [], "position_ids": [], "labels": [], "starts": []}
    for number, row in enumerate(rows):
        inputs, positions, labels = [], [], []
        for document in row:
            tokens, targets = (part[:max_length].tolist() for part in store.document(document))
            out["starts"].append([number * length + len(inputs)])
            for at, token in enumerate(tokens):
                inputs.append(token)
                positions.append(at)
                is_target = at + 1 < len(tokens) and targets[at + 1]
                labels.append(tokens[at + 1] if is_target else IGNORED)
        if len(inputs) < length:
            out["starts"].append([number * length + len(inputs)])
        for at in range(length - len(inputs)):
            inputs.append(0)
            positions.append(at)
            labels.append(IGNORED)
        out["input_ids"].append(inputs)
        out["position_ids"].append(positions)
        out["labels"].append(labels)
    out["starts"].append([len(rows) * length])
    return out


def assert_equal(batch: Batch, expected: dict[str, list[list[int]]]) -> None:
    for name in ("input_ids", "position_ids", "labels"):
        tensor = getattr(batch, name)
        assert tensor.dtype == torch.int64
        assert tensor.tolist() == expected[name]
    assert batch.boundaries.dtype == torch.int32
    assert batch.boundaries.tolist() == [start for (start,) in expected["starts"]]
    assert batch.n_targets == sum(label != IGNORED for row in expected["labels"] for label in row)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=25),
    max_length=st.integers(2, 64),
    batch_rows=st.integers(1, 4),
    reuse=st.booleans(),
    seed=st.integers(0, 9),
)
def test_it_reads_what_a_literal_reader_reads(
    lengths: list[int], max_length: int, batch_rows: int, reuse: bool, seed: int
) -> None:
    store = make_store(lengths, seed, prompt_share=0.0 if seed % 2 else 0.6)
    plan = plan_batches(
        store.lengths(), np.arange(len(lengths)), max_length=max_length, batch_rows=batch_rows, seed=seed
    )
    reader = BatchReader(store, max_length, reuse=reuse)
    for rows in plan.steps:
        batch = reader.read(rows)
        assert_equal(batch, read_literally(store, rows, max_length))
        assert batch.n_tokens == sum(min(lengths[i], max_length) for row in rows for i in row)
        assert batch.documents == [i for row in rows for i in row]


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wide=st.booleans(), seed=st.integers(0, 99))
def test_a_memory_map_reads_like_an_array(tmp_path: Path, wide: bool, seed: int) -> None:
    store = make_store([9, 30, 4, 17], seed)
    dtype = np.uint32 if wide else np.uint16
    store.tokens.astype(dtype).tofile(tmp_path / "tokens.bin")
    store.labels.tofile(tmp_path / "labels.bin")
    mapped = TokenStore(
        np.memmap(tmp_path / "tokens.bin", dtype, "r"), np.memmap(tmp_path / "labels.bin", np.uint8, "r"), store.offsets
    )
    rows = ((1, 0), (3, 3, 2))
    assert_equal(build_batch(mapped, rows, 48), read_literally(store, rows, 48))
    assert mapped.count_targets(np.arange(4), 12).tolist() == store.count_targets(np.arange(4), 12).tolist()


def test_batches_are_kept_unless_memory_is_reused() -> None:
    store = make_store([20, 20, 20, 20])
    rows: Steps = [((0,), (1,)), ((2,), (3,))]
    keeping, reusing = BatchReader(store, 24), BatchReader(store, 24, reuse=True)
    kept = [keeping.read(step) for step in rows]
    gone = [reusing.read(step) for step in rows]
    assert_equal(kept[0], read_literally(store, rows[0], 24))
    assert gone[0].input_ids.data_ptr() == gone[1].input_ids.data_ptr()
    assert_equal(gone[1], read_literally(store, rows[1], 24))


def test_padding_at_the_end_of_a_store_reads_nothing_beyond_it() -> None:
    store = make_store([3, 40])
    batch = build_batch(store, ((1,), (0,)), 40)
    assert batch.input_ids[1, 3:].eq(0).all()
    assert batch.labels[1, 2:].eq(IGNORED).all()
    assert batch.boundaries.tolist() == [0, 40, 43, 80]
