"""The scorers against slow, literal implementations of their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.config import ModelConfig, RaterConfig
from causalmix.errors import PoolError
from causalmix.pool.scores import language_model
from causalmix.pool.scores.language_model import LanguageModelScorer, stream_vocabulary, sum_high_entropies
from causalmix.pool.scores.normaliser import fit_normaliser
from causalmix.pool.scores.rater import (
    corrupt,
    load_rater,
    pair_by_corruption,
    pair_by_quality,
    train_rater,
)
from causalmix.pool.scores.reference_lm import load_reference_lm, train_reference_lm
from causalmix.pool.scores.scorer import ScoredText, bucket_by_length
from causalmix.pool.scores.writing_style import WritingStyleScorer
from causalmix.train.model import build_model

TEXTS = [
    ScoredText("What is 3 + 4?", "3 + 4 = 7. The answer is 7."),
    ScoredText("", "An answer without a question."),
    ScoredText("A question without an answer", ""),
    ScoredText("", ""),
    ScoredText("", "7"),
    ScoredText("7", ""),
    ScoredText("Repeat", "user assistant " * 130),  # more than 200 answer tokens: several high entropies
    ScoredText("Long " * 60, "cut off"),
    ScoredText("Leading", "\n\n  spaces and lines"),
    ScoredText("Umlaut", "naïve 漢字 🙂"),
]


@pytest.fixture(scope="module")
def model() -> Any:
    cfg = ModelConfig(name="t", hidden_size=32, n_layers=2, n_heads=2, n_kv_heads=1, intermediate_size=48)
    model = build_model(cfg, 400, seed=0)
    with torch.no_grad():  # sharper predictions than a fresh model's, so that errors show
        model.get_input_embeddings().weight.mul_(20)
    return model


def score_literally(
    model: Any, tokenizer: Any, text: ScoredText, max_length: int, separator: str = "\n"
) -> tuple[float, float]:
    """HES and Normalized_Loss of one text, with all logits, straight from the definitions."""
    whole = f"{text.prompt}{separator}{text.output}" if text.prompt else text.output
    boundary = len(whole) - len(text.output)
    encoding = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoding["input_ids"][:max_length], encoding["offset_mapping"][:max_length]
    if len(ids) < 2:
        return 0.0, 0.0
    with torch.no_grad():
        probabilities = model(input_ids=torch.tensor([ids])).logits[0].double().softmax(dim=1).numpy()
    losses = [-math.log2(probabilities[at - 1, ids[at]]) for at in range(1, len(ids))]
    answer = [at for at in range(1, len(ids)) if offsets[at][0] >= boundary]
    entropies = [-sum(p * math.log2(p) for p in probabilities[at - 1] if p > 0) for at in answer]
    if not entropies:
        return 0.0, float(np.mean(losses))
    threshold = np.percentile(entropies, 99.5)
    return sum(h for h in entropies if h >= threshold), float(np.mean(losses))


@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
@pytest.mark.parametrize("chunks", [(2**20, 8192), (450, 64)])
def test_scores_match_the_definitions(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, batch_tokens: int, chunks: tuple[int, int]
) -> None:
    monkeypatch.setitem(language_model.CHUNK_ELEMENTS, "cpu", chunks[0])
    monkeypatch.setattr(language_model, "VOCABULARY_CHUNK", chunks[1])
    scorer = LanguageModelScorer(model, tokenizer, max_length=320, batch_tokens=batch_tokens)
    expected = [score_literally(model, tokenizer, text, 320) for text in TEXTS]
    np.testing.assert_allclose(scorer.score(TEXTS), expected, atol=1e-4)


PIECES = ["", "7", "3 + 4 = 7.", "The answer is ", "\n", "naïve 漢字 🙂", "def total(items):", "user assistant " * 20]
PARTS = st.lists(st.sampled_from(PIECES), max_size=4).map("".join) | st.text(max_size=30)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 50),
    bias=st.booleans(),
    parts=st.lists(st.tuples(PARTS, PARTS), min_size=1, max_size=6),
    max_length=st.integers(1, 90),
    batch_tokens=st.integers(1, 600),
    published=st.booleans(),
)
def test_scores_match_the_definitions_on_random_models_and_texts(
    tokenizer: Any, seed: int, bias: bool, parts: Any, max_length: int, batch_tokens: int, published: bool
) -> None:
    cfg = ModelConfig(name="t", hidden_size=16, n_layers=1, n_heads=2, n_kv_heads=1, intermediate_size=16)
    model = build_model(cfg, 400, seed=seed)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(30)
        if bias:  # an output layer of another family's shape
            model.lm_head.bias = torch.nn.Parameter(torch.randn(400, generator=torch.Generator().manual_seed(seed)))
    texts = [ScoredText(prompt, output) for prompt, output in parts]
    hes_length = max_length + 7 if published else None
    scorer = LanguageModelScorer(
        model, tokenizer, max_length=max_length, batch_tokens=batch_tokens, hes_max_length=hes_length
    )
    expected = np.array([score_literally(model, tokenizer, text, max_length) for text in texts])
    if hes_length is not None:
        expected[:, 0] = [score_literally(model, tokenizer, text, hes_length, separator="")[0] for text in texts]
    np.testing.assert_allclose(scorer.score(texts), expected, atol=1e-4, rtol=1e-5)


def test_the_published_texts_are_counted_apart(model: Any, tokenizer: Any) -> None:
    scorer = LanguageModelScorer(model, tokenizer, max_length=4, batch_tokens=512, hes_max_length=60)
    texts = [ScoredText("What is 3 + 4?", "3 + 4 = 7."), ScoredText("", "7"), ScoredText("a " * 60, "b")]
    scorer.score(texts)
    assert scorer.truncated == {"normalized_loss": 2, "hes": 1}


def test_empty_and_one_token_texts_score_zero(model: Any, tokenizer: Any) -> None:
    scorer = LanguageModelScorer(model, tokenizer, max_length=64, batch_tokens=512)
    scores = scorer.score([ScoredText("", ""), ScoredText("", "7"), ScoredText("7", "")])
    assert scores[:2].tolist() == [[0, 0], [0, 0]]
    assert scores[2, 0] == 0  # an empty answer has no entropies
    assert scorer.score([]).shape == (0, 2)


def test_truncated_texts_are_counted(model: Any, tokenizer: Any) -> None:
    scorer = LanguageModelScorer(model, tokenizer, max_length=16, batch_tokens=512)
    scores = scorer.score([ScoredText("a " * 40, "never read"), ScoredText("a", "b")])
    assert scorer.truncated == {"hes": 1, "normalized_loss": 1}
    assert scores[0, 0] == 0


@given(st.integers(1, 900))
def test_hes_sums_one_token_in_two_hundred(count: int) -> None:
    values = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))
    top = 1 + (count - 1) // 200
    assert sum_high_entropies(values) == sum(range(count - top + 1, count + 1))


def test_hes_of_ties_and_of_nothing() -> None:
    assert sum_high_entropies(np.full(7, 0.1)) == pytest.approx(0.7)
    assert sum_high_entropies(np.zeros(0)) == 0


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.01, 1.0, 30.0, 300.0]), chunk=st.integers(1, 60))
def test_streaming_equals_all_at_once(seed: int, scale: float, chunk: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(9, 8, generator=generator) * scale
    weight = torch.randn(50, 8, generator=generator)
    bias = torch.randn(50, generator=generator)
    targets = torch.randint(50, (9,), generator=generator)
    before = language_model.VOCABULARY_CHUNK
    language_model.VOCABULARY_CHUNK = chunk
    try:
        losses, entropies = stream_vocabulary(hidden, weight, bias, targets)
    finally:
        language_model.VOCABULARY_CHUNK = before
    log_p = (hidden.double() @ weight.double().T + bias.double()).log_softmax(dim=1)
    exact = -(log_p.exp() * log_p).sum(dim=1) / math.log(2)
    chosen = -log_p.gather(1, targets[:, None])[:, 0] / math.log(2)
    np.testing.assert_allclose(losses, chosen.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(entropies, exact.numpy(), rtol=1e-3, atol=2e-4)


@given(st.lists(st.integers(0, 500), max_size=60), st.integers(1, 2000))
def test_buckets_hold_everything_once(lengths: list[int], batch_tokens: int) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    batches = list(bucket_by_length(sizes, batch_tokens))
    found = sorted(int(at) for batch in batches for at in batch)
    assert found == np.flatnonzero(sizes > 0).tolist()
    for batch in batches:
        assert len(batch) == 1 or len(batch) * sizes[batch].max() <= batch_tokens
    alike = list(bucket_by_length(sizes, batch_tokens, exact=True))
    assert sorted(int(at) for batch in alike for at in batch) == found
    assert all(len(set(sizes[batch])) == 1 for batch in alike)


# --- the rater -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rater_config() -> RaterConfig:
    return RaterConfig(hidden_size=16, n_layers=1, n_steps=40, n_pairs=100, chunk_length=16, lr_peak=1e-2)


def test_rater_learns_pairs_and_repeats_itself(tokenizer: Any, rater_config: RaterConfig, tmp_path: Any) -> None:
    pairs = [(f"The answer is {at}.", f"{at} idk lol user") for at in range(100)]
    model, summary = train_rater(rater_config, tokenizer, pairs, vocab_size=400, progress=False)
    again, _ = train_rater(rater_config, tokenizer, pairs, vocab_size=400, progress=False)
    assert summary["accuracy_heldout"] > 0.9
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
    model.save_pretrained(tmp_path)
    scorer = WritingStyleScorer(load_rater(str(tmp_path)), tokenizer, chunk_length=16, batch_tokens=256)
    good, bad = scorer.score([ScoredText("", "The answer is 7."), ScoredText("", "7 idk lol user")])[:, 0]
    assert good > bad


@pytest.mark.parametrize("batch_tokens", [1, 10_000])
def test_writing_style_averages_chunks_by_tokens(tokenizer: Any, rater_config: RaterConfig, batch_tokens: int) -> None:
    model, _ = train_rater(rater_config, tokenizer, [("a b c", "c a b")] * 20, vocab_size=400, progress=False)
    scorer = WritingStyleScorer(model, tokenizer, chunk_length=16, batch_tokens=batch_tokens)
    for text, score in zip(TEXTS, scorer.score(TEXTS)[:, 0]):
        ids = tokenizer(text.text, add_special_tokens=False)["input_ids"]
        chunks = [ids[at : at + 16] for at in range(0, len(ids), 16)]
        with torch.no_grad():
            logits = [float(model(input_ids=torch.tensor([chunk])).logits[0, 0]) for chunk in chunks]
        expected = sum(len(c) * x for c, x in zip(chunks, logits)) / len(ids) if ids else 0.0
        assert score == pytest.approx(expected, abs=1e-5)


@given(st.text(alphabet="ab c\n", min_size=5).filter(lambda text: len(text.split()) >= 3), st.integers(0, 99))
def test_corruption_changes_words_not_letters(text: str, seed: int) -> None:
    spoilt = corrupt(text, np.random.default_rng(seed))
    assert set(spoilt.split()) <= {word + other for word in [*text.split(), ""] for other in [*text.split(), ""]}
    assert corrupt(text, np.random.default_rng(seed)) == spoilt


def test_quality_pairs_stay_in_their_domain() -> None:
    texts = [ScoredText(f"d{at % 2}", f"text {at}") for at in range(40)]
    qualities = np.linspace(0, 1, 40)
    pairs = pair_by_quality(texts, qualities, np.arange(40) % 2, 30, seed=0)
    assert len(pairs) == 30
    for better, worse in pairs:
        assert better.split()[0] == worse.split()[0]
        assert int(better.split()[-1]) > int(worse.split()[-1])


def test_pairs_that_cannot_be_made() -> None:
    texts = [ScoredText("q", "one two three")] * 10
    with pytest.raises(PoolError, match=r"differ by 0\.2 in quality"):
        pair_by_quality(texts, np.full(10, 0.5), np.zeros(10), 5, seed=0)
    with pytest.raises(PoolError, match="needs a quality label on every reference document"):
        pair_by_quality(texts, np.full(10, np.nan), np.zeros(10), 5, seed=0)
    with pytest.raises(PoolError, match="no reference document has three words"):
        pair_by_corruption([ScoredText("q", "one")], 5, seed=0)


def test_a_rater_without_a_padding_token_scores_the_same(
    tokenizer: Any, rater_config: RaterConfig, tmp_path: Any
) -> None:
    model, _ = train_rater(rater_config, tokenizer, [("a b c", "c a b")] * 20, vocab_size=400, progress=False)
    padded = WritingStyleScorer(model, tokenizer, chunk_length=16, batch_tokens=400).score(TEXTS)
    model.config.pad_token_id = None
    model.save_pretrained(tmp_path)
    bare = load_rater(str(tmp_path))
    assert bare.config.pad_token_id is None
    scores = WritingStyleScorer(bare, tokenizer, chunk_length=16, batch_tokens=400).score(TEXTS)
    np.testing.assert_allclose(scores, padded, atol=1e-5)


def test_rater_of_another_shape_is_refused(tmp_path: Any) -> None:
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    config = Qwen2Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, num_labels=2, pad_token_id=0,
    )  # fmt: skip
    Qwen2ForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(PoolError, match="has 2 logits; QuRater's shape has 4"):
        load_rater(str(tmp_path))
    with pytest.raises(PoolError, match=r"pool.scores.rater.revision=None is not a commit"):
        load_rater("some/rater")
    with pytest.raises(PoolError, match=r"pool.scores.reference_lm.revision='x' is not a commit"):
        load_reference_lm("some/model", "x")


def test_reference_lm_learns_and_repeats_itself(tokenizer: Any) -> None:
    from causalmix.config import ReferenceLMConfig

    cfg = ReferenceLMConfig(hidden_size=32, n_layers=1, n_steps=30, batch_rows=4, max_length=64)
    texts = ["The answer is 7. The answer is 7."] * 60
    runs = [
        train_reference_lm(cfg, tokenizer, texts, vocab_size=400, max_position=64, progress=False) for _ in range(2)
    ]
    assert runs[0][1]["loss_last"] < 0.8 * runs[0][1]["loss_first"]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][0].parameters(), runs[1][0].parameters()))


# --- the normaliser --------------------------------------------------------------------------------------


def test_normaliser_is_frozen_and_named() -> None:
    raw = np.random.default_rng(0).normal([1, 2], [3, 4], size=(500, 2))
    frozen = fit_normaliser(["a", "b"], raw, {"version": 1})
    np.testing.assert_allclose(frozen.apply(raw).mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(frozen.apply(raw).std(axis=0), 1)
    assert fit_normaliser(["a", "b"], raw + 1, {"version": 1}).fingerprint == frozen.fingerprint
    assert fit_normaliser(["a", "b"], raw, {"version": 2}).fingerprint != frozen.fingerprint


def test_normaliser_refuses_flat_and_broken_scores() -> None:
    raw = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(PoolError, match="b is the same for all 50 calibration documents"):
        fit_normaliser(["a", "b"], raw * [1, 0], {})
    raw[3, 0] = np.nan
    with pytest.raises(PoolError, match="scores that are not numbers: a"):
        fit_normaliser(["a", "b"], raw, {})
