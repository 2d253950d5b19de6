from __future__ import annotations

import errno
import fcntl
import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from causalmix.errors import CausalMixError, PoolError
from causalmix.pool import scorers, stages
from causalmix.pool.prepare import prepare
from causalmix.pool.stage import lock_folder, name_temporary, run_stage
from causalmix.pool.store import Pool, open_pool
from causalmix.pool.table import read_column
from causalmix.pool.tokenizer import train_bpe
from tests.pool.conftest import TEXTS, make_records, tiny_config

# Of the tiny demo pool: they move where the generator, the tokenizer or the labels do.
GOLDEN = {
    "documents": "adc3bed361bad5c9",
    "heldout": "eb5a8b6dfa993cc8",
    "tokens": "4feb6b46b3ce2e7b",
}


@pytest.fixture
def copied(pool: Pool, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pool.path, tmp_path / "store"))


def test_store_holds_what_it_says(pool: Pool) -> None:
    assert pool.domains == ("coding", "instruction_following", "knowledge", "math", "safety")
    assert pool.n_documents == 400 == len(pool.store) == len(pool.ids) == len(set(pool.ids))
    assert pool.scores.shape == (400, 3)
    assert np.isfinite(pool.scores).all()
    assert pool.features == ("hes", "normalized_loss", "writing_style")
    assert 0.15 < pool.is_reference.mean() < 0.35
    assert sum(pool.candidate_counts().values()) + len(pool.reference_ids()) == 400
    assert pool.heldout_path is not None
    records = [json.loads(line) for line in pool.heldout_path.read_text().splitlines()]
    assert set(records[0]) == {"id", "ability", "task", "split", "messages"}
    assert int(pool.store.tokens.max()) < pool.vocab_size


def test_tokens_are_the_rendered_documents(pool: Pool) -> None:
    turns = read_column(pool.path / "documents" / "documents.parquet", "messages")
    for at in (0, 123, 399):
        tokens, labels = pool.store.document(at)
        rendered = pool.tokenizer.apply_chat_template(turns[at], tokenize=False)
        assert pool.tokenizer.decode(tokens) == rendered
        answer = pool.tokenizer.decode(tokens[labels.astype(bool)])
        assert answer == f"{turns[at][-1]['content']}<|im_end|>"


def test_same_settings_same_fingerprint(pool: Pool, tmp_path: Path) -> None:
    again = open_pool(prepare(tiny_config(), tmp_path, progress=False))
    assert again.path.name == pool.path.name
    assert again.fingerprint == pool.fingerprint
    np.testing.assert_array_equal(again.raw_scores, pool.raw_scores)


def test_golden_fingerprints(pool: Pool) -> None:
    parts = pool.facts["parts"]
    assert {name: parts[name][:16] for name in GOLDEN} == GOLDEN


def test_finished_store_is_returned_at_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "build_documents", None)
    assert prepare(tiny_config(), pool.path.parent.parent, progress=False) == pool.path
    other_candidates = tiny_config()
    other_candidates.candidate.fraction = 0.1
    other_candidates.scores.batch_tokens = 99
    assert prepare(other_candidates, pool.path.parent.parent, progress=False) == pool.path


@pytest.mark.parametrize(
    "change",
    [
        lambda cfg: setattr(cfg, "seed", 1),
        lambda cfg: setattr(cfg, "n_documents", 500),
        lambda cfg: setattr(cfg, "max_length", 63),
        lambda cfg: setattr(cfg.tokenizer, "vocab_size", 401),
        lambda cfg: setattr(cfg.scores.reference_lm, "n_steps", 7),
        lambda cfg: setattr(cfg.scores.rater, "pairs", "corrupted"),
    ],
)
def test_other_settings_are_another_store(pool: Pool, change: Callable[[Any], None]) -> None:
    cfg = tiny_config(store_dir=str(pool.path))
    change(cfg)
    with pytest.raises(PoolError, match=r"holds another pool \(different: "):
        prepare(cfg, Path("unused"), progress=False)


def test_interrupted_store_goes_on_after_its_last_stage(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    rater, documents = scorers.build_rater, stages.build_documents

    def fail(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def count(*args: Any, **options: Any) -> Any:
        calls.append("documents")
        return documents(*args, **options)

    monkeypatch.setattr(stages, "build_documents", count)
    monkeypatch.setattr(scorers, "build_rater", fail)
    with pytest.raises(KeyboardInterrupt):
        prepare(tiny_config(), tmp_path, progress=False)
    (root,) = (tmp_path / "pools").iterdir()
    with pytest.raises(PoolError, match="holds no finished pool"):
        open_pool(root)
    leftover = name_temporary(root, "scores")
    leftover.mkdir()
    monkeypatch.setattr(scorers, "build_rater", rater)
    finished = open_pool(prepare(tiny_config(), tmp_path, progress=False))
    assert calls == ["documents"]
    assert finished.fingerprint == pool.fingerprint
    assert not leftover.exists()


def test_stage_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise PoolError("no")

    with pytest.raises(PoolError):
        run_stage(tmp_path, "tokens", build)
    assert not list(tmp_path.iterdir())


def test_where_there_are_no_locks_the_first_to_finish_a_stage_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def build(folder: Path) -> dict[str, Any]:
        run_stage(tmp_path, "tokens", lambda other: {"made": "by another process"})
        (folder / "half").write_text("x")
        return {"made": "here"}

    monkeypatch.setattr(fcntl, "flock", refuse)
    theirs = name_temporary(tmp_path, "tokens")
    theirs.mkdir()
    with lock_folder(tmp_path):
        assert run_stage(tmp_path, "tokens", build) == {"made": "by another process"}
    assert theirs.is_dir(), "another's work in progress"
    assert not (tmp_path / "tokens" / "half").exists()


def test_a_lock_of_one_machine_takes_nothing_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = name_temporary(tmp_path, "tokens")
    monkeypatch.setattr(platform, "node", lambda: "another")
    theirs = name_temporary(tmp_path, "tokens")
    monkeypatch.undo()
    for folder in (ours, theirs):
        folder.mkdir()
    with lock_folder(tmp_path):
        assert theirs.is_dir()
        assert not ours.exists()


def test_full_disk_is_explained(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CausalMixError, match=r"no space left on the disk while making .*tokens"):
        run_stage(tmp_path, "tokens", build)
    assert not list(tmp_path.iterdir())


# --- opening ---------------------------------------------------------------------------------------------


def test_missing_and_damaged_files_are_named(copied: Path) -> None:
    open_pool(copied)
    (copied / "tokens" / "labels.bin").write_bytes(b"short")
    (copied / "scores" / "raw.npy").unlink()
    with pytest.raises(PoolError, match="is damaged") as error:
        open_pool(copied)
    assert "tokens/labels.bin (5 bytes instead of" in str(error.value)
    assert "scores/raw.npy (no bytes instead of" in str(error.value)


def test_tokenizer_that_does_not_match_the_store(copied: Path, pool: Pool) -> None:
    path = copied / "tokenizer" / "tokenizer.json"
    text = path.read_text()
    path.write_text(text.replace('"lol"', '"lol"')[:-1] + text[-1:].replace("}", " "))
    with pytest.raises(PoolError, match="does not match the store"):
        open_pool(copied)
    other = train_bpe(TEXTS, 300)
    with pytest.raises(PoolError, match=r"does not match the store .* whose tokens were made by"):
        pool.check_tokenizer(other)
    pool.check_tokenizer(pool.tokenizer)


def test_facts_changed_by_hand(copied: Path) -> None:
    facts = json.loads((copied / "pool.json").read_text())
    facts["fingerprint"] = "0" * 16
    (copied / "pool.json").write_text(json.dumps(facts))
    with pytest.raises(PoolError, match="changed by hand"):
        open_pool(copied)
    facts["format"] = 99
    (copied / "pool.json").write_text(json.dumps(facts))
    with pytest.raises(PoolError, match="format 99; this version reads 2"):
        open_pool(copied)


def test_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(PoolError, match=r"holds other files \(thesis.tex\)"):
        prepare(tiny_config(store_dir=str(tmp_path)), tmp_path, progress=False)


def test_a_name_that_leads_out_of_the_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"pool\.name='\.\./\.\./x': letters, digits"):
        prepare(tiny_config(name="../../x"), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_unknown_source() -> None:
    with pytest.raises(PoolError, match="source='csv' is not one of demo, jsonl, parquet, hf"):
        prepare(tiny_config(source="csv"), Path("unused"), progress=False)


# --- from files ------------------------------------------------------------------------------------------


@pytest.fixture
def files(write_lines: Callable[[str, Any], Path], tmp_path: Path) -> Path:
    for domain in ("code", "math"):
        write_lines(f"data/train-{domain}.jsonl.gz", make_records(domain, 60))
    return tmp_path / "data"


def test_pool_from_files_and_its_path_does_not_matter(files: Path, tmp_path: Path) -> None:
    cfg = tiny_config(source="jsonl", path=str(files))
    cfg.scores.rater.pairs = "corrupted"
    first = open_pool(prepare(cfg, tmp_path / "one", progress=False))
    assert first.heldout_path is None
    cfg.path = str(files.rename(tmp_path / "elsewhere"))
    second = open_pool(prepare(cfg, tmp_path / "two", progress=False))
    assert second.fingerprint == first.fingerprint
    assert second.path.name == first.path.name


def test_pretrained_parts_of_another_pool(pool: Pool, files: Path, tmp_path: Path) -> None:
    cfg = tiny_config(source="jsonl", path=str(files))
    cfg.tokenizer.kind, cfg.tokenizer.path = "pretrained", str(pool.path / "tokenizer")
    cfg.scores.reference_lm.path = str(pool.path / "reference_lm")
    cfg.scores.rater.path = str(pool.path / "rater")
    other = open_pool(prepare(cfg, tmp_path, progress=False))
    assert other.tokenizer_fingerprint == pool.tokenizer_fingerprint
    assert other.facts["rater"]["source"] == "pretrained"
    assert len(np.unique(other.raw_scores[:, 1])) > 50


def test_a_tokenizer_without_a_template_is_refused_before_anything_is_read(files: Path, tmp_path: Path) -> None:
    bare = train_bpe(TEXTS, 300)
    bare.chat_template = None
    bare.save_pretrained(tmp_path / "bare")
    cfg = tiny_config(source="jsonl", path=str(files))
    cfg.tokenizer.kind, cfg.tokenizer.path = "pretrained", str(tmp_path / "bare")
    with pytest.raises(PoolError, match="has no chat template: take that of the instruction-tuned model"):
        prepare(cfg, tmp_path / "outputs", progress=False)
    assert not (tmp_path / "outputs").exists()


def test_settings_that_decide_nothing_are_no_part_of_a_store(files: Path) -> None:
    from causalmix.pool.inputs import describe_inputs
    from causalmix.pool.sources import find_sources

    cfg = tiny_config(source="jsonl", path=str(files))
    before = describe_inputs(cfg, find_sources(cfg))
    assert not {"dedup", "subsample", "domain_map", "hf", "n_workers", "language_sample"} & set(before)
    cfg.n_workers, cfg.language_sample, cfg.subsample.seed, cfg.dedup.threshold = 3, 10, 5, 0.5
    assert describe_inputs(cfg, find_sources(cfg)) == before
    cfg.dedup.kind = "exact"
    assert describe_inputs(cfg, find_sources(cfg)) == {**before, "dedup": "exact"}
    cfg.dedup.kind = "near"
    assert describe_inputs(cfg, find_sources(cfg))["dedup"]["threshold"] == 0.5
