"""Blocks of repetitions: kept as they end, done once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
try:
    from blocks import Block, keep_blocks
finally:
    sys.path.pop(0)

CELLS = {"first": {"n_runs": 20}, "second cell": {"n_runs": 30}}


def ask(folder: Path | None, *, minutes: float | None = None, workers: int = 1) -> argparse.Namespace:
    return argparse.Namespace(folder=folder, minutes=minutes, workers=workers)


def work(block: Block) -> list[list[float]]:
    return [[dict(block.cell)["n_runs"] + seed / 100, len(block.arm)] for seed in block.seeds]


def refuse(block: Block) -> list[list[float]]:
    pytest.fail(f"{block} was done before")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_repetition_stands_in_the_order_of_its_seed(workers):
    found = keep_blocks(work, CELLS, {"arm": 13, "other": 4}, ask(None, workers=workers))
    assert list(found) == [("first", "arm"), ("first", "other"), ("second cell", "arm"), ("second cell", "other")]
    assert found["second cell", "arm"] == [[30 + seed / 100, 3] for seed in range(13)]
    assert len(found["first", "other"]) == 4


def test_a_second_sitting_does_what_the_first_left(tmp_path):
    def fail_late(block: Block) -> list[list[float]]:
        if block.seeds[0] == 10 and block.name == "second cell":
            raise KeyboardInterrupt
        return work(block)

    with pytest.raises(KeyboardInterrupt):
        keep_blocks(fail_late, CELLS, {"arm": 20}, ask(tmp_path))
    done: list[Block] = []

    def note(block: Block) -> list[list[float]]:
        done.append(block)
        return work(block)

    found = keep_blocks(note, CELLS, {"arm": 20}, ask(tmp_path))
    assert [(block.name, block.seeds[0]) for block in done] == [("second cell", 10)]
    assert found == keep_blocks(work, CELLS, {"arm": 20}, ask(None))
    assert keep_blocks(refuse, CELLS, {"arm": 20}, ask(tmp_path)) == found


def test_where_time_is_up_what_is_done_is_answered():
    found = keep_blocks(refuse, CELLS, {"arm": 20}, ask(None, minutes=-1.0))
    assert found == {("first", "arm"): [], ("second cell", "arm"): []}
