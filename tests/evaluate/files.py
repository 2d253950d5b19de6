"""Held-out files, tokenizers and models for the tests of this room."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from causalmix.config import EvaluateConfig, ModelConfig
from causalmix.train.model import build_model

WORDS = ["ab", "acid", "bee", "cab", "dab", "é", "face", "gin", "hat", "ice", "jam", "kit"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@lru_cache(maxsize=1)
def make_tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([" ".join(WORDS)] * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", eos_token="<|im_end|>", chat_template=TEMPLATE
    )


def make_model(seed: int = 0) -> PreTrainedModel:
    cfg = ModelConfig(name="t", hidden_size=32, n_layers=2, n_heads=4, n_kv_heads=2, intermediate_size=48)
    return build_model(cfg, 300, seed)


def make_documents(tasks: list[str], n_documents: int = 6, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)

    def write(n_words: int) -> str:
        return " ".join(rng.choice(WORDS, n_words))

    return [
        {
            "id": f"{task}-{at}",
            "ability": task.split("_")[0],
            "task": task,
            "split": "unseen" if task.endswith("_unseen") else "dev",
            "messages": [
                {"role": "user", "content": write(int(rng.integers(1, 12)))},
                {"role": "assistant", "content": write(int(rng.integers(1, 9)))},
            ],
        }
        for task in tasks
        for at in range(n_documents)
    ]


def write_heldout(path: Path, documents: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def make_config(**changes: Any) -> EvaluateConfig:
    settings = {"name": "t", "dev": {"math": ["math"]}, "unseen": {}, "max_length": 64, "batch_size": 4}
    return EvaluateConfig(**{**settings, **changes})
