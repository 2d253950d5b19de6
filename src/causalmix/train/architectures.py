"""What pretrained models are made of, as published: known before anything is downloaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from causalmix.config import ModelConfig
from causalmix.errors import TrainError
from causalmix.train.model import build_model
from causalmix.train.pretrained import DTYPES, check_family

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-0.5B": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-7B": {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen3-4B-Base": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
}
"""Hub name -> the numbers of its config.json that decide shapes."""


def sketch_model(cfg: ModelConfig, vocab_size: int, base_dir: Path | None = None) -> PreTrainedModel:
    """Build a model without weights: every shape, on torch's meta device, in the dtype of the config.

    Parameters
    ----------
    cfg : ModelConfig
        A folder's or a cached repository's ``config.json`` is read; otherwise the published numbers are.
    vocab_size : int
        Of the pool's tokenizer; a pretrained model brings its own.
    base_dir : Path, optional
        A base whose ``config.json`` says it all.

    Raises
    ------
    TrainError
        For a pretrained model whose architecture is not known here.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if cfg.source == "config" and base_dir is None:
        with torch.device("meta"):
            return build_model(cfg, vocab_size, seed=0)
    config = _read_config(cfg if base_dir is None else replace(cfg, path=str(base_dir)))
    if config is None:
        known = dict(ARCHITECTURES.get(cfg.path or "", {}))
        if not known:
            raise TrainError(
                f"The architecture of model.path={cfg.path!r} is not known: it is no folder, not in the cache, and not "
                f"one of {', '.join(ARCHITECTURES)}. Fetch it with `causalmix prefetch`, or name its folder."
            )
        config = AutoConfig.for_model(known.pop("model_type"), **known)
    check_family(config, str(cfg.path))
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=DTYPES[cfg.dtype], attn_implementation="sdpa", trust_remote_code=False
        )
    return model.eval()


def _read_config(cfg: ModelConfig) -> Any:
    from transformers import AutoConfig

    is_folder = Path(str(cfg.path)).is_dir()
    try:
        return AutoConfig.from_pretrained(
            cfg.path, revision=None if is_folder else cfg.revision, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        if is_folder:
            raise TrainError(f"model.path={cfg.path}: its config.json cannot be read: {error}") from error
        return None
