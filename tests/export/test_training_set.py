"""Training sets from a prepared pool, and what a pool adds to the other formats."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from causalmix.cli import app
from causalmix.errors import ConfigError, MixtureError
from causalmix.export.documents import write_rows
from causalmix.export.formats import export
from causalmix.export.request import ExportRequest
from causalmix.pool.table import SCHEMA
from tests.export.conftest import make_counts, write_mixture


def spread(pool, n):
    """A mixture of all domains that repeats the first one; counts sum to n."""
    domains = pool.domains
    counts = dict(zip(domains, [n - 10 * (len(domains) - 1), *[10] * (len(domains) - 1)]))
    return {name: count / n for name, count in counts.items()}, counts


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_counts_repeats_and_messages_are_exact(pool, tmp_path):
    available = pool.candidate_counts()
    weights, counts = spread(pool, 10 * (len(pool.domains) - 1) + 2 * available[pool.domains[0]] + 3)
    mixture = write_mixture(tmp_path / "mixture.json", weights, counts=make_counts(counts, available))
    facts = export("jsonl", ExportRequest(mixture, "", pool), tmp_path / "train.jsonl")
    rows = read_lines(tmp_path / "train.jsonl")
    assert facts["counts"] == counts == Counter(row["domain"] for row in rows)
    seen = Counter(row["id"] for row in rows if row["domain"] == pool.domains[0])
    assert set(seen.values()) == {2, 3}
    assert sum(times == 3 for times in seen.values()) == 3
    reference = {pool.ids[at] for at in np.flatnonzero(pool.is_reference)}
    assert not reference & {row["id"] for row in rows}
    assert all({turn["role"] for turn in row["messages"]} <= {"system", "user", "assistant"} for row in rows)
    assert json.loads((tmp_path / "train.jsonl.export.json").read_text())["counts"] == counts


def test_datasets_reads_both_files_and_they_say_the_same(pool, tmp_path, monkeypatch):
    import datasets

    weights, _ = spread(pool, 200)
    mixture = write_mixture(tmp_path / "mixture.json", weights)
    for kind in ("jsonl", "parquet"):
        export(kind, ExportRequest(mixture, "", pool, n_samples=200, seed=3), tmp_path / f"train.{kind}")
    loaded = [
        datasets.load_dataset(
            builder, data_files=str(tmp_path / name), split="train", cache_dir=str(tmp_path / "cache")
        )
        for builder, name in (("json", "train.jsonl"), ("parquet", "train.parquet"))
    ]
    assert loaded[0].to_list() == loaded[1].to_list() == read_lines(tmp_path / "train.jsonl")
    assert len(loaded[0]) == 200
    again = tmp_path / "again.jsonl"
    export("jsonl", ExportRequest(mixture, "", pool, n_samples=200, seed=3), again)
    assert again.read_bytes() == (tmp_path / "train.jsonl").read_bytes()


def test_a_pool_gives_the_domains_files_and_the_shares_of_tokens(pool, tmp_path):
    weights, _ = spread(pool, 200)
    mixture = write_mixture(tmp_path / "mixture.json", weights)
    facts = export("torchtune", ExportRequest(mixture, "", pool), tmp_path / "out")
    entries = yaml.safe_load((tmp_path / "out" / "datasets.yaml").read_text())["datasets"]
    for entry, (name, n) in zip(entries, pool.candidate_counts().items()):
        rows = read_lines(tmp_path / "out" / "data" / f"{name}.jsonl")
        assert entry["data_files"] == str(tmp_path / "out" / "data" / f"{name}.jsonl") in facts["files"]
        assert len(rows) == len({row["id"] for row in rows}) == n
        assert [row["id"] for row in rows] != sorted(row["id"] for row in rows)
    export("megatron", ExportRequest(mixture, "", pool), tmp_path / "blend")
    words = (tmp_path / "blend" / "blend.txt").read_text().split()
    lengths = pool.store.lengths()
    tokens = []
    for at, name in enumerate(pool.domains):
        inside = (pool.domain_ids == at) & ~pool.is_reference
        tokens.append(weights[name] * lengths[inside].mean())
    assert [float(word) for word in words[::2]] == pytest.approx(np.array(tokens) / sum(tokens))
    assert not (tmp_path / "blend" / "data").exists()


def test_domains_that_the_pool_lacks_are_named(pool, tmp_path):
    first, second = pool.domains[:2]
    mixture = write_mixture(tmp_path / "mixture.json", {first: 0.5, f"{second}s": 0.3, "zzz": 0.2})
    with pytest.raises(MixtureError, match=rf"has no domain '{second}s' \(did you mean '{second}'\?\), 'zzz'; it has"):
        export("hf", ExportRequest(mixture, "", pool), tmp_path / "out")


def test_too_many_documents_are_refused(pool, tmp_path):
    weights, _ = spread(pool, 200)
    mixture = write_mixture(tmp_path / "mixture.json", weights)
    request = ExportRequest(mixture, "", pool, n_samples=200, repeats_max=0.1)
    with pytest.raises(MixtureError, match=r"more documents than there are: .*Give a smaller --n-samples"):
        export("jsonl", request, tmp_path / "train.jsonl")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 17), st.randoms(use_true_random=False))
def test_rows_come_in_the_order_asked_for_however_the_store_is_chunked(tmp_path_factory, n, chunk, random):
    folder = tmp_path_factory.mktemp("store")
    (folder / "documents").mkdir()
    columns = {"id": [f"d{at}" for at in range(n)], "domain": ["a"] * n, "is_reference": [False] * n}
    turns = [[{"role": "assistant", "content": str(at)}] for at in range(n)]
    table = pa.table({**columns, "quality": [None] * n, "messages": turns}, schema=SCHEMA)
    pq.write_table(table, folder / "documents" / "documents.parquet", row_group_size=chunk)
    asked = np.array([random.randrange(n) for _ in range(2 * n)])
    write_rows(SimpleNamespace(path=folder), asked, folder / "out.jsonl")
    rows = read_lines(folder / "out.jsonl")
    assert [row["id"] for row in rows] == [f"d{at}" for at in asked]
    assert [row["messages"][0]["content"] for row in rows] == [str(at) for at in asked]


def test_the_command(pool, tmp_path):
    weights, _ = spread(pool, 200)
    mixture = write_mixture(tmp_path / "mixture.json", weights, advice="withheld", candidate=weights, reason="so")
    run = CliRunner().invoke
    asked = ["export", str(mixture), "--to", "parquet", "--pool", str(pool.path), "--n-samples", "60"]
    ended = run(app, asked)
    assert ended.exit_code == 0, ended.output
    assert "ADVICE WAS WITHHELD: so" in ended.output
    assert (tmp_path / "train.parquet").is_file()
    ended = run(app, [*asked, "--candidate", "--json"])
    assert sum(json.loads(ended.output)["counts"].values()) == 60
    ended = run(app, ["export", str(mixture), "--to", "parket"])
    assert isinstance(ended.exception, ConfigError)
    assert "did you mean 'parquet'?" in str(ended.exception)
