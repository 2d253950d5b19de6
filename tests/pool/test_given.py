"""Scores that come with the documents, or in a table joined by id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causalmix.config import PoolConfig, SubsampleConfig
from causalmix.errors import PoolError
from causalmix.pool.prepare import prepare
from causalmix.pool.store import Pool, open_pool
from tests.pool.conftest import tiny_config

Write = Callable[[str, Any], Path]
FIELDS = {
    "hes": "raw_scores.HES",
    "normalized_loss": "raw_scores.Normalized_Loss",
    "writing_style": "raw_scores.Writing_Style",
}


def scored_rows(domain: str, count: int = 40) -> list[dict[str, Any]]:
    """Rows of the published tables' shape; the scores can be told from the id."""
    return [
        {
            "id": f"{domain}-{at}",
            "instruction": f"Ask {at} of {domain}?",
            "input": "",
            "output": f"It is {at}.",
            "raw_scores": {"HES": at / 7, "Normalized_Loss": -at / 3, "Writing_Style": float(at % 5), "IFD": None},
        }
        for at in range(count)
    ]


@pytest.fixture
def folder(write_lines: Write, tmp_path: Path) -> Path:
    for domain in ("code", "math"):
        write_lines(f"data/{domain}.jsonl", scored_rows(domain))
    return tmp_path / "data"


def config(folder: Path, given: str = "documents", **changes: Any) -> PoolConfig:
    cfg = tiny_config(source="jsonl", path=str(folder), n_workers=1, **changes)
    cfg.scores.given, cfg.scores.given_fields = given, dict(FIELDS)
    return cfg


def check_scores(pool: Pool) -> None:
    at = np.array([int(name.rsplit("-", 1)[1]) for name in pool.ids])
    np.testing.assert_allclose(pool.raw_scores, np.stack([at / 7, -at / 3, at % 5], axis=1))


def message_of(cfg: PoolConfig, tmp_path: Path) -> str:
    with pytest.raises(PoolError) as error:
        prepare(cfg, tmp_path / "outputs", progress=False)
    return str(error.value)


def write_table(write_lines: Write, rows: list[dict[str, Any]]) -> str:
    return str(write_lines("scores.jsonl", [{"id": row["id"], "raw_scores": row["raw_scores"]} for row in rows]))


def test_scores_come_with_the_documents(folder: Path, tmp_path: Path) -> None:
    pool = open_pool(prepare(config(folder), tmp_path / "outputs", progress=False))
    check_scores(pool)
    assert pool.facts["reference_lm"]["source"] == "none: the scores are given"
    assert not (pool.path / "rater" / "model.safetensors").exists()
    calibrated = pool.scores[pool.is_reference]
    np.testing.assert_allclose(calibrated.mean(axis=0), 0, atol=1e-9)
    assert pool.facts["normaliser"]["identity"]["given"]["fields"] == FIELDS


def test_scores_follow_their_document_when_others_are_left_out(folder: Path, tmp_path: Path) -> None:
    cfg = config(folder, subsample=SubsampleConfig(n_documents=50))
    pool = open_pool(prepare(cfg, tmp_path / "outputs", progress=False))
    assert pool.n_documents == 50
    check_scores(pool)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_table_is_joined_by_id(folder: Path, tmp_path: Path, write_lines: Write, kind: str) -> None:
    rows = [*scored_rows("math"), *scored_rows("code")][::-1]
    path = write_table(write_lines, rows)
    if kind == "parquet":
        path = str(tmp_path / "scores.parquet")
        pq.write_table(pa.Table.from_pylist([{"id": row["id"], "raw_scores": row["raw_scores"]} for row in rows]), path)
    check_scores(open_pool(prepare(config(folder, path), tmp_path / "outputs", progress=False)))


def test_another_table_is_another_store(folder: Path, tmp_path: Path, write_lines: Write) -> None:
    rows = [*scored_rows("math"), *scored_rows("code")]
    first = prepare(config(folder, write_table(write_lines, rows)), tmp_path / "outputs", progress=False)
    rows[0]["raw_scores"]["HES"] = 5.0
    second = prepare(config(folder, write_table(write_lines, rows)), tmp_path / "outputs", progress=False)
    assert first != second
    assert open_pool(first).fingerprint != open_pool(second).fingerprint


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "'raw_scores.HES' is nan"),
        (float("inf"), "'raw_scores.HES' is inf"),
        (None, "'raw_scores.HES' is missing or null"),
        ("3", "'raw_scores.HES' is '3'"),
        (True, "'raw_scores.HES' is True"),
    ],
)
def test_scores_that_are_no_numbers_are_named_with_their_line(
    folder: Path, tmp_path: Path, write_lines: Write, value: Any, says: str
) -> None:
    rows = scored_rows("code")
    rows[6]["raw_scores"]["HES"] = rows[8]["raw_scores"]["HES"] = value
    write_lines("data/code.jsonl", rows)
    message = message_of(config(folder), tmp_path)
    assert "2 problems" in message
    assert f"code.jsonl:7: score {says}" in message
    assert "code.jsonl:9: " in message
    del rows[6]["raw_scores"], rows[8]["raw_scores"]
    write_lines("data/code.jsonl", rows)
    assert "score 'raw_scores.HES' is missing or null, 'raw_scores.Normalized_Loss' is missing" in message_of(
        config(folder), tmp_path
    )


def test_a_table_of_other_documents_is_refused(folder: Path, tmp_path: Path, write_lines: Write) -> None:
    rows = [*scored_rows("math"), *scored_rows("code")[:-2], *scored_rows("safety", 1), scored_rows("math")[3]]
    message = message_of(config(folder, write_table(write_lines, rows)), tmp_path)
    assert "1 ids twice (math-3 at scores.jsonl:80)" in message
    assert "no scores for 2 documents (code-38, code-39)" in message
    assert "scores for 1 other ids (safety-0 at scores.jsonl:79)" in message


def test_a_table_may_know_documents_that_were_left_out(folder: Path, tmp_path: Path, write_lines: Write) -> None:
    cfg = config(folder, write_table(write_lines, [*scored_rows("math"), *scored_rows("code")]))
    cfg.subsample.n_documents = 70
    check_scores(open_pool(prepare(cfg, tmp_path / "outputs", progress=False)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"given_fields": {"hess": "a"}}, r"unknown 'hess' \(did you mean 'hes'\?\); missing hes, normalized_loss"),
        ({"given": "nowhere.jsonl"}, "pool.scores.given=nowhere.jsonl: no such file"),
    ],
)
def test_settings_that_cannot_work(folder: Path, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    import re

    cfg = config(folder)
    for key, value in change.items():
        setattr(cfg.scores, key, value)
    assert re.search(says, message_of(cfg, tmp_path))
