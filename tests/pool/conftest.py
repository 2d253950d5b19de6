"""Tiny inputs shared by the pool's tests: a tokenizer, documents on disk, one prepared demo pool."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from causalmix.config import PoolConfig, RaterConfig, ReferenceLMConfig, ScoresConfig, TokenizerConfig
from causalmix.pool.store import Pool, open_pool
from causalmix.pool.tokenizer import train_bpe

torch.set_num_threads(1)

TEXTS = [
    "What is the capital of Zenmar? The capital is Tolin.",
    "def total(items):\n    return sum(items)",
    "3 + 4 = 7. The answer is 7.",
    "user assistant system idk lol",
] * 20


def tiny_config(**changes: Any) -> PoolConfig:
    """A demo pool that is made in about three seconds."""
    cfg = PoolConfig(
        name="tiny",
        source="demo",
        n_documents=400,
        reference_fraction=0.25,
        max_length=64,
        tokenizer=TokenizerConfig(vocab_size=400),
        scores=ScoresConfig(
            loss_max_length=64,
            n_calibration=80,
            reference_lm=ReferenceLMConfig(hidden_size=32, n_layers=1, n_steps=6, max_length=64),
            rater=RaterConfig(hidden_size=16, n_layers=1, n_steps=10, n_pairs=60, pairs="quality"),
        ),
    )
    for key, value in changes.items():
        setattr(cfg, key, value)
    return cfg


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return train_bpe(TEXTS, 400)


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    from causalmix.pool.prepare import prepare

    return open_pool(prepare(tiny_config(), tmp_path_factory.mktemp("outputs"), progress=False))


def chat(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def make_records(domain: str, count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"{domain}-{at}", "messages": chat(f"Ask {at} of {domain}?", f"It is {at} or so.")}
        for at in range(count)
    ]


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[[str, Iterable[Any]], Path]:
    """Write a JSONL file below ``tmp_path``; text goes in as it is, anything else as JSON."""

    def write(name: str, lines: Iterable[Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
        return path

    return write
