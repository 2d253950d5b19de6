"""What a training refuses, and what makes two trainings the same."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from causalmix.config import TrainConfig
from causalmix.errors import TrainError, name_some
from causalmix.train.tokens import TokenStore

if TYPE_CHECKING:
    import torch

    from causalmix.train.ranks import Ranks

SPEED = ("attention", "head_budget_mib", "recompute", "compile", "profile", "batch_runs")
MEANS = ("name", "n_samples", "checkpoint_every", "keep_checkpoints", "rescored_documents", "log_every", "device")
INCIDENTAL = (*MEANS, *SPEED)  # never change a result
TOO_LONG = ("truncate", "drop", "refuse")


def check_settings(cfg: TrainConfig, n_positions: int, n_steps: int | None = None) -> None:
    """Refuse settings out of range, all at once.

    Parameters
    ----------
    cfg : TrainConfig
    n_positions : int
        The longest row that the model can tell the places of.
    n_steps : int, optional
        As given to :func:`~causalmix.train.loop.train`.

    Raises
    ------
    TrainError
    """
    wrong = [
        f"train.{name}={getattr(cfg, name)} (at least {least})"
        for name, least in {
            "max_length": 2,
            "batch_rows": 1,
            "packing_window": 0,
            "rows_per_pass": 0,
            "n_epochs": 1,
            "log_every": 1,
            "checkpoint_every": 0,
            "head_budget_mib": 1,
            "grad_clip": 0,
            "weight_decay": 0,
        }.items()
        if not getattr(cfg, name) >= least
    ]
    if not 0 < cfg.lr_peak < float("inf"):
        wrong.append(f"train.lr_peak={cfg.lr_peak} (above 0)")
    for name in ("warmup_fraction", "lr_final_fraction", "beta1", "beta2"):
        if not 0 <= getattr(cfg, name) <= 1:
            wrong.append(f"train.{name}={getattr(cfg, name)} (0 to 1)")
    if cfg.too_long not in TOO_LONG:
        wrong.append(f"train.too_long={cfg.too_long} (one of {', '.join(TOO_LONG)})")
    if cfg.max_length > n_positions:
        wrong.append(f"train.max_length={cfg.max_length} (at most the model's {n_positions} positions)")
    n_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    from causalmix.train.ranks import find_ranks  # torch with it: a launcher asks this module for names alone

    if n_ranks != find_ranks().size:
        wrong.append(
            f"{n_ranks} processes (WORLD_SIZE) that have not joined: tasks with resources.ranks={n_ranks} on SLURM do"
        )
    if n_steps is not None and n_steps < 1:
        wrong.append(f"n_steps={n_steps} (at least 1)")
    if wrong:
        raise TrainError(f"Training cannot use {', '.join(wrong)}.")


def check_documents(store: TokenStore, doc_ids: NDArray[np.int64], cfg: TrainConfig) -> NDArray[np.int64]:
    """Find the documents with something to learn.

    Parameters
    ----------
    store : TokenStore
    doc_ids : ndarray of int64, shape (n,)
    cfg : TrainConfig
        ``max_length`` and ``too_long`` are read.

    Returns
    -------
    ndarray of int64, shape (m,)
        ``doc_ids`` without those whose targets all lie beyond ``max_length``, and, where ``too_long=drop``,
        without those that are longer.

    Raises
    ------
    TrainError
        For ids that the store lacks, documents without any target token, too long ones where
        ``too_long=refuse``, or nothing left to train on.
    """
    if len(doc_ids) == 0:
        raise TrainError("There are no documents to train on.")
    missing = np.unique(doc_ids[(doc_ids < 0) | (doc_ids >= len(store))])
    if len(missing):
        raise TrainError(f"The store has documents 0 to {len(store) - 1}, but these were given: {name_some(missing)}.")
    distinct, place = np.unique(doc_ids, return_inverse=True)
    lengths = store.lengths()[distinct]
    is_long = lengths > cfg.max_length
    if cfg.too_long == "refuse" and is_long.any():
        raise TrainError(
            f"These documents are longer than train.max_length={cfg.max_length} and train.too_long=refuse: "
            f"{name_some(distinct[is_long])} (the longest has {lengths.max()} tokens). Raise train.max_length, or let "
            f"them be cut (train.too_long=truncate) or left out (drop)."
        )
    targets = store.count_targets(distinct, cfg.max_length)
    untargeted = distinct[targets == 0]
    longest = int(store.lengths()[untargeted].max(initial=0))
    without = untargeted[store.count_targets(untargeted, longest) == 0]
    if len(without):
        raise TrainError(
            f"These documents have no target token (nothing of an assistant's turn after the first token): "
            f"{name_some(without)}. Remove them from the pool."
        )
    has_use = (targets > 0) & ~(is_long & (cfg.too_long == "drop"))
    kept = doc_ids[has_use[place]]
    if len(kept) == 0:
        what = "are longer than" if cfg.too_long == "drop" and is_long.all() else "lose their targets when cut to"
        raise TrainError(f"All {len(doc_ids)} documents {what} train.max_length={cfg.max_length}.")
    return kept


def check_ranks(n_documents: int, n_ranks: int) -> None:
    """Refuse more ranks than there are documents: one would have nothing to train on in any step.

    Raises
    ------
    TrainError
    """
    if n_ranks > n_documents:
        raise TrainError(
            f"{n_ranks} ranks cannot share {n_documents} documents: set resources.ranks to at most {n_documents} (with "
            f"resources.nodes and resources.gpus to fit), or raise train.n_samples."
        )


def check_domains(kept: NDArray[np.int64], doc_ids: NDArray[np.int64], domains: NDArray[Any], cfg: TrainConfig) -> None:
    """Refuse a training that a whole domain of its mixture would have no part in.

    Parameters
    ----------
    kept : ndarray of int64
        From :func:`check_documents`.
    doc_ids : ndarray of int64, shape (n,)
        What it was given.
    domains : ndarray of str, shape (n,)
        The domain of each of ``doc_ids``.
    cfg : TrainConfig

    Raises
    ------
    TrainError
        Naming the domains of which no document is left.
    """
    lost = sorted(set(domains.tolist()) - set(domains[np.isin(doc_ids, kept)].tolist()))
    if lost:
        raise TrainError(
            f"No document of {name_some(lost)} has a target token within train.max_length={cfg.max_length} under "
            f"train.too_long={cfg.too_long}: the run would not train on the mixture that it records. Raise "
            f"train.max_length, or take the domain out of the pool."
        )


def check_finite(step: int, loss: float, norm: float, documents: list[int]) -> None:
    """Refuse to go on with a loss or gradient that is not a number, naming the step's documents.

    Raises
    ------
    TrainError
    """
    if np.isfinite(loss) and np.isfinite(norm):
        return
    raise TrainError(
        f"Step {step + 1} has loss {loss} and gradient norm {norm}. "
        f"Its documents: {name_some(documents, 50)}. Look at them, or lower train.lr_peak."
    )


def identify(
    model: torch.nn.Module,
    store: TokenStore,
    doc_ids: NDArray[np.int64],
    cfg: TrainConfig,
    seed: int,
    steps: Any,
    *,
    dtype: torch.dtype | None = None,
    has_weights: bool = True,
) -> str:
    """Hash what a training is: first weights, documents in order, settings, seed and what its steps say of themselves.

    Parameters
    ----------
    model : Module
    store : TokenStore
    doc_ids : ndarray of int64, shape (n,)
    cfg : TrainConfig
    seed : int
    steps
        JSON values.
    dtype : dtype, optional
        Take the weights as they would be in this one; None takes them as they are.
    has_weights : bool
        False leaves the weights out, their names and shapes apart.

    Returns
    -------
    str
        Hexadecimal SHA-256; equal for trainings that a checkpoint may carry from one to the other.
    """
    import torch

    settings = {key: value for key, value in to_plain(cfg).items() if key not in INCIDENTAL}
    shapes = {name: [*p.shape, str(dtype or p.dtype)] for name, p in model.named_parameters()}
    digest = hashlib.sha256(json.dumps([shapes, settings, seed, steps], sort_keys=True).encode())
    for parameter in model.parameters() if has_weights else ():
        weights = parameter.detach().to("cpu", dtype)
        digest.update(weights.contiguous().flatten().view(torch.uint8).numpy().data)
    digest.update(np.ascontiguousarray(doc_ids, dtype=np.int64).tobytes())
    digest.update(store.lengths()[doc_ids].astype(np.int64).tobytes())
    return digest.hexdigest()


def identify_together(ranks: Ranks, model: torch.nn.Module, *rest: Any, dtype: torch.dtype | None) -> str:
    """Identify a training on all its ranks; parameters after the first and return value are those of :func:`identify`.

    Raises
    ------
    TrainError
        Where another rank has other settings, documents or shapes than the first, or weights that differ.
    """
    is_outline = any(parameter.is_meta for parameter in model.parameters())
    if ranks.size > 1:
        ranks.check_same(identify(model, *rest, dtype=dtype, has_weights=False))
    own = "" if is_outline else identify(model, *rest, dtype=dtype)
    identity = ranks.share(own)
    ranks.check_same(identity if is_outline else own)
    return identity


def to_plain(cfg: Any) -> dict[str, Any]:
    """Turn a config node, or the dataclass behind one, into a plain dictionary."""
    if is_dataclass(cfg) and not isinstance(cfg, type):
        return asdict(cfg)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
