"""Scoring part of a candidate pool with a model in training: how far a training moves the state.

Raw scores of two models do not compare with each other's, nor with the reference model's. So nothing here
replaces a state: what is measured is the shift, scores after minus scores before on the same documents, in the
units of the pool's frozen normaliser, and a state moves by it. A model that has learnt nothing moves it by 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import PoolError
from causalmix.files import read_json
from causalmix.pool.documents import split_text
from causalmix.pool.reading import documents_path
from causalmix.pool.scores.scorer import ScoredText
from causalmix.pool.store import INPUTS_FILE
from causalmix.pool.table import read_positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from causalmix.pool.candidate import CandidatePool
    from causalmix.pool.store import Pool

STREAM = 7002  # keeps this draw apart from others of the same seed


@dataclass(frozen=True)
class Sample:
    """Candidate documents that are scored again, as many of each domain.

    Attributes
    ----------
    doc_ids : ndarray of int64, shape (n,)
    domain_ids : ndarray of int64, shape (n,)
    natural : ndarray of float64, shape (K,)
        Shares of the candidate pool: a mean over the pool is the domains' means with these weights.
    texts : list of ScoredText
    """

    doc_ids: NDArray[np.int64]
    domain_ids: NDArray[np.int64]
    natural: NDArray[np.float64]
    texts: list[ScoredText]


def draw_sample(pool: Pool, candidates: CandidatePool, n_documents: int, seed: int) -> Sample:
    """Draw documents of a candidate pool, as many of each domain as there are or ``n_documents / K``.

    The same pool, candidates, number and seed give the same documents: shifts of one stage after the other add.
    """
    rng = np.random.default_rng([STREAM, seed])
    domain_of = pool.domain_ids[candidates.doc_ids]
    each = -(-n_documents // len(pool.domains))
    drawn = []
    for domain in range(len(pool.domains)):
        members = candidates.doc_ids[domain_of == domain]
        drawn.append(rng.permutation(members)[:each])
    doc_ids = np.sort(np.concatenate(drawn))
    conversations = read_positions(documents_path(pool.path), doc_ids)
    texts = [ScoredText(*split_text(turns)) for turns in conversations]
    natural = candidates.counts / candidates.counts.sum()
    return Sample(doc_ids, pool.domain_ids[doc_ids].astype(np.int64), natural, texts)


def score_sample(pool: Pool, sample: Sample, model: PreTrainedModel, batch_tokens: int) -> NDArray[np.float64]:
    """Score a sample with a model of the pool's tokenizer, reading the texts as the pool's scores do.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        HES and Normalized_Loss, in bits.
    """
    from causalmix.pool.scores.language_model import LanguageModelScorer

    settings: dict[str, Any] = read_json(pool.path / INPUTS_FILE)["scores"]
    positions = int(getattr(model.config, "max_position_embeddings", settings["loss_max_length"]))
    published = settings.get("text") == "published"
    scorer = LanguageModelScorer(
        model,
        pool.tokenizer,
        max_length=min(settings["loss_max_length"], positions),
        batch_tokens=batch_tokens,
        hes_max_length=min(settings["hes_max_length"], positions) if published else None,
    )
    return scorer.score(sample.texts)


def measure_shift(
    pool: Pool, sample: Sample, before: NDArray[np.float64], after: NDArray[np.float64]
) -> dict[str, float]:
    """Measure how far the state moved between two scorings of one sample.

    Parameters
    ----------
    pool : Pool
    sample : Sample
    before, after : ndarray of float64, shape (n, 2)
        Of :func:`score_sample`.

    Returns
    -------
    dict
        ``<feature>`` and ``<feature>.<domain>`` -> shift, in standard deviations of the pool's frozen normaliser.
        Scores that no language model makes (Writing_Style, extra ones) do not move and are not named.

    Raises
    ------
    PoolError
        Where the pool has neither HES nor Normalized_Loss, or a score is not a number.
    """
    from causalmix.pool.scores.language_model import LanguageModelScorer

    features = [name for name in LanguageModelScorer.features if name in pool.features]
    if not features:
        raise PoolError(
            f"the pool {pool.path} has no score that a model in training could move: stages need hes or "
            "normalized_loss in pool.scores.standard."
        )
    moved = after - before
    if not np.isfinite(moved).all():
        raise PoolError("scores of the model in training are not numbers: its training has diverged.")
    frozen = dict(zip(pool.features, pool.facts["normaliser"]["sd"]))
    shifts: dict[str, float] = {}
    for column, feature in zip(moved.T, LanguageModelScorer.features):
        if feature not in features:
            continue
        means = np.array([column[sample.domain_ids == at].mean() for at in range(len(pool.domains))]) / frozen[feature]
        shifts[feature] = float(sample.natural @ means)
        shifts |= {f"{feature}.{domain}": float(mean) for domain, mean in zip(pool.domains, means)}
    return shifts
