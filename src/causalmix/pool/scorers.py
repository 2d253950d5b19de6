"""The models behind a pool's scores: trained or named, saved with the store, loaded to score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from causalmix.config import PoolConfig, RaterConfig, ReferenceLMConfig, ScoresConfig
from causalmix.errors import PoolError
from causalmix.files import read_json
from causalmix.pool.documents import Message, split_text
from causalmix.pool.reading import documents_path, iterate_reference, load_array, load_tokenizer
from causalmix.pool.scores.extra import list_features, make_scorers
from causalmix.pool.scores.panel import Panel
from causalmix.pool.scores.scorer import ScoredText
from causalmix.pool.stage import Summary
from causalmix.pool.store import INPUTS_FILE
from causalmix.pool.table import read_column
from causalmix.pool.threads import use_threads
from causalmix.pool.tokenizer import count_vocabulary, load_exact, load_pretrained

TOKENIZER = "tokenizer"  # folder within a saved scorer's

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from causalmix.pool.scores.language_model import LanguageModelScorer
    from causalmix.pool.scores.writing_style import WritingStyleScorer


def build_reference_lm(folder: Path, cfg: PoolConfig, root: Path, *, progress: bool) -> Summary:
    """Train and save the reference model, unless a pretrained one is named."""
    from causalmix.pool.scores.reference_lm import train_reference_lm

    if not needs_language_model(cfg.scores):
        return {"source": "none"}
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
    if not needs_rater(cfg.scores):
        return {"source": "none"}
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


def needs_language_model(scores: ScoresConfig) -> bool:
    """Say whether HES or Normalized_Loss is wanted."""
    return bool({"hes", "normalized_loss"} & set(scores.standard))


def needs_rater(scores: ScoresConfig) -> bool:
    """Say whether Writing_Style is wanted."""
    return "writing_style" in scores.standard


def load_panel(cfg: PoolConfig, root: Path) -> Panel:
    """Load every scorer of a pool: pretrained ones where they are named, else those of the stages before."""
    features = list_features(cfg.scores.standard, cfg.scores.extra)
    lm_cfg, rater_cfg = cfg.scores.reference_lm, cfg.scores.rater
    if cfg.scores.scale_of:
        root, lm_cfg, rater_cfg = _borrow_scorers(cfg)
    language_model = _load_language_model(cfg.scores, lm_cfg, root) if needs_language_model(cfg.scores) else None
    style = _load_style(cfg.scores, rater_cfg, root) if needs_rater(cfg.scores) else None
    if language_model and style and language_model.reader.fingerprint == style.reader.fingerprint:
        style.reader = language_model.reader  # one tokenizer: a text is tokenised once for both
    return Panel(features, language_model, style, make_scorers(cfg.scores.extra))


def _load_language_model(scores: ScoresConfig, cfg: ReferenceLMConfig, root: Path) -> LanguageModelScorer:
    from causalmix.pool.scores.language_model import LanguageModelScorer
    from causalmix.pool.scores.reference_lm import load_reference_lm

    path = cfg.path or str(root / "reference_lm")
    return LanguageModelScorer(
        load_reference_lm(path, cfg.revision, cfg.dtype).to(_choose_device()),
        _load_tokenizer_of("pool.scores.reference_lm", path, cfg.revision),
        max_length=scores.loss_max_length,
        batch_tokens=scores.batch_tokens,
        hes_max_length=scores.hes_max_length if scores.text == "published" else None,
    )


def _load_style(scores: ScoresConfig, cfg: RaterConfig, root: Path) -> WritingStyleScorer:
    from causalmix.pool.scores.rater import load_rater
    from causalmix.pool.scores.writing_style import WritingStyleScorer

    path = cfg.path or str(root / "rater")
    return WritingStyleScorer(
        load_rater(path, cfg.revision).to(_choose_device()),
        _load_tokenizer_of("pool.scores.rater", path, cfg.revision),
        chunk_length=cfg.chunk_length,
        batch_tokens=scores.batch_tokens,
    )


def _choose_device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
