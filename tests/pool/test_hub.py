"""Datasets of the `datasets` library, saved to disk; of Hub names, what is refused before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from causalmix.cli import compose_config
from causalmix.config import HFConfig, PoolConfig
from causalmix.errors import PoolError
from causalmix.pool import sources
from causalmix.pool.inputs import check_config, describe_inputs
from causalmix.pool.sources import find_sources
from causalmix.pool.table import read_column
from causalmix.sweep.points import to_config
from tests.pool.conftest import chat
from tests.pool.test_shards import build, config

CODE, MATH = "ai2-adapt-dev/evol_codealpaca_heval_decontaminated", "ai2-adapt-dev/personahub_math_v5_regen_149960"
CODE_TOO = "ai2-adapt-dev/personahub_code_v2_34999"
MAP = {CODE: "coding", CODE_TOO: "coding", MATH: "math"}


def tulu_rows(count: int = 60) -> list[dict[str, Any]]:
    """Rows of the mixture's shape: id, messages, source."""
    names = [CODE, MATH, CODE_TOO]
    return [
        {"id": f"row_{at}", "messages": chat(f"Ask {at}?", f"It is {at}."), "source": names[at % 3]}
        for at in range(count)
    ]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "saved"
    datasets.DatasetDict({"train": datasets.Dataset.from_list(tulu_rows())}).save_to_disk(path)
    return path


def hf(path: Path, **changes: Any) -> PoolConfig:
    cfg = config(path, **changes)
    cfg.source = "hf"
    return cfg


def read_ids(root: Path) -> list[str]:
    return read_column(root / "documents" / "documents.parquet", "id")


def test_sources_become_domains(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = hf(saved, domain_field="source", domain_map=MAP)
    summary, _ = build(cfg, tmp_path / "root")
    assert {name: of["documents"] for name, of in summary["counts"].items()} == {"coding": 40, "math": 20}
    assert read_ids(tmp_path / "root") == [f"row_{at}" for at in range(60)]
    monkeypatch.setattr(sources, "SHARD_ROWS", 7)
    assert build(cfg, tmp_path / "cut")[0] == summary


def test_unmapped_names_come_in_one_error_with_their_counts(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(PoolError) as error:
        build(hf(saved, domain_field="source", domain_map={CODE: "coding", "x": "math"}), tmp_path / "root")
    message = str(error.value)
    assert "pool.domain_map has no domain for 2 names of the field 'source'" in message
    assert f"'{MATH}' (20 documents)" in message
    assert f"'{CODE_TOO}' (20 documents)" in message
    assert "or null to drop its documents: '++pool.domain_map={ai2-adapt-dev/" in message


def test_null_drops_and_counts(saved: Path, tmp_path: Path) -> None:
    rows = [{**row, "source": "third"} for row in tulu_rows(9)]
    datasets.Dataset.from_list([*tulu_rows()[9:], *rows]).save_to_disk(tmp_path / "two")
    summary, _ = build(
        hf(tmp_path / "two", domain_field="source", domain_map={**MAP, "third": None}), tmp_path / "root"
    )
    assert summary["left_out"] == {"dropped": {"third": 9}}
    assert summary["n_documents"] == 51


def test_splits_are_domains_where_rows_name_none(tmp_path: Path) -> None:
    def turns(at: int) -> list[dict[str, str]]:
        return [{"from": "human", "value": f"Ask {at}?"}, {"from": "assistant", "value": f"<think>so</think>{at}"}]

    path = tmp_path / "long"
    splits = {
        name: datasets.Dataset.from_list([{"system": None, "conversations": turns(at)} for at in range(20)])
        for name in ("math", "code", "chat")
    }
    datasets.DatasetDict(splits).save_to_disk(path)
    cfg = hf(path, hf=HFConfig(splits=["math", "code"]))
    summary, _ = build(cfg, tmp_path / "root")
    assert summary["domains"] == ["code", "math"]
    assert read_ids(tmp_path / "root")[:2] == ["math:1", "math:2"]
    cfg.hf.splits = ["math", "maths"]
    with pytest.raises(PoolError, match=r"pool.hf.splits names maths; the dataset has math, code, chat"):
        build(cfg, tmp_path / "other")


def test_the_content_is_the_identity_not_the_place(saved: Path, tmp_path: Path) -> None:
    cfg = hf(saved)
    before = describe_inputs(cfg, find_sources(cfg))
    cfg.path = str(saved.rename(tmp_path / "moved"))
    assert describe_inputs(cfg, find_sources(cfg)) == before
    datasets.DatasetDict({"train": datasets.Dataset.from_list(tulu_rows(59))}).save_to_disk(saved)
    cfg.path = str(saved)
    assert describe_inputs(cfg, find_sources(cfg)) != before


def test_a_hub_name_needs_a_commit(tmp_path: Path) -> None:
    cfg = hf(tmp_path / "owner/name")
    with pytest.raises(PoolError, match=r"is no local folder, so it is read as a Hugging Face name, and pool.hf.revis"):
        find_sources(cfg)
    cfg.hf.revision = "main"
    with pytest.raises(PoolError, match=r"pool.hf.revision='main' is not a commit: pin one of 40"):
        find_sources(cfg)
    cfg.hf.revision = "0" * 40
    assert find_sources(cfg).identity["dataset"][1] == "0" * 40


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"holds no dataset saved with save_to_disk"):
        find_sources(hf(tmp_path))


@pytest.mark.parametrize("name", ["../../secret.arrow", "/etc/passwd", "", None])
def test_files_outside_the_dataset_are_not_read(saved: Path, tmp_path: Path, name: str | None) -> None:
    (tmp_path / "secret.arrow").write_bytes(b"secret")
    state = saved / "train" / "state.json"
    content = json.loads(state.read_text())
    content["_data_files"] = [{"filename": name}]
    state.write_text(json.dumps(content))
    with pytest.raises(PoolError, match=r"lies outside of|lacks"):
        find_sources(hf(saved))


def test_splits_outside_the_dataset_are_not_read(saved: Path) -> None:
    (saved / "dataset_dict.json").write_text(json.dumps({"splits": ["../elsewhere"]}))
    with pytest.raises(PoolError, match=r"'../elsewhere', which lies outside of"):
        find_sources(hf(saved))


def test_a_dataset_cut_short_is_named(saved: Path, tmp_path: Path) -> None:
    (arrow,) = (saved / "train").glob("*.arrow")
    whole = arrow.read_bytes()
    arrow.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PoolError, match=r"no dataset can be opened from pool.path|the dataset is damaged"):
        build(hf(saved), tmp_path / "root")
    arrow.unlink()
    with pytest.raises(PoolError, match=r"lacks data-00000-of-00001.arrow: it was not saved or copied whole"):
        build(hf(saved), tmp_path / "root")


# --- the configs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tulu3_100k", "tulu3_400k", "tulu3_800k"])
def test_tulu_configs_read_the_mixtures_shape(tmp_path: Path, name: str) -> None:
    cfg = to_config(compose_config([f"pool={name}"])).pool
    assert cfg.subsample.n_documents == int(name.split("_")[1][:-1]) * 1000
    assert len(cfg.domain_map) == 19
    assert set(cfg.domain_map.values()) == set(cfg.domains)
    rows = [{**row, "source": source} for row, source in zip(tulu_rows(190), list(cfg.domain_map) * 10)]
    words = [f"w{at}" for at in range(2000)]
    for at, row in enumerate(rows):  # long enough to be told apart
        row["messages"][1]["content"] = " ".join(words[at * 10 : at * 10 + 30])
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "tulu")
    cfg.path, cfg.n_workers, cfg.language_sample, cfg.subsample.n_documents = str(tmp_path / "tulu"), 1, 0, 150
    cfg.tokenizer.kind = "bpe"
    cfg.reference_fraction = 0.2
    summary, _ = build(cfg, tmp_path / "root")
    assert summary["domains"] == sorted(cfg.domains)
    assert summary["n_documents"] == 150


def test_longcot_reads_two_domains(tmp_path: Path) -> None:
    cfg = to_config(compose_config(["pool=longcot"])).pool
    turns = [{"from": "human", "value": "Why?"}, {"from": "assistant", "value": "<think>hm</think>Because."}]
    rows = [{"system": "", "conversations": [turns[0], {**turns[1], "value": f"so {at} is"}]} for at in range(200)]
    splits = {name: datasets.Dataset.from_list(rows[at::3]) for at, name in enumerate(["math", "code", "if"])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "am")
    cfg.path, cfg.n_workers, cfg.language_sample, cfg.dedup.kind = str(tmp_path / "am"), 1, 0, "exact"
    cfg.tokenizer.kind = "bpe"
    cfg.reference_fraction = 0.2
    assert build(cfg, tmp_path / "root")[0]["domains"] == ["code", "math"]


def test_mappings_are_checked_where_they_are_read(tmp_path: Path) -> None:
    cfg = hf(tmp_path)
    cfg.domain_map = {"a": 3}
    with pytest.raises(PoolError, match=r"pool.domain_map=\{'a': 3\} must map names to names"):
        check_config(cfg)
    cfg.domain_map = ["a"]
    with pytest.raises(PoolError, match=r"pool.domain_map=\['a'\] must map names to names"):
        check_config(cfg)


def test_every_unpinned_name_comes_in_one_error() -> None:
    cfg = to_config(compose_config(["pool=tulu3_100k", "pool.scores.rater.path=a/rater"])).pool
    with pytest.raises(PoolError) as error:
        check_config(cfg)
    for key in ("pool.hf", "pool.tokenizer", "pool.scores.reference_lm", "pool.scores.rater"):
        assert f"{key}.revision=None is not a commit" in str(error.value)


def test_a_map_is_given_and_added_to_on_the_command_line() -> None:
    assert compose_config(["pool=jsonl", "pool.domain_map={a/b.c_1: math}"])["pool"]["domain_map"] == {
        "a/b.c_1": "math"
    }
    mapped = compose_config(["pool=tulu3_100k", "++pool.domain_map={a/b.c_1: null}"])["pool"]["domain_map"]
    assert mapped["a/b.c_1"] is None
    assert len(mapped) == 20
