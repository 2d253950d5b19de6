from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.config import DedupConfig
from causalmix.errors import PoolError
from causalmix.pool.duplicates import WEIGHTS, choose_bands, compare_pairs, find_pairs, hash_bands, mark_near_duplicates
from causalmix.pool.hashing import hash_ids, mark_repeats
from causalmix.pool.signature import Signer, check_settings
from causalmix.pool.table import read_column
from tests.pool.conftest import chat, make_records
from tests.pool.test_shards import build, config

Write = Callable[[str, Any], Path]
WORDS = [f"word{at}" for at in range(400)]
CFG = DedupConfig(kind="near")


def jaccard(left: str, right: str) -> float:
    """Of the sets of 5-word shingles, exactly."""
    sets = []
    for text in (left, right):
        words = text.split()
        sets.append({tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def make_texts(seed: int, count: int) -> list[str]:
    """Texts of which half are another with some words changed."""
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    for _ in range(count):
        if texts and rng.random() < 0.5:
            words = texts[rng.integers(len(texts))].split()
            for at in rng.integers(len(words), size=rng.integers(0, 8)):
                words[at] = WORDS[rng.integers(len(WORDS))]
        else:
            words = [WORDS[at] for at in rng.integers(len(WORDS), size=rng.integers(40, 120))]
        texts.append(" ".join(words))
    return texts


def write_shards(folder: Path, texts: list[str], sizes: list[int]) -> tuple[list[Path], list[Path]]:
    """Sign texts and write signatures and bands, shard by shard."""
    signer, bands = Signer(CFG), choose_bands(CFG.threshold, CFG.num_perm)
    signatures = np.stack([signer.sign([text]) for text in texts])
    keys, rows, start = [], [], 0
    for number, size in enumerate(sizes):
        part = signatures[start : start + size]
        keys.append(folder / f"{number}.bands.npy")
        rows.append(folder / f"{number}.signatures.npy")
        np.save(keys[-1], hash_bands(part, bands))
        np.save(rows[-1], part)
        start += size
    return keys, rows


def test_signatures_estimate_the_similarity() -> None:
    signer = Signer(CFG)
    rng = np.random.default_rng(0)
    words = [WORDS[at] for at in rng.integers(len(WORDS), size=300)]
    errors = []
    for changed in range(0, 40, 2):
        other = list(words)
        for at in range(changed):
            other[at * 7] = f"other{at}"
        left, right = " ".join(words), " ".join(other)
        errors.append((signer.sign([left]) == signer.sign([right])).mean() - jaccard(left, right))
    assert abs(np.mean(errors)) < 0.03
    assert np.abs(errors).max() < 4 * 0.5 / np.sqrt(CFG.num_perm)


def test_spaces_case_and_parts_do_not_matter() -> None:
    signer = Signer(CFG)
    first = signer.sign(["The cat sat on the mat,", "and the dog did not."])
    np.testing.assert_array_equal(first, signer.sign(["the  CAT sat on\nthe mat and the dog", "did not"]))
    assert (first != signer.sign(["the cat sat on the mat and the dog did so"])).any()
    signer.sign([""])
    signer.sign(["漢字"])


def test_signatures_are_datasketchs() -> None:
    signer = Signer(CFG)
    values = signer.hash_shingles(["a b c d e f g h"])
    library = MinHash(num_perm=128, seed=CFG.seed, hashfunc=lambda value: value)
    library.update_batch(values)
    np.testing.assert_array_equal(signer.sign(["a b c d e f g h"]), library.hashvalues)


def test_bands_find_the_pairs_that_the_library_finds(tmp_path: Path) -> None:
    texts = make_texts(1, 150)
    keys, _ = write_shards(tmp_path, texts, [50, 0, 100])
    pairs = {(int(a), int(b)) for a, b in find_pairs(np.ones(150, dtype=bool), keys)}
    index, signer, expected = MinHashLSH(threshold=CFG.threshold, num_perm=128, weights=WEIGHTS), Signer(CFG), set()
    for at, text in enumerate(texts):
        own = MinHash(num_perm=128, seed=CFG.seed, hashvalues=signer.sign([text]), scheme="affine32")
        expected |= {(at, earlier) for earlier in index.query(own)}
        index.insert(at, own)
    assert pairs <= expected  # of a group, each with its first and the one before: not all with all
    grouped = {later for later, _ in expected}
    assert {later for later, _ in pairs} == grouped


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 1000))
def test_of_similar_documents_one_stays(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    texts = make_texts(seed, 80)
    keys, rows = write_shards(tmp_path_factory.mktemp("shards"), texts, [30, 50])
    dropped = set(mark_near_duplicates(np.ones(80, dtype=bool), keys, rows, CFG.threshold).tolist())
    stay = [at for at in range(80) if at not in dropped]
    for at in dropped:  # never without an earlier one that stays and is about as similar as was asked
        assert max(jaccard(texts[at], texts[other]) for other in stay if other < at) > CFG.threshold - 0.15
    for left in range(len(stay)):
        for right in range(left):
            assert jaccard(texts[stay[left]], texts[stay[right]]) < 0.97


def test_what_is_left_out_already_drops_nothing(tmp_path: Path) -> None:
    text = make_texts(0, 1)[0]
    keys, rows = write_shards(tmp_path, [text, text, text], [3])
    assert mark_near_duplicates(np.ones(3, dtype=bool), keys, rows, 0.8).tolist() == [1, 2]
    assert mark_near_duplicates(np.array([False, True, True]), keys, rows, 0.8).tolist() == [2]
    assert mark_near_duplicates(np.zeros(3, dtype=bool), keys, rows, 0.8).tolist() == []


def test_a_thousand_copies_cost_a_thousand_comparisons(tmp_path: Path) -> None:
    keys, rows = write_shards(tmp_path, make_texts(0, 1) * 1000, [1000])
    pairs = find_pairs(np.ones(1000, dtype=bool), keys)
    assert len(pairs) < 2000
    np.testing.assert_array_equal(compare_pairs(pairs, rows), 1.0)


def test_repeats_point_at_the_first() -> None:
    names = ["a", "b", "a", "c", "b", "a"]
    assert mark_repeats(hash_ids(names)).tolist() == [0, 1, 0, 3, 1, 0]
    assert mark_repeats(hash_ids([])).tolist() == []


# --- in a pool -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(write_lines: Write, tmp_path: Path) -> Path:
    long = " ".join(make_texts(3, 1)[0].split()[:100])
    code = [*make_records("code", 20), {"id": "one", "messages": chat("Say", long)}]
    math = [
        *make_records("math", 20),
        {"id": "same", "messages": chat("Say", long)},
        {"id": "spaces", "messages": chat("Say", long.replace(" ", "  "))},
        {"id": "near", "messages": chat("Say", long + " at last")},
        {"id": "role", "messages": [{"role": "system", "content": "Say"}, {"role": "assistant", "content": long[:50]}]},
    ]
    write_lines("data/code.jsonl", code)
    write_lines("data/math.jsonl", math)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("kind", "gone", "left_out"),
    [
        ("off", set(), {}),
        ("exact", {"same"}, {"exact_duplicates": {"math": 1}}),
        (
            "near",
            {"same", "spaces", "near"},
            {"exact_duplicates": {"math": 1}, "near_duplicates": {"math": 2}},
        ),
    ],
)
def test_duplicates_are_left_out_and_counted(
    folder: Path, tmp_path: Path, kind: str, gone: set[str], left_out: dict[str, Any]
) -> None:
    cfg = config(folder, dedup=DedupConfig(kind=kind))
    if kind == "near":  # the generated records differ in a number alone, and are short
        cfg.dedup.ngram, cfg.dedup.threshold = 1, 0.94
    summary, _ = build(cfg, tmp_path / "root")
    ids = set(read_column(tmp_path / "root" / "documents" / "documents.parquet", "id"))
    assert {"one", "same", "spaces", "near", "role"} - ids == gone
    assert len(ids) == summary["n_documents"] == 45 - len(gone)
    assert summary["left_out"] == left_out


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"kind": "fuzzy"}, "kind='fuzzy' is not one of off, exact, near"),
        ({"threshold": 0.0}, r"threshold=0.0 must lie in \(0, 1\]"),
        ({"num_perm": 4}, "num_perm=4 must lie in 8 .. 1024"),
        ({"ngram": 0}, "ngram=0 must be 1 or more"),
    ],
)
def test_settings_that_cannot_work(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(PoolError, match=says):
        check_settings(DedupConfig(**setting))
