"""Pretrained models, by pinned name or from a local folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from causalmix.config import ModelConfig
from causalmix.errors import TrainError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COMMIT = re.compile(r"[0-9a-f]{40}")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FAMILIES = ("qwen2", "qwen3")  # full attention and a plain linear head; each tested packed


def load_pretrained(cfg: ModelConfig, vocab_size: int | None = None) -> PreTrainedModel:
    """Load a pretrained model: a local folder, or a Hugging Face name at a pinned commit.

    Code in a repository is never run and weights in a pickle are never read.

    Parameters
    ----------
    cfg : ModelConfig
        ``path``, ``revision`` and ``dtype`` are read.
    vocab_size : int, optional
        The model must have at least as many embeddings.

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
    from transformers import AutoConfig, AutoModelForCausalLM

    if not cfg.path:
        raise TrainError("model.source=pretrained needs model.path: a Hugging Face name or a local folder.")
    is_local = Path(cfg.path).is_dir()
    if not is_local and not COMMIT.fullmatch(cfg.revision or ""):
        raise TrainError(
            f"model.path={cfg.path!r} is no local folder, so it is read as a Hugging Face name, and "
            f"model.revision={cfg.revision!r} is not a commit: pin one of 40 hexadecimal digits."
        )
    options: dict[str, Any] = {"trust_remote_code": False} | ({} if is_local else {"revision": cfg.revision})
    try:
        config = AutoConfig.from_pretrained(cfg.path, **options)
        check_family(config, cfg.path)
        model = AutoModelForCausalLM.from_pretrained(
            cfg.path,
            config=config,
            dtype=DTYPES[cfg.dtype],
            use_safetensors=True,
            attn_implementation="sdpa",
            **options,
        )
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, TrainError):
            raise
        raise TrainError(f"model.path={cfg.path!r} cannot be loaded: {error}") from error
    n_embeddings = model.get_input_embeddings().num_embeddings
    if vocab_size is not None and n_embeddings < vocab_size:
        raise TrainError(
            f"{cfg.path} has {n_embeddings} embeddings, the pool's tokenizer {vocab_size} tokens: they "
            "do not belong together. Prepare the pool with the model's own tokenizer."
        )
    ready: PreTrainedModel = model.eval()
    return ready


def check_family(config: Any, path: str) -> None:
    """Refuse a model whose attention, gate or head the packed forward pass would get wrong.

    Raises
    ------
    TrainError
        For a family that is not tested, one with sliding windows, or a gate that is not SiLU.
    """
    if getattr(config, "attention_dropout", 0.0):
        raise TrainError(f"{path} drops attention weights at random (attention_dropout), which is not supported.")
    gate = getattr(config, "hidden_act", "silu")
    if gate != "silu":
        raise TrainError(f"{path} has hidden_act={gate}; supported is silu, which its family has.")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if config.model_type not in FAMILIES or kinds != {"full_attention"}:
        raise TrainError(
            f"{path} is a {config.model_type} with {', '.join(sorted(kinds))}; supported are the families "
            f"{', '.join(FAMILIES)} with full attention."
        )
