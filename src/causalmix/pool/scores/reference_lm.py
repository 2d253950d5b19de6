"""The reference language model: pretrained, or a small one trained on the raw text of the reference slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalmix.config import ModelConfig, ReferenceLMConfig, TrainConfig
from causalmix.pool.scores.reader import read_texts
from causalmix.pool.tokenizer import require_pinned

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

HEAD_SIZE = 16


def train_reference_lm(
    cfg: ReferenceLMConfig,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    vocab_size: int,
    max_position: int,
    progress: bool,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Train a small language model on raw texts, every token a target.

    Raw, because the scores read raw text: a model trained on chat turns alone would find every prompt
    strange.

    Returns
    -------
    model : PreTrainedModel
    summary : dict
        Steps, tokens, first and last loss (nats a token), seconds.
    """
    from causalmix.train.loop import train
    from causalmix.train.model import build_model
    from causalmix.train.tokens import TokenStore

    rows = [reading.ids for reading in read_texts(tokenizer, texts) if len(reading.ids) > 1]
    tokens = np.concatenate(rows).astype(np.uint32) if rows else np.zeros(0, dtype=np.uint32)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    store = TokenStore(tokens, np.ones(len(tokens), dtype=np.uint8), offsets)
    model_cfg = ModelConfig(
        name="reference_lm",
        hidden_size=cfg.hidden_size,
        n_layers=cfg.n_layers,
        n_heads=cfg.hidden_size // HEAD_SIZE,
        n_kv_heads=cfg.hidden_size // HEAD_SIZE // 2 or 1,
        intermediate_size=cfg.hidden_size * 11 // 4,
        max_position=max_position,
    )
    train_cfg = TrainConfig(
        name="reference_lm",
        max_length=cfg.max_length,
        batch_rows=cfg.batch_rows,
        lr_peak=cfg.lr_peak,
        warmup_fraction=0.05,
    )
    model = build_model(model_cfg, vocab_size, cfg.seed)
    doc_ids = np.arange(len(rows), dtype=np.int64)
    result = train(model, store, doc_ids, train_cfg, seed=cfg.seed, progress=progress, n_steps=cfg.n_steps)
    summary = {
        "n_steps": result.n_steps,
        "n_tokens": result.n_tokens,
        "loss_first": result.loss_first,
        "loss_last": result.loss_last,
        "wall_s": result.wall_s,
    }
    return model, summary


def load_reference_lm(path: str, revision: str | None = None, dtype: str = "float32") -> PreTrainedModel:
    """Load a reference model from a folder, or from the Hub by name and commit.

    Raises
    ------
    PoolError
        Where the name is not pinned.
    TrainError
        Where the weights cannot be loaded or the family is not supported.
    """
    from causalmix.train.model import build_model

    require_pinned("pool.scores.reference_lm", path, revision)
    cfg = ModelConfig(name=Path(path).name, source="pretrained", path=path, revision=revision, dtype=dtype)
    return build_model(cfg, vocab_size=0, seed=0)
