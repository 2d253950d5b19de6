"""Shards, processes and restarts: the same bits whoever scores, nothing twice, nothing lost, nothing foreign."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from causalmix.cli import app
from causalmix.errors import PoolError
from causalmix.pool import progress, score_blocks, score_work, table
from causalmix.pool.prepare import prepare, score_pool
from causalmix.pool.score_blocks import ScoreBlocks
from causalmix.pool.score_work import Shard, count_workers, find_shard
from causalmix.pool.store import Pool, open_pool
from tests.pool.conftest import tiny_config
from tests.tiny import POOL

N_BLOCKS = 7


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make 7 blocks of a pool of 400 documents."""
    monkeypatch.setattr(score_blocks, "BATCH", 64)
    monkeypatch.setattr(table, "BATCH", 64)


@pytest.fixture
def blocks(tmp_path: Path) -> ScoreBlocks:
    return ScoreBlocks(tmp_path / "blocks", 10, ("a", "b"), "f00d")


def write_all(blocks: ScoreBlocks) -> list[str]:
    ids = [f"d{at}" for at in range(blocks.n_documents)]
    for block in range(blocks.count):
        start, stop = blocks.span(block)
        blocks.write(block, ids[start:stop], np.arange(2.0 * start, 2 * stop).reshape(-1, 2), {"a": 1})
    return ids


# --- shards ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_blocks")
def test_any_number_of_shards_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_pool(prepare(tiny_config(), tmp_path / "whole", progress=False))
    scored: list[int] = []
    score = score_work.score_block

    def count(panel: Any, root: Path, blocks: ScoreBlocks, block: int) -> None:
        scored.append(block)
        score(panel, root, blocks, block)

    monkeypatch.setattr(score_work, "score_block", count)
    outputs = tmp_path / "sharded"
    facts = [score_pool(tiny_config(), outputs, Shard(index, 3), progress=False) for index in (2, 0, 0, 1)]
    assert [fact["blocks_left"] for fact in facts] == [5, 2, 2, 0]
    assert [fact["finished"] for fact in facts] == [False, False, False, True]
    assert sorted(scored) == list(range(N_BLOCKS))  # nothing twice, though shard 0 was typed twice
    assert sum(fact["n_scored"] for fact in facts) == 400
    sharded = open_pool(facts[0]["path"])
    assert sharded.raw_scores.tobytes() == whole.raw_scores.tobytes()
    assert sharded.fingerprint == whole.fingerprint
    assert sharded.facts["truncated_scores"] == whole.facts["truncated_scores"]
    assert not (sharded.path / score_blocks.FOLDER).exists()
    assert score_pool(tiny_config(), outputs, Shard(), progress=False)["finished"]  # typed again: nothing to do
    assert len(scored) == N_BLOCKS


@pytest.mark.usefixtures("small_blocks")
def test_a_scoring_that_is_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = score_work.score_block
    scored: list[int] = []

    def score_three(panel: Any, root: Path, blocks: ScoreBlocks, block: int) -> None:
        if len(scored) == 3:
            raise KeyboardInterrupt
        scored.append(block)
        score(panel, root, blocks, block)

    monkeypatch.setattr(score_work, "score_block", score_three)
    with pytest.raises(KeyboardInterrupt):
        prepare(tiny_config(), tmp_path, progress=False)
    (root,) = (tmp_path / "pools").iterdir()
    done = sorted((root / score_blocks.FOLDER).glob("*.parquet"))
    assert len(done) == 3
    done[1].write_bytes(done[1].read_bytes()[:-50])  # a block cut short is made again, the others are not
    again: list[int] = []

    def note(panel: Any, root: Path, blocks: ScoreBlocks, block: int) -> None:
        again.append(block)
        score(panel, root, blocks, block)

    monkeypatch.setattr(score_work, "score_block", note)
    prepare(tiny_config(), tmp_path, progress=False)
    assert again == [1, 3, 4, 5, 6]


def test_blocks_of_other_scorers_are_refused(tmp_path: Path) -> None:
    root = Path(score_pool(tiny_config(), tmp_path, Shard(1, 2), progress=False)["path"])
    foreign = ScoreBlocks(root / score_blocks.FOLDER, 400, ("hes", "normalized_loss", "writing_style"), "beef")
    foreign.write(0, [str(at) for at in range(400)], np.zeros((400, 3)), {})
    with pytest.raises(PoolError, match=r"000000.parquet holds 400 scores of another pool .* \(fingerprint beef"):
        prepare(tiny_config(), tmp_path, progress=False)


@pytest.mark.slow
def test_processes_give_the_same_bits(tmp_path: Path) -> None:
    """Two processes that start afresh, so with real blocks: 4,096 documents and the rest."""
    pools = []
    for n_workers in (1, 2):
        cfg = tiny_config(n_documents=4500)
        cfg.scores.n_workers = n_workers
        pools.append(open_pool(prepare(cfg, tmp_path / str(n_workers), progress=False)))
    assert pools[0].raw_scores.tobytes() == pools[1].raw_scores.tobytes()
    assert pools[0].facts["truncated_scores"] == pools[1].facts["truncated_scores"]


@pytest.mark.slow
def test_a_worker_that_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dying_scores_of_a_test.py").write_text(
        "import os\ndef make():\n    return lambda texts: os._exit(9)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = tiny_config(n_documents=4500)
    cfg.scores.standard = []
    cfg.scores.extra = {"x": {"kind": "dying_scores_of_a_test:make"}}
    cfg.scores.n_workers = 2
    with pytest.raises(PoolError, match=r"a process that scored died \(out of memory\? lower pool.scores.n_workers=2"):
        prepare(cfg, tmp_path, progress=False)


def test_workers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = tiny_config()
    monkeypatch.setattr(score_work.os, "sched_getaffinity", lambda _: set(range(8)))
    assert [count_workers(cfg, n_blocks) for n_blocks in (0, 1, 7, 8, 200)] == [1, 1, 1, 2, 8]
    cfg.scores.n_workers = 3
    assert [count_workers(cfg, n_blocks) for n_blocks in (0, 2, 200)] == [1, 2, 3]
    cfg.scores.n_workers = 0
    with pytest.raises(PoolError, match=r"n_workers=0 must be 1 or more"):
        count_workers(cfg, 5)


@pytest.mark.usefixtures("small_blocks")
def test_a_log_says_how_fast_and_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SAY_EVERY_S", 0.0)
    cfg = tiny_config()
    cfg.scores.standard, cfg.scores.extra = [], {"size": {"kind": "length"}}
    score_pool(cfg, tmp_path, Shard(0, 2), progress=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("score, shard 0 of 2")]
    assert len(lines) == 4
    assert re.fullmatch(r"score, shard 0 of 2: 64 of 208 documents, \d+ a second, \d+\.\d min left", lines[0])
    assert lines[-1].startswith("score, shard 0 of 2: 208 of 208 documents")
    assert lines[-1].endswith(" 0.0 min left")


@pytest.mark.slow
def test_a_scorer_that_cannot_be_loaded_speaks_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from causalmix.errors import PoolError\ndef make():\n    raise PoolError('no weights here')\n"
    (tmp_path / "lacking_scores_of_a_test.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = tiny_config(n_documents=4500)
    cfg.scores.standard, cfg.scores.extra = [], {"x": {"kind": "lacking_scores_of_a_test:make"}}
    cfg.scores.n_workers = 2
    with pytest.raises(PoolError, match=r"pool.scores.extra.x: no weights here"):
        prepare(cfg, tmp_path, progress=False)


def array(task: int, count: int, first: int = 0, step: int = 1) -> dict[str, str]:
    names = ("ID", "COUNT", "MIN", "STEP")
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in zip(names, (task, count, first, step))}


def test_the_shard_is_the_array_tasks_unless_it_is_given() -> None:
    assert find_shard(None, None, {}) == Shard(0, 1)
    assert find_shard(2, 5, array(0, 9)) == Shard(2, 5)
    assert [find_shard(None, None, array(task, 3, 1)).index for task in (1, 2, 3)] == [0, 1, 2]
    assert [find_shard(None, None, array(task, 3, 10, 5)) for task in (10, 15, 20)] == [Shard(at, 3) for at in range(3)]
    with pytest.raises(PoolError, match="the array has gaps"):
        find_shard(None, None, array(7, 2, 3))
    with pytest.raises(PoolError, match="belong together"):
        find_shard(2, None, {})
    with pytest.raises(PoolError, match="shard 5 of 5: shards are numbered 0 to of - 1"):
        Shard(5, 5)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_blocks, "BATCH", 500)
    overrides = [*POOL, f"outputs={tmp_path}", "pool.n_documents=800"]
    runner = CliRunner()
    ready = runner.invoke(app, ["pool", "score", *overrides, "--before"], catch_exceptions=False)
    assert "scored 0 documents; 2 of 2 blocks left" in ready.stdout
    first = runner.invoke(app, ["pool", "score", *overrides, "--shard", "0", "--of", "2"], catch_exceptions=False)
    assert "scored 500 documents" in first.stdout
    assert "1 of 2 blocks left" in first.stdout
    for name, value in array(2, 2, 1).items():
        monkeypatch.setenv(name, value)
    second = runner.invoke(app, ["pool", "score", *overrides, "--json"], catch_exceptions=False)
    facts = json.loads(second.stdout)
    assert (facts["shard"], facts["of"], facts["n_scored"], facts["finished"]) == (1, 2, 300, True)
    assert open_pool(facts["path"]).n_documents == 800


# --- joining ---------------------------------------------------------------------------------------------


def test_blocks_are_joined_in_order(blocks: ScoreBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_blocks, "BATCH", 4)
    ids = write_all(blocks)
    raw, truncated = blocks.join(ids)
    assert raw.tolist() == np.arange(20.0).reshape(10, 2).tolist()
    assert truncated == {"a": 3}


def test_what_is_missing_or_foreign_is_named(blocks: ScoreBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_blocks, "BATCH", 4)
    ids = write_all(blocks)
    blocks.path(1).unlink()
    shutil.copy(blocks.path(0), blocks.folder / "000009.parquet")
    with pytest.raises(PoolError, match=r"1 of 3 blocks missing \(1\); files that are no block .*\(000009.parquet\)"):
        blocks.join(ids)


def test_documents_of_another_pool_are_named(blocks: ScoreBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_blocks, "BATCH", 4)
    ids = write_all(blocks)
    blocks.write(1, ["d4", "d4", "other", "d7"], np.zeros((4, 2)), {})
    with pytest.raises(PoolError, match=r"2 missing: d5, d6; 1 doubled: d4; 1 foreign: other"):
        blocks.join(ids)
    write_all(blocks)
    with pytest.raises(PoolError, match="the same ids in another order"):
        blocks.join(ids[::-1])


def test_scores_that_are_no_numbers_are_named_and_not_written(blocks: ScoreBlocks) -> None:
    raw = np.ones((10, 2))
    raw[3, 1], raw[8, 0] = np.nan, -np.inf
    with pytest.raises(PoolError, match=r"2 scores are not numbers: d3 \(b nan\), d8 \(a -inf\)"):
        blocks.write(0, [f"d{at}" for at in range(10)], raw, {})
    assert not blocks.is_done(0)
    assert not blocks.folder.exists()


def test_rows_are_read_wherever_row_groups_end(pool: Pool, tmp_path: Path) -> None:
    documents = pool.path / "documents" / "documents.parquet"
    uneven = tmp_path / "uneven.parquet"
    pq.write_table(pq.read_table(documents), uneven, row_group_size=37)
    for start, stop in ((0, 400), (0, 1), (36, 38), (100, 300), (399, 400), (400, 400)):
        ids, conversations = table.read_rows(uneven, start, stop)
        assert ids == pool.ids[start:stop]
        assert conversations == table.read_rows(documents, start, stop)[1]
