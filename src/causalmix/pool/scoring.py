"""The last stage of a store: the scores of every document, and the scale they are told on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from causalmix.config import PoolConfig
from causalmix.errors import PoolError
from causalmix.files import fingerprint, read_json
from causalmix.pool.given import load_given
from causalmix.pool.reading import (
    count_all,
    documents_path,
    spread_reference,
)
from causalmix.pool.score_blocks import FOLDER, ScoreBlocks
from causalmix.pool.score_work import Shard, score_shard
from causalmix.pool.scores.extra import identify_scorers, list_features
from causalmix.pool.scores.normaliser import Normaliser, fit_normaliser
from causalmix.pool.stage import SUMMARY, Summary
from causalmix.pool.store import POOL_FILE
from causalmix.pool.table import read_column


def open_blocks(cfg: PoolConfig, root: Path, inputs: dict[str, Any]) -> ScoreBlocks:
    """Say where the blocks of a store's scores are, and what they are made of."""
    documents = read_json(root / "documents" / SUMMARY)["sha256"]
    tokenizer = read_json(root / "tokenizer" / SUMMARY)["fingerprint"]
    features = list_features(cfg.scores.standard, cfg.scores.extra)
    identity = fingerprint([documents, inputs["scores"], identify_scores(inputs, tokenizer)])
    return ScoreBlocks(root / FOLDER, count_all(root), features, identity)


def build_scores(
    folder: Path, cfg: PoolConfig, root: Path, inputs: dict[str, Any], identity: dict[str, Any], *, progress: bool
) -> Summary:
    """Score every document that is not scored yet, or take the scores given, and freeze the normaliser.

    It is fitted on reference documents.
    """
    blocks = open_blocks(cfg, root, inputs)
    truncated: dict[str, int] = {}
    if cfg.scores.given:
        raw = load_given(cfg.scores, root)
    else:
        score_shard(cfg, root, blocks, Shard(), progress=progress)
        raw, truncated = blocks.join(read_column(documents_path(root), "id"))
    if cfg.scores.scale_of:
        normaliser = read_scale(cfg)
    else:
        calibration = raw[spread_reference(root, cfg.scores.n_calibration)]
        normaliser = fit_normaliser(blocks.features, calibration, identity)
    np.save(folder / "raw.npy", raw)
    n_truncated = truncated.get("normalized_loss", truncated.get("hes", 0))
    return {"normaliser": normaliser.as_dict(), "n_truncated": n_truncated, "truncated": truncated}


def read_scale(cfg: PoolConfig) -> Normaliser:
    """Read the normaliser of the pool that ``scores.scale_of`` names: two pools on one scale can be compared.

    Raises
    ------
    PoolError
        Where the folder is no finished store, has other scores, or read them with another ``loss_max_length``.
    """
    folder = Path(str(cfg.scores.scale_of))
    if not (folder / POOL_FILE).is_file():
        raise PoolError(f"pool.scores.scale_of={folder} is no prepared pool: it has no {POOL_FILE}.")
    stored = read_json(folder / POOL_FILE)["normaliser"]
    normaliser = Normaliser(tuple(stored["features"]), tuple(stored["mean"]), tuple(stored["sd"]), stored["identity"])
    features = list_features(cfg.scores.standard, cfg.scores.extra)
    mine = {"extra": identify_scorers(cfg.scores.extra), "text": cfg.scores.text}
    theirs = {"extra": normaliser.identity.get("extra", {}), "text": normaliser.identity.get("text", "joined")}
    if features != normaliser.features or mine != theirs:
        raise PoolError(
            f"pool.scores.scale_of={folder} scored {', '.join(normaliser.features)} (text={theirs['text']}), and here "
            f"{', '.join(features)} (text={mine['text']}) are asked for: take its standard, extra and text."
        )
    length = normaliser.identity["max_length"]
    if length != cfg.scores.loss_max_length:
        raise PoolError(
            f"pool.scores.loss_max_length={cfg.scores.loss_max_length}, but the pool of scale_of was scored with "
            f"{length}: set pool.scores.loss_max_length={length}."
        )
    return normaliser


def identify_scores(inputs: dict[str, Any], tokenizer_fingerprint: str) -> dict[str, Any]:
    """Collect what decides a score: the models' settings, tokenizer and training slice, and the version."""
    settings = inputs["scores"]
    decisive = ("seed", "reference_fraction", "generator", "n_documents", "files", "domain_map", "dedup", "subsample")
    trained_on = {key: inputs[key] for key in decisive if key in inputs}
    if "given" in settings:
        given = {"from": settings["given"], "fields": settings["given_fields"]}
        return {
            "version": inputs["scores_version"],
            "max_length": settings["loss_max_length"],
            "given": given,
            "reference_slice": trained_on,
        }
    return {
        "version": inputs["scores_version"],
        "tokenizer": tokenizer_fingerprint,
        "max_length": settings["loss_max_length"],
        "reference_lm": settings["reference_lm"],
        "rater": settings["rater"],
        "reference_slice": trained_on,
        **{key: settings[key] for key in ("text", "hes_max_length", "standard", "extra") if key in settings},
    }
