"""Models: Qwen2 built from a config, or a pretrained one by pinned name or local folder."""

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
FAMILIES = ("llama", "qwen2", "qwen3")  # full attention and a plain linear head; each tested packed


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
        return _load_pretrained(cfg, vocab_size)
    raise TrainError(f"model.source={cfg.source!r} is not one of config, pretrained.")


def count_parameters(model: PreTrainedModel) -> int:
    """Count a model's parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def choose_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device that is there.

    Raises
    ------
    TrainError
        For any other name, or for cuda where there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise TrainError(f"train.device={device!r} is not one of auto, cpu, cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainError("train.device=cuda, but torch sees no GPU here: use train.device=auto or cpu.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


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


def _load_pretrained(cfg: ModelConfig, vocab_size: int) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    if not cfg.path:
        raise TrainError("model.source=pretrained needs model.path: a Hugging Face name or a local folder.")
    is_local = Path(cfg.path).is_dir()
    if not is_local and not COMMIT.fullmatch(cfg.revision or ""):
        raise TrainError(
            f"model.path={cfg.path!r} is no local folder, so it is read as a Hugging Face name, and model.revision="
            f"{cfg.revision!r} is not a commit. Pin one of 40 hexadecimal digits: model.revision=<commit>."
        )
    where: dict[str, Any] = {"trust_remote_code": False} | ({} if is_local else {"revision": cfg.revision})
    try:
        config = AutoConfig.from_pretrained(cfg.path, **where)
        check_family(config, cfg.path)
        # use_safetensors: weights in a pickle are refused.
        model = AutoModelForCausalLM.from_pretrained(
            cfg.path, config=config, dtype=DTYPES[cfg.dtype], use_safetensors=True, attn_implementation="sdpa", **where
        )
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, TrainError):
            raise
        raise TrainError(f"model.path={cfg.path!r} cannot be loaded: {error}") from error
    n_embeddings = model.get_input_embeddings().num_embeddings
    if n_embeddings < vocab_size:
        raise TrainError(
            f"{cfg.path} has {n_embeddings} embeddings, the pool's tokenizer {vocab_size} tokens: they do not belong "
            "together. Prepare the pool with the model's own tokenizer (pool.tokenizer.kind=pretrained)."
        )
    ready: PreTrainedModel = model.eval()
    return ready


def check_family(config: Any, path: str) -> None:
    """Refuse a model whose attention or head the packed forward pass would get wrong.

    Raises
    ------
    TrainError
        For a family that is not tested, or one with sliding windows.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if config.model_type not in FAMILIES or kinds != {"full_attention"}:
        raise TrainError(
            f"{path} is a {config.model_type} with {', '.join(sorted(kinds))}; supported are the families "
            f"{', '.join(FAMILIES)} with full attention."
        )
