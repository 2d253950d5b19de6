"""Scores beside the three: definitions, a user's own, a table's; and what is refused."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.config import CandidateConfig
from causalmix.errors import PoolError
from causalmix.pool.candidate import draw_candidates
from causalmix.pool.inputs import describe_inputs
from causalmix.pool.prepare import prepare
from causalmix.pool.scores.extra import KINDS, identify_scorers, list_features, make_scorers
from causalmix.pool.scores.given import GivenScores
from causalmix.pool.scores.plain import WORD
from causalmix.pool.scores.scorer import ScoredText
from causalmix.pool.state import measure_state
from causalmix.pool.store import Pool, open_pool
from tests.pool.conftest import tiny_config

WORDS = st.lists(st.sampled_from(["a", "B", "b", "see", "7", "-", "naïve"]), max_size=40).map(" ".join)
LINES = Callable[[str, Any], Path]


@given(WORDS | st.text(max_size=50), st.integers(1, 12))
@settings(max_examples=60)
def test_plain_scores_are_their_definitions(text: str, window: int) -> None:
    words = [word.lower() for word in WORD.findall(text.lower())]
    spans = [words[at : at + window] for at in range(max(1, len(words) - window + 1))]
    moving = np.mean([len(set(span)) / len(span) for span in spans]) if words else 0.0
    raw = text.encode()
    expected = {
        "compression_ratio": len(raw) / len(zlib.compress(raw, 9)) if raw else 0.0,
        "length": len(text.split()),
        "type_token_ratio": len(set(words)) / len(words) if words else 0.0,
        "moving_type_token_ratio": moving,
    }
    for kind, value in expected.items():
        entry = {"kind": kind} | ({"window": window} if kind.startswith("moving") else {})
        scored = make_scorers({"x": entry})["x"]([ScoredText("", text), ScoredText("other", "words")])
        assert scored[0] == pytest.approx(value), kind


def test_a_score_reads_the_part_it_is_told() -> None:
    text = ScoredText("one two", "three")
    for part, count in {"text": 3, "prompt": 2, "output": 1}.items():
        assert make_scorers({"x": {"kind": "length", "part": part}})["x"]([text])[0] == count
    assert make_scorers({"x": {"kind": "length", "unit": "bytes", "part": "output", "log": True}})["x"]([text])[
        0
    ] == pytest.approx(math.log(6))


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("length", r"pool.scores.extra='length' is no mapping"),
        ({"x": "length"}, r"pool.scores.extra.x='length' needs a kind: one of compression_ratio, given, length"),
        ({"x": {"kind": "lenght"}}, r"kind='lenght' is not one of .* \(did you mean 'length'\?\), nor my_module:make"),
        ({"x": {"kind": "length", "windw": 3}}, r"extra.x: length does not take these settings: .*windw"),
        ({"x": {"kind": "length", "unit": "word"}}, r"extra.x: unit='word' .* \(did you mean 'words'\?\)"),
        ({"x": {"kind": "length", "part": "answer"}}, r"part='answer' of a score is not one of text, prompt, output"),
        ({"x": {"kind": "moving_type_token_ratio", "window": 0}}, r"window=0 .* must be 1 or more"),
        ({"x": {"kind": "nowhere:make"}}, r"there is no module nowhere to import; put its folder on PYTHONPATH"),
        ({"x": {"kind": "json:make"}}, r"json has no function 'make'"),
        ({"x": {"kind": "builtins:list"}}, r"no module builtins|returned no function"),
        ({"x": {"kind": "given", "path": "no.jsonl", "column": "s"}}, r"extra.x.path=no.jsonl: no such file"),
    ],
)
def test_what_cannot_be_made_is_named(extra: Any, said: str) -> None:
    with pytest.raises(PoolError, match=said):
        make_scorers(extra)


def test_names_that_cannot_be_columns() -> None:
    entry = {"kind": "length"}
    with pytest.raises(PoolError, match=r"extra has 'a\.b', '7'"):
        list_features(["hes"], {"a.b": entry, "7": entry})
    with pytest.raises(PoolError, match=r"extra has hes, which pool.scores.standard has too"):
        list_features(["hes"], {"hes": entry})
    with pytest.raises(PoolError, match=r"'loss'; allowed are hes, normalized_loss, writing_style"):
        list_features(["loss"], None)
    with pytest.raises(PoolError, match="both empty"):
        list_features([], None)
    assert list_features(["writing_style", "hes"], {"x": entry}) == ("hes", "writing_style", "x")


# --- a user's own ----------------------------------------------------------------------------------------


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "own_scores_of_a_test.py"
    path.write_text(
        "def make_scorer(word='the'):\n    return lambda texts: [text.output.count(word) for text in texts]\n"
        "def make_broken():\n    return lambda texts: [float('nan') if at == 3 else 1 for at, _ in enumerate(texts)]\n"
        "def make_short():\n    return lambda texts: [1.0]\n"
        "def make_words():\n    return lambda texts: ['x' for _ in texts]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


def test_a_module_is_known_by_what_it_holds(own_module: Path) -> None:
    entry = {"own": {"kind": f"{own_module.stem}:make_scorer", "word": "a"}}
    assert make_scorers(entry)["own"]([ScoredText("a", "banana")]) == [3]
    before = identify_scorers(entry)
    own_module.write_text(own_module.read_text() + "# changed\n")
    assert identify_scorers(entry) != before


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("make_short", r"extra.own returned an array of shape \(1,\) for 400 texts"),
        ("make_words", r"extra.own returned list, not one number a text"),
        ("make_broken", r"1 scores are not numbers: [^,]* \(own nan\)"),
    ],
)
def test_scores_that_are_none_are_refused(own_module: Path, tmp_path: Path, factory: str, said: str) -> None:
    cfg = tiny_config()
    cfg.scores.standard = []
    cfg.scores.extra = {"own": {"kind": f"{own_module.stem}:{factory}"}}
    with pytest.raises(PoolError, match=said):
        prepare(cfg, tmp_path, progress=False)


def test_extra_scores_become_state(pool: Pool, own_module: Path, tmp_path: Path) -> None:
    cfg = tiny_config()
    cfg.scores.extra = {"own": {"kind": f"{own_module.stem}:make_scorer"}, "size": {"kind": "length"}}
    wide = open_pool(prepare(cfg, tmp_path, progress=False))
    assert wide.features == (*pool.features, "own", "size")
    np.testing.assert_array_equal(wide.raw_scores[:, :3], pool.raw_scores)
    assert wide.fingerprint != pool.fingerprint
    candidates = draw_candidates(wide, CandidateConfig(kind="tilted"), seed=0)
    named = measure_state(wide, candidates).flat()
    assert {"state.own", "state.size", "state.size.math"} <= set(named)
    counts = wide.raw_scores[candidates.doc_ids, 4]
    frozen = wide.facts["normaliser"]
    assert named["state.size"] == pytest.approx(((counts - frozen["mean"][4]) / frozen["sd"][4]).mean())


def test_a_pool_may_have_cheap_scores_alone(tmp_path: Path) -> None:
    cfg = tiny_config()
    cfg.scores.standard = []
    cfg.scores.extra = {"size": {"kind": "length"}}
    cheap = open_pool(prepare(cfg, tmp_path, progress=False))
    assert cheap.features == ("size",)
    assert cheap.facts["reference_lm"]["source"] == cheap.facts["rater"]["source"] == "none"


def test_the_defaults_leave_a_pool_what_it_was(pool: Pool) -> None:
    """A store made before there were other settings is found again: they leave no trace at their defaults."""
    scores = describe_inputs(tiny_config(), None)["scores"]
    assert set(scores) == {"loss_max_length", "n_calibration", "reference_lm", "rater"}
    assert "dtype" not in scores["reference_lm"]
    cfg = tiny_config()
    cfg.scores.n_workers, cfg.scores.batch_tokens = 7, 5
    assert describe_inputs(cfg, None)["scores"] == scores
    for key, value in {"text": "published", "standard": ["hes"], "extra": {"x": {"kind": "length"}}}.items():
        cfg = tiny_config()
        setattr(cfg.scores, key, value)
        assert describe_inputs(cfg, None)["scores"] != scores


# --- scores of somebody else -----------------------------------------------------------------------------


def test_given_scores_are_joined_by_id(pool: Pool, write_lines: LINES, tmp_path: Path) -> None:
    rows = [{"id": identity, "scores": {"HES": at / 7}} for at, identity in enumerate(pool.ids)]
    path = write_lines("scores.jsonl.gz", reversed(rows))
    cfg = tiny_config()
    cfg.scores.standard = []
    cfg.scores.extra = {"hes": {"kind": "given", "path": str(path), "column": "scores.HES"}}
    given_pool = open_pool(prepare(cfg, tmp_path / "outputs", progress=False))
    np.testing.assert_allclose(given_pool.raw_scores[:, 0], np.arange(400) / 7)
    table = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"doc": pool.ids, "s": np.arange(400.0)}), table)
    scorer = GivenScores(str(table), "s", id_field="doc")
    scorer.check(pool.ids)
    assert scorer([ScoredText("", "", pool.ids[5])]).tolist() == [5.0]


def test_given_scores_that_do_not_fit_are_named(write_lines: LINES) -> None:
    path = write_lines("s.jsonl", [{"id": "a", "s": 1}, {"id": "b", "s": 2}, {"id": "b", "s": 3}, {"id": "z", "s": 0}])
    with pytest.raises(PoolError) as caught:
        GivenScores(str(path), "s").check(["a", "b", "c", "d"])
    message = str(caught.value)
    assert "no scores for 2 documents (c, d)" in message
    assert "1 ids twice (b at s.jsonl:3)" in message
    assert "scores for 1 other ids (z at s.jsonl:4)" in message
    GivenScores(str(write_lines("t.jsonl", [{"id": "a", "s": 1}, {"id": "z", "s": 0}])), "s").check(
        ["a"], knows_more=True
    )


def test_given_scores_of_another_pool_stop_before_anything_is_made(write_lines: LINES, tmp_path: Path) -> None:
    cfg = tiny_config()
    cfg.scores.extra = {
        "x": {"kind": "given", "path": str(write_lines("s.jsonl", [{"id": "z", "s": 0}])), "column": "s"}
    }
    with pytest.raises(PoolError, match=r"extra.x: .*no scores for 400 documents \(.*; scores for 1 other ids \(z"):
        prepare(cfg, tmp_path, progress=False)
    (root,) = (tmp_path / "pools").iterdir()
    assert not (root / "tokenizer").exists()


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"high"', "null", "true"])
def test_given_scores_that_are_no_numbers_are_located(write_lines: LINES, value: str) -> None:
    path = write_lines("s.jsonl", [{"id": "a", "s": 1}, f'{{"id": "b", "s": {value}}}', '{"s": 3}'])
    with pytest.raises(PoolError, match=r"(?s)2 problems.*s.jsonl:2: score 's' is .*s.jsonl:3: no 'id'"):
        GivenScores(str(path), "s")


def test_a_table_that_is_cut_short_is_refused(write_lines: LINES, tmp_path: Path) -> None:
    cut = write_lines("s.jsonl", ['{"id": "a", "s": 1}', '{"id": "b", '])
    with pytest.raises(PoolError, match=r"s.jsonl:2: not JSON \(.*at character 14"):
        GivenScores(str(cut), "s")
    whole = write_lines("t.jsonl.gz", [json.dumps({"id": str(at), "s": at}) for at in range(500)])
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(PoolError, match=r"t.jsonl.gz:\d+: the gzip stream is damaged or cut short"):
        GivenScores(str(whole), "s")
    broken = tmp_path / "s.parquet"
    broken.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(PoolError, match="not a whole Parquet file"):
        GivenScores(str(broken), "s")


def test_every_kind_is_in_the_docs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "scorers.md").read_text()
    assert all(f"`{kind}`" in page for kind in KINDS)
