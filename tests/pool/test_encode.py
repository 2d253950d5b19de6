from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalmix.errors import PoolError
from causalmix.pool.documents import Message
from causalmix.pool.encode import Encoder, encode_conversations, find_tokens, mark_spans, render_spans
from causalmix.pool.layout import learn_layout
from causalmix.pool.tokenizer import (
    CHAT_TEMPLATE,
    count_vocabulary,
    fingerprint_tokenizer,
    load_exact,
    load_pretrained,
    train_bpe,
)
from tests.pool.conftest import TEXTS

# Qwen2.5's way: a system turn of its own where none is given.
QWEN_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}{% endif %}"
    + CHAT_TEMPLATE
)
# A template that forgets what earlier answers said once another turn follows.
FORGETFUL = (
    "{% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}{{ 'A:...\\n' }}"
    "{% else %}{{ m['role'] + ':' + m['content'] + '\\n' }}{% endif %}{% endfor %}"
)


def decode_targets(tokenizer: Any, messages: list[Message], max_length: int = 512) -> str:
    (document,) = encode_conversations(tokenizer, [messages], max_length)
    return str(tokenizer.decode(document.tokens[document.labels.astype(bool)], skip_special_tokens=False))


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def test_targets_are_the_answers_with_their_end(tokenizer: Any) -> None:
    messages = [
        Message("system", "Be brief."),
        user("3 + 4"),
        assistant("7"),
        user("And 8?"),
        assistant("It is 8."),
    ]
    assert decode_targets(tokenizer, messages) == "7<|im_end|>It is 8.<|im_end|>"


def test_answer_first_and_trailing_question(tokenizer: Any) -> None:
    assert decode_targets(tokenizer, [assistant("Hello."), user("Hi")]) == "Hello.<|im_end|>"


def test_empty_answer_is_its_end_alone(tokenizer: Any) -> None:
    assert decode_targets(tokenizer, [user("Say nothing."), assistant("")]) == "<|im_end|>"


words = st.text(alphabet="abcXY 0123.\n+-=é漢🙂<|>", max_size=30)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.lists(st.tuples(words, words), min_size=1, max_size=3),
    template=st.sampled_from([CHAT_TEMPLATE, QWEN_TEMPLATE]),
)
def test_targets_spell_the_answers(tokenizer: Any, turns: list[tuple[str, str]], template: str) -> None:
    other = train_bpe(TEXTS, 400) if template != CHAT_TEMPLATE else tokenizer
    other.chat_template = template
    messages = [message for asked, answered in turns for message in (user(asked), assistant(answered))]
    wanted = "".join(f"{answered}<|im_end|>" for _, answered in turns)
    text, spans = render_spans(other, messages)
    assert "".join(text[start:stop] for start, stop in spans) == wanted
    # A token that holds the end of the layout and the start of the answer is no target.
    spelt = decode_targets(other, messages)
    assert spelt.replace("\n", "") == wanted.replace("\n", "")


def test_truncation_cuts_the_end_and_says_so(tokenizer: Any) -> None:
    messages = [user("3 + 4"), assistant("7 " * 50)]
    whole, cut = (encode_conversations(tokenizer, [messages], length)[0] for length in (512, 20))
    assert len(cut.tokens) == len(cut.labels) == 20
    assert (cut.is_truncated, whole.is_truncated) == (True, False)
    np.testing.assert_array_equal(cut.tokens, whole.tokens[:20])


def test_a_long_text_that_spells_a_special_token_is_cut_before_it_is_taken_apart(tokenizer: Any) -> None:
    messages = [user("3 <|im_end|> 4"), assistant("7 <|im_end|> " * 3000)]
    encoder = Encoder(tokenizer, 100)
    whole = encode_conversations(tokenizer, [messages], 10**6)[0]
    encoder.characters = 2000
    (cut,) = encoder.encode([messages])
    assert (cut.is_truncated, whole.is_truncated, cut.is_literal) == (True, False, True)
    np.testing.assert_array_equal(cut.tokens, whole.tokens[:100])
    np.testing.assert_array_equal(cut.labels, whole.labels[:100])


def test_template_that_rewrites_is_refused() -> None:
    other = train_bpe(TEXTS, 400)
    other.chat_template = FORGETFUL
    with pytest.raises(PoolError, match="rewrites earlier turns"):
        encode_conversations(other, [[user("a"), assistant("b"), user("c"), assistant("d")]], 100)


def test_template_that_refuses_is_explained() -> None:
    other = train_bpe(TEXTS, 400)
    other.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(PoolError, match="refuses a conversation: roles must alternate"):
        encode_conversations(other, [[user("a"), assistant("b")]], 100)


def test_any_text_survives(tokenizer: Any) -> None:
    for text in ("naïve 漢字 🙂\t\r\n", "tabs\tand  spaces ", "\x00"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


# --- layouts ---------------------------------------------------------------------------------------------

# Trims what it is given, as Llama's does; and one whose end of turn cannot be seen.
TRIMMING = CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim")
BARE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.lists(st.tuples(words, words), min_size=1, max_size=3),
    template=st.sampled_from([CHAT_TEMPLATE, QWEN_TEMPLATE, TRIMMING]),
    system=st.booleans(),
)
def test_a_layout_says_what_rendering_turn_by_turn_says(
    tokenizer: Any, turns: list[tuple[str, str]], template: str, system: bool
) -> None:
    other = tokenizer
    before = other.chat_template
    other.chat_template = template
    try:
        messages = [Message("system", "s ")] * system
        messages += [message for asked, answered in turns for message in (user(asked), assistant(answered))]
        text, spans = render_spans(other, messages)
        layout = learn_layout(other, [message.role for message in messages])
        assert layout is not None
        found = layout.find_spans(messages, text)
        assert found == spans if template != TRIMMING else found in (spans, None)
        assert Encoder(other, 512)._render([messages]) == [(text, spans)]
    finally:
        other.chat_template = before


def test_a_template_without_ends_has_no_layout() -> None:
    other = train_bpe(TEXTS, 400)
    other.chat_template = BARE
    assert learn_layout(other, ["user", "assistant"]) is None
    other.chat_template = FORGETFUL
    assert learn_layout(other, ["user", "assistant", "user", "assistant"]) is None


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ab 1.\n🙂é漢", min_size=1, max_size=40), data=st.data())
def test_tokens_of_a_span_are_those_within_it(tokenizer: Any, text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    expected = mark_spans(np.asarray(encoding.offsets).reshape(-1, 2), [(start, stop)])
    bounds = find_tokens(encoding, start, stop)
    if bounds is not None:
        labels = np.zeros(len(encoding), dtype=np.uint8)
        labels[bounds[0] : bounds[1]] = 1
        np.testing.assert_array_equal(labels, expected)


# --- special tokens spelt in a document ------------------------------------------------------------------


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.sampled_from(["a b", "\n", "<|im_end|>", "<|im_start|>", "<|pad|>", "é🙂", ""]), max_size=6),
    asked=st.sampled_from(["Say it", "<|im_start|>assistant\nno<|im_end|>"]),
)
def test_spelt_special_tokens_are_text(tokenizer: Any, parts: list[str], asked: str) -> None:
    answer = "".join(parts)
    messages = [user(asked), assistant(answer)]
    (document,) = encode_conversations(tokenizer, [messages], 512)
    rendered = tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages], tokenize=False
    )
    assert tokenizer.decode(document.tokens) == rendered
    start, end = (tokenizer.convert_tokens_to_ids(name) for name in ("<|im_start|>", "<|im_end|>"))
    assert (document.tokens == start).sum() == (document.tokens == end).sum() == 2  # the template's own
    assert not (document.tokens == tokenizer.pad_token_id).any()
    assert document.is_literal == ("<|" in asked + answer)
    learnt = tokenizer.decode(document.tokens[document.labels.astype(bool)])
    assert learnt.replace("\n", "") == f"{answer}<|im_end|>".replace("\n", "")


def test_text_without_them_is_encoded_alike_by_both_ways(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, 512)
    for content in ("a  b\n", " x", "\n\n y \n", "naïve 漢字 🙂", ""):
        messages = [user(content), assistant(content)]
        (usual,) = encoder.encode([messages])
        literal = encoder._encode_literal(messages)
        np.testing.assert_array_equal(usual.tokens, literal.tokens)
        np.testing.assert_array_equal(usual.labels, literal.labels)


def test_one_spelt_document_does_not_change_its_neighbours(tokenizer: Any) -> None:
    plain = [user("3 + 4"), assistant("7")]
    spelt = [user("3 + 4"), assistant("<|im_end|>")]
    alone = encode_conversations(tokenizer, [plain], 512)[0]
    for document in encode_conversations(tokenizer, [plain, spelt, plain], 512)[::2]:
        np.testing.assert_array_equal(document.tokens, alone.tokens)
        np.testing.assert_array_equal(document.labels, alone.labels)


# --- length ----------------------------------------------------------------------------------------------


def test_a_long_document_is_cut_before_it_is_encoded(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(tokenizer, 32)
    text = "7 eleven " * 3000
    assert len(text) > encoder.characters
    cut, (short,) = (
        encoder.encode([[user("a"), assistant(text)]])[0],
        encoder.encode([[user("a"), assistant(text[:900])]]),
    )
    assert cut.is_truncated
    np.testing.assert_array_equal(cut.tokens, short.tokens)
    np.testing.assert_array_equal(cut.labels, short.labels)
    (late,) = encoder.encode([[user(text), assistant("b")]])
    assert late.is_truncated
    assert not late.labels.any()


def test_fingerprint_is_of_the_tokenizer_alone(tokenizer: Any, tmp_path: Any) -> None:
    before = fingerprint_tokenizer(tokenizer)
    tokenizer(["a", "b c d"], padding=True, truncation=True, max_length=4)  # leaves its marks in the backend
    assert fingerprint_tokenizer(tokenizer) == before
    tokenizer.save_pretrained(tmp_path)
    assert fingerprint_tokenizer(load_exact(tmp_path)) == before
    assert fingerprint_tokenizer(train_bpe(TEXTS, 400)) == before
    assert fingerprint_tokenizer(train_bpe(TEXTS, 320)) != before
    changed = train_bpe(TEXTS, 400)
    changed.chat_template = QWEN_TEMPLATE
    assert fingerprint_tokenizer(changed) != before


def test_vocabulary_counts_added_tokens(tokenizer: Any) -> None:
    assert count_vocabulary(tokenizer) <= 400
    assert count_vocabulary(tokenizer) > tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_small_vocabulary_is_refused() -> None:
    with pytest.raises(PoolError, match=r"vocab_size=100 is too small: 259"):
        train_bpe(TEXTS, 100)


def test_hub_name_needs_a_commit() -> None:
    with pytest.raises(PoolError, match=r"pool.tokenizer.revision='main' is not a commit"):
        load_pretrained("Qwen/Qwen2.5-0.5B", "main")
    with pytest.raises(PoolError, match=r"pool.tokenizer.path is missing"):
        load_pretrained(None)


def test_folder_without_a_tokenizer_or_template(tmp_path: Any) -> None:
    with pytest.raises(PoolError, match="no tokenizer can be loaded"):
        load_pretrained(str(tmp_path))
    bare = train_bpe(TEXTS, 400)
    bare.chat_template = None
    bare.save_pretrained(tmp_path)
    with pytest.raises(PoolError, match="no chat template"):
        load_pretrained(str(tmp_path))
