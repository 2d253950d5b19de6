from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalmix.pool.scorers import load_panel
from causalmix.pool.scores import reader as readers
from causalmix.pool.scores.language_model import HIGH_ENTROPY_QUANTILE, sum_high_entropies
from causalmix.pool.scores.reader import TextReader, read_texts
from causalmix.pool.store import Pool
from tests.pool.conftest import tiny_config

HARD = ["", "a", "Zoë 漢字 😀!", "  \n\n two", "line\r\nline", "e\u0301", "\x00\x07", "x" * 300]


def test_a_text_is_read_as_the_tokenizer_reads_it(tokenizer: Any) -> None:
    starts = [0, 1, 4, 2, 5, 1, 1, 300]
    readings = TextReader(tokenizer).read(HARD, starts)
    for text, start, reading in zip(HARD, starts, readings):
        encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        assert reading.ids.tolist() == encoding["input_ids"]
        begins = [begin for begin, _ in encoding["offset_mapping"]]
        assert reading.first == np.searchsorted(begins, start, side="left"), text


@given(text=st.text(max_size=60), share=st.floats(0, 1))
def test_the_first_token_of_the_output_is_found_in_any_text(tokenizer: Any, text: str, share: float) -> None:
    start = round(share * len(text))
    (reading,) = TextReader(tokenizer).read([text], [start])
    begins = [begin for begin, _ in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]]
    assert reading.first == np.searchsorted(begins, start, side="left")


def test_long_texts_are_encoded_a_few_at_a_time_and_in_pieces(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["", *(f"text {at}, 12 of  them.\n " * (at % 7) for at in range(40)), "x" * 300]
    starts = [len(text) // 2 for text in texts]
    whole = list(read_texts(tokenizer, texts, starts))
    monkeypatch.setattr(readers, "CHARACTERS", 80)
    monkeypatch.setattr(readers, "BATCH_CHARACTERS", 80)
    assert [len(batch) for batch in readers._batch(["x" * 60] * 3)] == [1, 1, 1]
    assert [len(batch) for batch in readers._batch(["x" * 40, "x" * 40, "x"])] == [2, 1]
    assert max(len(piece) for text in texts for piece in readers._cut(text)) == 80
    assert any(len(list(readers._cut(text))) > 1 for text in texts[:-1])
    cut = list(read_texts(tokenizer, texts, starts))
    for a, b in zip(cut[:-1], whole[:-1]):  # but for what has no space to be cut at
        assert (a.ids.tolist(), a.first) == (b.ids.tolist(), b.first)
    assert tokenizer.decode(cut[-1].ids) == texts[-1]


def test_what_was_read_last_is_kept_and_nothing_else(tokenizer: Any) -> None:
    reader = TextReader(tokenizer)
    first = reader.read(["one text", "another"], [0, 0])
    assert reader.read(["one text", "another"], [0, 0]) is first
    assert reader.read(["one text", "another"], [0, 3])[1].first > 0
    assert reader.read([], []) == []


@given(st.lists(st.floats(0, 20), min_size=1, max_size=700))
def test_high_entropies_are_those_above_numpys_quantile(values: list[float]) -> None:
    entropies = np.array(values)
    threshold = min(np.quantile(entropies, HIGH_ENTROPY_QUANTILE), entropies.max())
    assert sum_high_entropies(entropies) == entropies[entropies >= threshold].sum()


def test_scorers_of_one_tokenizer_read_a_text_once(pool: Pool) -> None:
    panel = load_panel(tiny_config(), pool.path)
    assert panel.language_model
    assert panel.style
    assert panel.language_model.reader is panel.style.reader
