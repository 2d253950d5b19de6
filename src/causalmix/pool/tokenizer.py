"""Tokenizers: a byte-level BPE trained on the reference slice, or a pretrained one; and their fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from causalmix.config import TokenizerConfig
from causalmix.errors import PoolError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, TURN_START, TURN_END = "<|pad|>", "<|im_start|>", "<|im_end|>"
N_BYTES = 256
COMMIT = re.compile(r"[0-9a-f]{40}")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def make_tokenizer(cfg: TokenizerConfig, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a BPE on ``texts`` or load a pretrained tokenizer, as ``cfg.kind`` says.

    Raises
    ------
    PoolError
        For an unknown kind, a vocabulary without room, or a tokenizer that cannot serve (slow, or without a
        chat template, so that the assistant's tokens cannot be told from the rest).
    """
    if cfg.kind == "bpe":
        return train_bpe(texts, cfg.vocab_size)
    if cfg.kind == "pretrained":
        return load_pretrained(cfg.path, cfg.revision)
    raise PoolError(f"pool.tokenizer.kind={cfg.kind!r} is not one of bpe, pretrained.")


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with ChatML turns; every text has tokens, none is unknown.

    Parameters
    ----------
    texts : iterable of str
    vocab_size : int
        Three special tokens and 256 bytes included.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, TURN_START, TURN_END]
    least = N_BYTES + len(special)
    if vocab_size < least:
        raise PoolError(f"pool.tokenizer.vocab_size={vocab_size} is too small: {least} (bytes and turns) is the least.")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=TURN_END,
        additional_special_tokens=[TURN_START],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def load_exact(folder: Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer of ours from the folder it was saved to, exactly as it was.

    ``AutoTokenizer`` would not do: beside a model's ``config.json`` it rebuilds it as that family's own,
    with another way to split numbers and words.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def load_pretrained(
    path: str | None, revision: str | None = None, *, key: str = "pool.tokenizer", with_template: bool = True
) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer, by Hugging Face name and commit or from a folder.

    A chat template is required unless ``with_template`` is false; ``key`` names the setting in messages.

    Raises
    ------
    PoolError
    """
    from transformers import AutoTokenizer

    is_folder = require_pinned(key, path, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=None if is_folder else revision, trust_remote_code=False, use_fast=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise PoolError(f"no tokenizer can be loaded from {key}.path={path}: {error}") from error
    if not tokenizer.is_fast:
        raise PoolError(f"the tokenizer of {path} is a slow one: character spans, hence labels, need a fast one.")
    if with_template and not tokenizer.chat_template:
        raise PoolError(f"the tokenizer of {path} has no chat template: take that of the instruction-tuned model.")
    return tokenizer


def require_pinned(key: str, path: str | None, revision: str | None) -> bool:
    """Check that ``path`` is a folder, or a Hub name with a commit; return whether it is a folder.

    Raises
    ------
    PoolError
    """
    if not path:
        raise PoolError(f"{key}.path is missing: a local folder, or a Hugging Face name with {key}.revision.")
    if Path(path).is_dir():
        return True
    if not COMMIT.fullmatch(revision or ""):
        raise PoolError(
            f"{key}.path={path!r} is no local folder, so it is read as a Hugging Face name, and "
            f"{key}.revision={revision!r} is not a commit: pin one of 40 hexadecimal digits."
        )
    return False


def fingerprint_tokenizer(tokenizer: PreTrainedTokenizerFast) -> str:
    """Hash what decides the tokens of a document: vocabulary, merges, special tokens and chat template.

    Padding and truncation, which a call may switch on, are left out.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state.pop("truncation", None)
    state.pop("padding", None)
    template = tokenizer.chat_template if tokenizer.chat_template is not None else ""
    text = json.dumps([state, template], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def count_vocabulary(tokenizer: PreTrainedTokenizerFast) -> int:
    """Size of the embedding that holds every token, added ones included."""
    return int(max(tokenizer.get_vocab().values())) + 1
