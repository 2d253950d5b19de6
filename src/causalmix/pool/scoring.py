"""The last stages of a store: the models behind the scores, and the scores of every document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from causalmix.config import PoolConfig, RaterConfig, ReferenceLMConfig
from causalmix.errors import PoolError
from causalmix.files import read_json
from causalmix.pool.documents import Message, split_text
from causalmix.pool.given import load_given
from causalmix.pool.reading import (
    count_all,
    documents_path,
    iterate_reference,
    load_array,
    load_tokenizer,
    spread_reference,
)
from causalmix.pool.scores import FEATURES
from causalmix.pool.scores.normaliser import Normaliser, fit_normaliser
from causalmix.pool.scores.scorer import ScoredText
from causalmix.pool.stage import Summary
from causalmix.pool.store import INPUTS_FILE, POOL_FILE
from causalmix.pool.table import read_batches, read_column
from causalmix.pool.threads import count_threads, use_threads
from causalmix.pool.tokenizer import count_vocabulary, load_exact, load_pretrained

TOKENIZER = "tokenizer"  # folder within a saved scorer's

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from causalmix.pool.scores.language_model import LanguageModelScorer
    from causalmix.pool.scores.writing_style import WritingStyleScorer

# --- models behind the scores ----------------------------------------------------------------------------


def build_reference_lm(folder: Path, cfg: PoolConfig, root: Path, *, progress: bool) -> Summary:
    """Train and save the reference model, unless a pretrained one is named."""
    from causalmix.pool.scores.reference_lm import train_reference_lm

    if cfg.scores.scale_of:
        return {"source": "another pool's"}
    if cfg.scores.given:
        return {"source": "none: the scores are given"}
    if cfg.scores.reference_lm.path:
        return {"source": "pretrained"}
    tokenizer = load_tokenizer(root)
    texts = [scored_text(turns).text for turns in iterate_reference(root)]
    # One thread: so small a model gains nothing from more, and gets the same weights on any number of cores.
    with use_threads(1):
        model, summary = train_reference_lm(
            cfg.scores.reference_lm,
            tokenizer,
            texts,
            vocab_size=count_vocabulary(tokenizer),
            max_position=cfg.scores.loss_max_length,
            progress=progress,
        )
    _save(model, tokenizer, folder)
    return {"source": "trained", **summary}


def build_rater(folder: Path, cfg: PoolConfig, root: Path, *, progress: bool) -> Summary:
    """Train and save the rater, unless a pretrained one is named."""
    from causalmix.pool.scores.rater import pair_by_corruption, pair_by_quality, train_rater

    rater = cfg.scores.rater
    if cfg.scores.scale_of:
        return {"source": "another pool's"}
    if cfg.scores.given:
        return {"source": "none: the scores are given"}
    if rater.path:
        return {"source": "pretrained"}
    texts = [scored_text(turns) for turns in iterate_reference(root)]
    if rater.pairs == "quality":
        kept = load_array(root, "is_reference").astype(bool)
        qualities = np.array(read_column(documents_path(root), "quality"), dtype=np.float64)[kept]
        domain_ids = load_array(root, "domain_ids")[kept]
        pairs = pair_by_quality(texts, qualities, domain_ids, rater.n_pairs, rater.seed)
    elif rater.pairs == "corrupted":
        pairs = pair_by_corruption(texts, rater.n_pairs, rater.seed)
    else:
        raise PoolError(f"pool.scores.rater.pairs={rater.pairs!r} is not one of corrupted, quality.")
    tokenizer = load_tokenizer(root)
    with use_threads(1):
        model, summary = train_rater(rater, tokenizer, pairs, vocab_size=count_vocabulary(tokenizer), progress=progress)
    _save(model, tokenizer, folder)
    return {"source": "trained", **summary}


# --- scores ----------------------------------------------------------------------------------------------


def build_scores(folder: Path, cfg: PoolConfig, root: Path, identity: dict[str, Any], *, progress: bool) -> Summary:
    """Score every document, or take the scores given, and freeze the normaliser on reference documents."""
    raw, n_truncated = (
        (load_given(cfg.scores, root), 0) if cfg.scores.given else score_all(cfg, root, progress=progress)
    )
    if cfg.scores.scale_of:
        normaliser = read_scale(cfg)
    else:
        calibration = raw[spread_reference(root, cfg.scores.n_calibration)]
        normaliser = fit_normaliser(FEATURES, calibration, identity)
    np.save(folder / "raw.npy", raw)
    return {"normaliser": normaliser.as_dict(), "n_truncated": n_truncated}


def score_all(cfg: PoolConfig, root: Path, *, progress: bool) -> tuple[NDArray[np.float64], int]:
    """Score every document; return the scores, shape (n, F), and how many were read in part only.

    Raises
    ------
    PoolError
        For scores that are not numbers.
    """
    language_model, rater = load_scorers(cfg, root)
    columns = [*language_model.features, *rater.features]
    assert tuple(columns) == FEATURES
    parts = []
    bar = tqdm(total=count_all(root), desc="score", unit="doc", disable=None if progress else True)
    with use_threads(count_threads()), bar:
        for conversations in read_batches(documents_path(root)):
            texts = [scored_text(turns) for turns in conversations]
            parts.append(np.hstack([scorer.score(texts) for scorer in (language_model, rater)]))
            bar.update(len(texts))
    raw = np.concatenate(parts)
    if not np.isfinite(raw).all():
        bad = int((~np.isfinite(raw)).any(axis=1).sum())
        raise PoolError(f"{bad} documents have scores that are not numbers: a model behind them is broken.")
    return raw, language_model.n_truncated


def read_scale(cfg: PoolConfig) -> Normaliser:
    """Read the normaliser of the pool that ``scores.scale_of`` names: two pools on one scale can be compared.

    Raises
    ------
    PoolError
        Where the folder is no finished store, or its scores were read with another ``loss_max_length``.
    """
    folder = Path(str(cfg.scores.scale_of))
    if not (folder / POOL_FILE).is_file():
        raise PoolError(f"pool.scores.scale_of={folder} is no prepared pool: it has no {POOL_FILE}.")
    stored = read_json(folder / POOL_FILE)["normaliser"]
    normaliser = Normaliser(tuple(stored["features"]), tuple(stored["mean"]), tuple(stored["sd"]), stored["identity"])
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
    }


def load_scorers(cfg: PoolConfig, root: Path) -> tuple[LanguageModelScorer, WritingStyleScorer]:
    """Load the two scorers: pretrained ones where they are named, else those of the stages before."""
    import torch

    from causalmix.pool.scores.language_model import LanguageModelScorer
    from causalmix.pool.scores.rater import load_rater
    from causalmix.pool.scores.reference_lm import load_reference_lm
    from causalmix.pool.scores.writing_style import WritingStyleScorer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lm_cfg, rater_cfg, batch_tokens = cfg.scores.reference_lm, cfg.scores.rater, cfg.scores.batch_tokens
    if cfg.scores.scale_of:
        root, lm_cfg, rater_cfg = _borrow_scorers(cfg)
    lm_path = lm_cfg.path or str(root / "reference_lm")
    model = load_reference_lm(lm_path, lm_cfg.revision)
    lm_tokenizer = _load_tokenizer_of("pool.scores.reference_lm", lm_path, lm_cfg.revision)
    rater_path = rater_cfg.path or str(root / "rater")
    rater = load_rater(rater_path, rater_cfg.revision)
    rater_tokenizer = _load_tokenizer_of("pool.scores.rater", rater_path, rater_cfg.revision)
    language_model = LanguageModelScorer(
        model.to(device),
        lm_tokenizer,
        max_length=cfg.scores.loss_max_length,
        batch_tokens=batch_tokens,
    )
    style = WritingStyleScorer(
        rater.to(device), rater_tokenizer, chunk_length=rater_cfg.chunk_length, batch_tokens=batch_tokens
    )
    return language_model, style


def _borrow_scorers(cfg: PoolConfig) -> tuple[Path, ReferenceLMConfig, RaterConfig]:
    """Return the folder and settings of the scorers behind another pool's scale."""
    folder = Path(str(cfg.scores.scale_of))
    settings = read_json(folder / INPUTS_FILE)["scores"]
    lm, rater = settings["reference_lm"], settings["rater"]
    hashed = [name for name, part in (("reference_lm", lm), ("rater", rater)) if isinstance(part["path"], dict)]
    if hashed:
        raise PoolError(
            f"pool.scores.scale_of={folder} was scored with local folders of its own ({', '.join(hashed)}), whose "
            "place it does not record."
        )
    return folder, ReferenceLMConfig(**lm), RaterConfig(**rater)


def scored_text(messages: Sequence[Message]) -> ScoredText:
    """See a conversation as the scorers do."""
    return ScoredText(*split_text(messages))


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    # With its tokenizer, so that another pool can name the folder as its pretrained scorer; the tokenizer in
    # a folder of its own, because beside a model's config.json it would not be loaded as it is.
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder / TOKENIZER)


def _load_tokenizer_of(key: str, path: str, revision: str | None) -> PreTrainedTokenizerFast:
    folder = Path(path) / TOKENIZER
    return load_exact(folder) if folder.is_dir() else load_pretrained(path, revision, key=key, with_template=False)
