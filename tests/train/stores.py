"""Small stores and models for the tests of this room."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from transformers import PreTrainedModel

from causalmix.config import ModelConfig, TrainConfig
from causalmix.train.model import build_model
from causalmix.train.tokens import TokenStore

VOCAB = 97


def make_store(lengths: list[int], seed: int = 0, prompt_share: float = 0.5) -> TokenStore:
    """Random documents; the tokens after the prompt's share are targets."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    labels = np.zeros(offsets[-1], dtype=np.uint8)
    for start, stop in pairwise(offsets):
        labels[start + int(prompt_share * (stop - start)) : stop] = 1
    return TokenStore(rng.integers(0, VOCAB, offsets[-1]).astype(np.uint16), labels, offsets)


def make_model(seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    cfg = ModelConfig(name="test", hidden_size=32, n_layers=2, n_heads=4, n_kv_heads=2, intermediate_size=48)
    model: PreTrainedModel = build_model(cfg, VOCAB, seed).to(dtype)
    return model


def make_config(**changes: object) -> TrainConfig:
    settings = {"name": "test", "max_length": 48, "batch_rows": 2, "device": "cpu", "log_every": 1}
    return TrainConfig(**{**settings, **changes})  # type: ignore[arg-type]
