"""The base that proxies share: one small model trained once on the pool's reference slice, then cached.

From it, mixtures differ by several times the seed spread; from random weights they do not. A launcher finds it here
without torch; only making one imports that.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmix.config import ModelConfig, TrainConfig
from causalmix.errors import TrainError
from causalmix.files import hash_file, sync
from causalmix.train.checks import to_plain
from causalmix.train.tokens import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BASE_FORMAT = 2  # of base.json, and of what trained it


def fingerprint_base(
    cfg: ModelConfig,
    store: TokenStore,
    doc_ids: NDArray[np.int64],
    tokenizer_fingerprint: str,
    vocab_size: int,
) -> str:
    """Hash everything that makes a base: architecture, training, tokens and tokenizer.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    identity = [BASE_FORMAT, to_plain(cfg), tokenizer_fingerprint, vocab_size]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for index in doc_ids:
        tokens, labels = store.document(int(index))
        digest.update(tokens.astype(np.uint32).tobytes() + b"|" + labels.astype(np.uint8).tobytes() + b"|")
    return digest.hexdigest()[:16]


def ensure_base(
    cfg: ModelConfig,
    store: TokenStore,
    doc_ids: NDArray[np.int64],
    tokenizer_fingerprint: str,
    vocab_size: int,
    root: Path,
    *,
    n_threads: int = 1,
    progress: bool = True,
) -> Path:
    """Return the base of a model and a pool, training it where it is not there yet.

    Parameters
    ----------
    cfg : ModelConfig
        With ``source=config``; ``cfg.base.n_steps=0`` makes a base of random weights.
    store : TokenStore
    doc_ids : ndarray of int64
        The reference slice, which no run may draw from.
    tokenizer_fingerprint : str
    vocab_size : int
    root : Path
        Folder of all bases.
    n_threads : int
        Threads of torch while it trains.
    progress : bool

    Returns
    -------
    Path
        ``root/<name>-<fingerprint>`` with ``model.safetensors``, ``config.json`` and ``base.json``.

    Raises
    ------
    TrainError
        For a pretrained model, which needs no base, or a damaged base.
    """
    if cfg.source != "config":
        raise TrainError(f"model.source={cfg.source} starts from its own weights: only model.source=config has a base.")
    fingerprint = fingerprint_base(cfg, store, doc_ids, tokenizer_fingerprint, vocab_size)
    final = root / f"{cfg.name}-{fingerprint}"
    if final.is_dir():
        check_base(final)
        return final
    import torch

    from causalmix.train.loop import train
    from causalmix.train.model import build_model

    model = build_model(cfg, vocab_size, cfg.base.seed)
    losses: dict[str, Any] = {}
    if cfg.base.n_steps > 0:
        settings = TrainConfig(
            name="base",
            max_length=cfg.base.max_length,
            batch_rows=cfg.base.batch_rows,
            lr_peak=cfg.base.lr_peak,
            warmup_fraction=cfg.base.warmup_fraction,
        )
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            result = train(
                model,
                store,
                doc_ids,
                settings,
                seed=cfg.base.seed,
                progress=progress,
                n_steps=cfg.base.n_steps,
            )
        finally:
            torch.set_num_threads(before)
        losses = {"loss_first": result.loss_first, "loss_last": result.loss_last, "wall_s": result.wall_s}
    _write_base(model, final, {"fingerprint": fingerprint, "n_threads": n_threads, **losses})
    return final


def check_base(path: Path) -> dict[str, Any]:
    """Read ``base.json`` and check the weights beside it.

    Raises
    ------
    TrainError
        Where a file is missing or not what was written.
    """
    try:
        facts = json.loads((path / "base.json").read_text())
        intact = facts["format"] == BASE_FORMAT and facts["sha256"] == hash_file(path / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainError(f"The base {path} cannot be read ({error}): delete the folder, it is made again.") from error
    if not intact:
        raise TrainError(
            f"The weights of the base {path} are not what was written: delete the folder, it is made again."
        )
    return dict(facts)


def _write_base(model: PreTrainedModel, final: Path, facts: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".{final.name}-{uuid.uuid4().hex}"
    temporary.mkdir()
    model.config.save_pretrained(temporary)
    weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
    facts = {"format": BASE_FORMAT, **facts, "sha256": hash_file(temporary / "model.safetensors")}
    (temporary / "base.json").write_text(json.dumps(facts, indent=1) + "\n")
    for file in temporary.iterdir():
        sync(file)
    try:
        temporary.rename(final)
    except OSError:
        # Another process was faster; the fingerprint says that its base is the same.
        if not final.is_dir():
            raise
        shutil.rmtree(temporary)
    sync(final.parent)
