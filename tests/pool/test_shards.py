"""Sources cut into shards: the same pool from any cut and any number of processes, and after any interruption."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalmix.config import DedupConfig, PoolConfig, SubsampleConfig, TokenizerConfig
from causalmix.errors import PoolError
from causalmix.files import read_json
from causalmix.pool import ingest, sources, stages, tokens
from causalmix.pool.documents import Problems
from causalmix.pool.records import read_shard
from causalmix.pool.sources import cut_file, find_sources
from causalmix.pool.stage import run_stage
from causalmix.pool.table import read_column
from causalmix.pool.tokenizer import train_bpe
from tests.pool.conftest import make_records

Write = Callable[[str, Any], Path]


@pytest.fixture
def folder(write_lines: Write, tmp_path: Path) -> Path:
    """Four files of two domains, one compressed, with repeats."""
    code, math = make_records("code", 60), make_records("math", 60)
    code.append({**code[3], "id": "again"})
    write_lines("data/train-code.jsonl", code)
    write_lines("data/train-math.jsonl.gz", math[:30])
    write_lines("data/more.jsonl", [{**record, "domain": "math"} for record in math[30:]])
    return tmp_path / "data"


def config(folder: Path, **changes: Any) -> PoolConfig:
    cfg = PoolConfig(name="t", source="jsonl", path=str(folder), max_length=64, n_workers=1, **changes)
    cfg.tokenizer = TokenizerConfig(vocab_size=300)
    return cfg


def build(cfg: PoolConfig, root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the stages before the scores; return the summaries of documents and tokens."""
    documents = run_stage(
        root,
        "documents",
        lambda to: stages.build_documents(to, cfg, find_sources(cfg), root / ".documents.work", progress=False),
    )
    run_stage(root, "tokenizer", lambda to: stages.build_tokenizer(to, cfg, root))
    made = run_stage(
        root, "tokens", lambda to: tokens.build_tokens(to, cfg, root, root / ".tokens.work", progress=False)
    )
    return documents, made


# --- the cut ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=30), limit=st.integers(1, 200), ends=st.booleans())
def test_every_line_is_in_one_shard_with_its_number(tmp_path: Path, sizes: list[int], limit: int, ends: bool) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"n": at, "text": "x" * size}) for at, size in enumerate(sizes)]
    path.write_text("\n".join(lines) + "\n" * ends)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "SHARD_BYTES", limit)
        shards = cut_file(path)
    problems = Problems()
    found = [(line, record["n"]) for shard in shards for line, record in read_shard(shard, problems)]
    assert found == [(at + 1, at) for at in range(len(sizes))]
    assert problems.count == 0
    assert [shard.start for shard in shards[1:]] == [shard.stop for shard in shards[:-1]]


def test_tables_are_cut_between_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": list(range(100))}), path, row_group_size=13)
    monkeypatch.setattr(sources, "SHARD_ROWS", 30)
    shards = cut_file(path)
    assert [(shard.start, shard.stop, shard.first) for shard in shards] == [
        (0, 2, 1),
        (2, 4, 27),
        (4, 6, 53),
        (6, 8, 79),
    ]
    found = [(row, record["n"]) for shard in shards for row, record in read_shard(shard, Problems())]
    assert found == [(at + 1, at) for at in range(100)]


@pytest.mark.slow
def test_any_cut_and_any_number_of_processes_give_the_same_pool(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config(folder, dedup=DedupConfig(kind="near"), subsample=SubsampleConfig(n_documents=100))
    whole = build(cfg, tmp_path / "one")
    monkeypatch.setattr(sources, "SHARD_BYTES", 700)
    cut = build(cfg, tmp_path / "cut")
    cfg.n_workers = 3
    spread = build(cfg, tmp_path / "spread")
    assert len(list((tmp_path / "spread" / ".documents.work").glob("*.json"))) > 10
    assert whole == cut == spread
    for name in ("tokens/tokens.bin", "tokens/labels.bin", "documents/domain_ids.npy", "documents/is_reference.npy"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "spread" / name).read_bytes()


def test_processes_must_be_one_or_more(folder: Path, tmp_path: Path) -> None:
    cfg = config(folder)
    cfg.n_workers = 0
    with pytest.raises(PoolError, match=r"pool.n_workers=0 must be 1 or more"):
        build(cfg, tmp_path / "root")


# --- going on --------------------------------------------------------------------------------------------


def test_finished_shards_and_parts_are_not_made_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SHARD_BYTES", 700)
    expected = build(config(folder), tmp_path / "expected")
    read, done = ingest.ingest_shard, []

    def fail_at_fifth(task: Any) -> int:
        if len(done) == 4:
            read(task)
            task.summary.unlink()  # killed after its last file but one
            raise KeyboardInterrupt
        done.append(task.number)
        return read(task)

    monkeypatch.setattr(stages, "ingest_shard", fail_at_fifth)
    with pytest.raises(KeyboardInterrupt):
        build(config(folder), tmp_path / "root")
    again: list[int] = []

    def count(task: Any) -> int:
        again.append(task.number)
        return read(task)

    monkeypatch.setattr(stages, "ingest_shard", count)
    assert build(config(folder), tmp_path / "root") == expected
    assert set(again).isdisjoint(done)
    assert len(again) + len(done) == len(list((tmp_path / "root" / ".documents.work").glob("*.json")))


@pytest.mark.slow
def test_a_worker_that_dies_is_explained(tmp_path: Path) -> None:
    from tqdm import tqdm

    from causalmix.pool.workers import run_tasks

    with pytest.raises(PoolError, match=r"one of 2 processes was killed: .*lower pool.n_workers"):
        run_tasks(_die, [1, 2], 2, tqdm(disable=True))


def _die(task: int) -> int:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_problems_of_all_shards_come_together_in_order(
    write_lines: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SHARD_BYTES", 500)
    lines: list[Any] = make_records("a", 40)
    lines[5] = lines[35] = "broken"
    write_lines("data/a.jsonl", lines)
    write_lines("data/b.jsonl", [*make_records("b", 40), lines[0]])
    with pytest.raises(PoolError) as error:
        build(config(tmp_path / "data"), tmp_path / "root")
    message = str(error.value)
    assert "3 problems" in message
    places = [
        message.index(place) for place in ("a.jsonl:6: not JSON", "a.jsonl:36: not JSON", "b.jsonl:41: duplicate")
    ]
    assert places == sorted(places)
    assert "first seen at a.jsonl:1" in message


# --- the subsample ---------------------------------------------------------------------------------------


def test_a_smaller_subsample_lies_within_a_larger_one(folder: Path, tmp_path: Path) -> None:
    ids = {}
    for size in (20, 60, 100):
        cfg = config(folder, subsample=SubsampleConfig(n_documents=size))
        summary, _ = build(cfg, tmp_path / str(size))
        ids[size] = set(read_column(tmp_path / str(size) / "documents" / "documents.parquet", "id"))
        assert summary["n_documents"] == len(ids[size]) == size
        assert sum(summary["left_out"]["not_sampled"].values()) == 121 - size
    assert ids[20] < ids[60] < ids[100]
    other = config(folder, subsample=SubsampleConfig(n_documents=20, seed=1))
    build(other, tmp_path / "other")
    assert set(read_column(tmp_path / "other" / "documents" / "documents.parquet", "id")) != ids[20]


def test_a_stratified_subsample_keeps_the_shares(folder: Path, tmp_path: Path) -> None:
    summary, _ = build(config(folder, subsample=SubsampleConfig(n_documents=61, by="domain")), tmp_path / "root")
    assert {name: of["documents"] for name, of in summary["counts"].items()} == {"code": 31, "math": 30}


@pytest.mark.parametrize(
    ("subsample", "says"),
    [
        (SubsampleConfig(n_documents=122), "n_documents=122, but 121 documents are there"),
        (SubsampleConfig(n_documents=0), "n_documents=0, but"),
        (SubsampleConfig(n_documents=5, by="source"), "by='source' is not one of none, domain"),
    ],
)
def test_subsamples_that_cannot_be(folder: Path, tmp_path: Path, subsample: SubsampleConfig, says: str) -> None:
    with pytest.raises(PoolError, match=says):
        build(config(folder, subsample=subsample), tmp_path / "root")


# --- statistics ------------------------------------------------------------------------------------------


def test_lengths_and_languages_are_said_by_domain(write_lines: Write, tmp_path: Path) -> None:
    english = "The weather is fine today and the children are playing in the garden behind the house."
    german = "Das Wetter ist heute schön und die Kinder spielen im Garten hinter dem Haus."
    for name, text in (("english", english), ("german", german)):
        write_lines(f"data/{name}.jsonl", [{"instruction": text, "output": text * at} for at in range(1, 21)])
    cfg = config(tmp_path / "data", language_sample=30)
    documents, made = build(cfg, tmp_path / "root")
    assert documents["languages"]["n_documents"] == 30
    assert documents["languages"]["shares"] == {"english": {"en": 1.0}, "german": {"de": 1.0}}
    assert documents["characters"]["german"]["max"] == 21 * len(german)
    assert documents["characters"]["german"]["q0.5"] == pytest.approx(11.5 * len(german))
    offsets = np.load(tmp_path / "root" / "tokens" / "offsets.npy")
    is_german = np.load(tmp_path / "root" / "documents" / "domain_ids.npy") == 1
    assert made["lengths"]["german"]["mean"] == pytest.approx(np.diff(offsets)[is_german].mean())
    assert read_json(tmp_path / "root" / "tokens" / "stage.json")["n_tokens"] == offsets[-1]


def test_a_compressed_file_reads_like_a_plain_one(folder: Path, tmp_path: Path) -> None:
    before, _ = build(config(folder), tmp_path / "before")
    path = folder / "train-math.jsonl.gz"
    (folder / "train-math.jsonl").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    after, _ = build(config(folder), tmp_path / "after")
    assert after["n_documents"] == before["n_documents"]


def test_documents_that_the_template_refuses_are_named(folder: Path, tmp_path: Path) -> None:
    made = train_bpe(["one two three"] * 9, 300)
    made.chat_template = (
        "{% for m in messages %}{% if '5' in m['content'] %}{{ raise_exception('no fives') }}{% endif %}"
    )
    made.chat_template += "{{ m['role'] + ' ' + m['content'] + '\n' }}{% endfor %}"
    made.save_pretrained(tmp_path / "tokenizer")
    cfg = config(folder)
    cfg.tokenizer = TokenizerConfig(kind="pretrained", path=str(tmp_path / "tokenizer"))
    with pytest.raises(PoolError) as error:
        build(cfg, tmp_path / "root")
    message = str(error.value)
    assert "documents that cannot be tokenised: 30 problems" in message
    assert "math-35: the tokenizer's chat template refuses a conversation: no fives" in message
    assert "and 20 more" in message
    assert "math-34: " not in message
