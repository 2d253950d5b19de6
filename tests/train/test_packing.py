"""Best fit decreasing against the slow text-book rule; how full the rows get."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalmix.train.batches import plan_batches
from causalmix.train.packing import measure_fill, pack_best_fit


def pack_slowly(lengths: list[int], capacity: int) -> list[list[int]]:
    """The rule to the letter: every item, longest first, into the fullest row that still holds it."""
    rows: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [row for row in range(len(rows)) if room[row] >= lengths[item]]
        row = min(fitting, key=lambda row: room[row], default=len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(item)
        room[row] -= lengths[item]
    return rows


@given(lengths=st.lists(st.integers(1, 40), max_size=60), spare=st.integers(0, 30))
def test_it_is_best_fit_decreasing(lengths: list[int], spare: int) -> None:
    capacity = max(lengths, default=1) + spare
    assert pack_best_fit(np.array(lengths, dtype=np.int64), capacity) == pack_slowly(lengths, capacity)


@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=80))
def test_rows_hold_every_item_once_and_no_two_could_be_one(lengths: list[int]) -> None:
    rows = pack_best_fit(np.array(lengths), 64)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    assert max(sum(lengths[i] for i in row) for row in rows) <= 64
    free = sorted(64 - sum(lengths[i] for i in row) for row in rows)
    assert len(rows) == 1 or free[-1] + free[-2] <= 64


def make_lengths(n: int, seed: int = 0) -> np.ndarray:
    """Tokens of documents as instruction data have them: median 300, one in a hundred cut at the context."""
    return np.random.default_rng(seed).lognormal(5.7, 1.1, n).astype(np.int64) + 2


def test_all_packed_together_fill_999_in_a_thousand_places() -> None:
    lengths = make_lengths(20_000)
    ids = np.arange(len(lengths))
    fills = {}
    for window in (0, 4096):
        plan = plan_batches(lengths, ids, max_length=4096, batch_rows=32, seed=0, window=window)
        assert sorted(document for step in plan.steps for row in step for document in row) == ids.tolist()
        fills[window] = measure_fill(lengths, sum(map(len, plan.steps)), 4096)
    assert fills[0] > 0.999
    assert fills[4096] < fills[0]


def test_a_window_as_large_as_the_epoch_is_the_whole_epoch() -> None:
    lengths = make_lengths(500)
    plans = [
        plan_batches(lengths, np.arange(500), max_length=4096, batch_rows=4, seed=1, window=window)
        for window in (0, 500, 4096)
    ]
    assert plans[0] == plans[1] == plans[2]


PLAN = """
import hashlib, numpy as np
from causalmix.train.batches import plan_batches
lengths = np.random.default_rng(0).lognormal(5.7, 1.1, 5000).astype(np.int64) + 2
plan = plan_batches(lengths, np.arange(5000), max_length=4096, batch_rows=8, seed=[3, 0], window=0)
print(hashlib.sha256(repr(plan.steps).encode()).hexdigest())
"""


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_plan_is_the_same_in_another_process_with_other_threads(threads: str) -> None:
    lengths = make_lengths(5000)
    here = plan_batches(lengths, np.arange(5000), max_length=4096, batch_rows=8, seed=[3, 0], window=0)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
    there = subprocess.run([sys.executable, "-c", PLAN], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == hashlib.sha256(repr(here.steps).encode()).hexdigest()
