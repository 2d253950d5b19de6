"""The models that runs start from: built from a config, loaded from a shared base, or pretrained."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from causalmix.config import ModelConfig
from causalmix.errors import TrainError
from causalmix.train.base import check_base
from causalmix.train.pretrained import DTYPES, load_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["build_model", "count_parameters", "load_base", "load_pretrained"]


def build_model(
    cfg: ModelConfig, vocab_size: int, seed: int, *, eos_id: int | None = None, pad_id: int | None = None
) -> PreTrainedModel:
    """Build the model a run starts from when there is no base: random weights, or pretrained ones.

    Parameters
    ----------
    cfg : ModelConfig
        ``source=config`` builds Qwen2 with random weights; ``source=pretrained`` loads ``path``.
    vocab_size : int
        Size of the pool's vocabulary; a pretrained model must have at least as many embeddings.
    seed : int
        Of the random weights; the global generator is left as it was.
    eos_id, pad_id : int, optional
        Written into the model's config; training needs neither.

    Returns
    -------
    PreTrainedModel
        In ``cfg.dtype``, on the CPU, in evaluation mode.

    Raises
    ------
    TrainError
        For a Hub name without a commit, weights that cannot be loaded, a family that is not supported
        or a vocabulary that does not fit.
    """
    if cfg.dtype not in DTYPES:
        raise TrainError(f"model.dtype={cfg.dtype!r} is not one of {', '.join(DTYPES)}.")
    if cfg.source == "config":
        return _build_from_config(cfg, vocab_size, seed, eos_id, pad_id)
    if cfg.source == "pretrained":
        return load_pretrained(cfg, vocab_size)
    raise TrainError(f"model.source={cfg.source!r} is not one of config, pretrained.")


def count_parameters(model: PreTrainedModel) -> int:
    """Count a model's parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def load_base(path: Path) -> PreTrainedModel:
    """Build a fresh model with the weights of a base.

    The files are read and checked once a process; each call returns a model of its own.

    Parameters
    ----------
    path : Path
        From :func:`ensure_base`.

    Returns
    -------
    PreTrainedModel
        On the CPU, in evaluation mode.
    """
    from transformers import Qwen2ForCausalLM

    config, weights = _read_base(Path(path))
    with torch.random.fork_rng(devices=[]):
        model = Qwen2ForCausalLM(config)
    parameters = dict(model.named_parameters())
    if {name: p.shape for name, p in parameters.items()} != {name: w.shape for name, w in weights.items()}:
        raise TrainError(f"The weights of the base {path} do not fit its config.json: delete it, it is made again.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.data = weights[name].clone()
    ready: PreTrainedModel = model.eval()
    return ready


@lru_cache(maxsize=4)
def _read_base(path: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    from transformers import Qwen2Config

    check_base(path)
    config = Qwen2Config.from_pretrained(path, attn_implementation="sdpa", local_files_only=True)
    return config, load_file(path / "model.safetensors")


def _build_from_config(
    cfg: ModelConfig, vocab_size: int, seed: int, eos_id: int | None, pad_id: int | None
) -> PreTrainedModel:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    if cfg.hidden_size % cfg.n_heads or cfg.n_heads % cfg.n_kv_heads:
        raise TrainError(
            f"model.n_heads={cfg.n_heads} must divide model.hidden_size={cfg.hidden_size}, and "
            f"model.n_kv_heads={cfg.n_kv_heads} must divide model.n_heads."
        )
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=cfg.hidden_size,
        intermediate_size=cfg.intermediate_size,
        num_hidden_layers=cfg.n_layers,
        num_attention_heads=cfg.n_heads,
        num_key_value_heads=cfg.n_kv_heads,
        max_position_embeddings=cfg.max_position,
        tie_word_embeddings=True,
        use_cache=False,
        eos_token_id=eos_id,
        pad_token_id=pad_id,
        bos_token_id=None,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    ready: PreTrainedModel = model.to(DTYPES[cfg.dtype]).eval()
    return ready
