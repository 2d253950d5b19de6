"""Low-rank adapters through peft: put in before training, merged afterwards."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from causalmix.config import LoraConfig
from causalmix.errors import TrainError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_lora(model: PreTrainedModel, cfg: LoraConfig, seed: int) -> Any:
    """Freeze a model and put adapters into it, in place.

    Parameters
    ----------
    model : PreTrainedModel
        Its own ``forward`` goes through the adapters afterwards.
    cfg : LoraConfig
        ``rank`` above 0.
    seed : int
        Of the adapters' first weights.

    Returns
    -------
    PeftModel
        For :func:`merge_lora`.

    Raises
    ------
    TrainError
        Where no module has one of ``cfg.target_modules`` as its name.
    """
    import peft

    settings = peft.LoraConfig(
        r=cfg.rank,
        lora_alpha=cfg.alpha,
        lora_dropout=cfg.dropout,
        target_modules=list(cfg.target_modules),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        # peft asks a transformers model for a property under its deprecated name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        try:
            return peft.get_peft_model(model, settings)
        except ValueError as error:
            raise TrainError(f"train.lora.target_modules={list(cfg.target_modules)}: {error}") from error


def merge_lora(adapted: Any) -> None:
    """Add the adapters to the weights they adapt; the model given to :func:`add_lora` is plain again."""
    adapted.merge_and_unload().requires_grad_(True)
