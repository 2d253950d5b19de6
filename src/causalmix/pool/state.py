"""The state of a candidate pool: what a mixture's worth depends on.

It is measured on the candidate pool, with frozen scores, before a mixture is drawn. Nothing here takes a
mixture: a state measured on the drawn documents would be a function of the treatment, and a bad control.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalmix.files import write_json
from causalmix.pool.candidate import CandidatePool, draw_documents
from causalmix.pool.store import Pool

__all__ = ["State", "draw_documents", "measure_controls", "measure_state", "write_state"]

FORMAT = 1
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class State:
    """Means of the normalised scores of a candidate pool.

    Attributes
    ----------
    features : dict
        Feature -> mean over all candidate documents.
    by_domain : dict
        Feature -> domain -> mean over the domain's.
    quantiles : dict
        Feature (or ``feature.domain``) -> quantile -> value. For reading, not for the fit.
    """

    features: dict[str, float]
    by_domain: dict[str, dict[str, float]]
    quantiles: dict[str, dict[str, float]]

    def flat(self) -> dict[str, float]:
        """Columns of the runs table: ``state.<feature>`` and ``state.<feature>.<domain>``."""
        return {f"state.{name}": value for name, value in self.named().items()}

    def named(self) -> dict[str, float]:
        """The same without the prefix."""
        named = dict(self.features)
        for feature, means in self.by_domain.items():
            named |= {f"{feature}.{domain}": mean for domain, mean in means.items()}
        return named


def measure_state(pool: Pool, candidates: CandidatePool) -> State:
    """Measure a candidate pool.

    Parameters
    ----------
    pool : Pool
    candidates : CandidatePool

    Returns
    -------
    State
    """
    scores = pool.scores[candidates.doc_ids]
    domain_ids = pool.domain_ids[candidates.doc_ids]
    features: dict[str, float] = {}
    by_domain: dict[str, dict[str, float]] = {}
    quantiles: dict[str, dict[str, float]] = {}
    for column, feature in zip(scores.T, pool.features):
        features[feature] = float(column.mean())
        quantiles[feature] = _quantiles(column)
        by_domain[feature] = {}
        for at, domain in enumerate(pool.domains):
            own = column[domain_ids == at]
            by_domain[feature][domain] = float(own.mean())
            quantiles[f"{feature}.{domain}"] = _quantiles(own)
    return State(features, by_domain, quantiles)


def measure_controls(pool: Pool, candidates: CandidatePool) -> dict[str, float]:
    """Measure what a candidate pool is like beside its scores: known before a mixture is drawn, so no effect of it.

    Returns
    -------
    dict
        Columns of the runs table: ``control.tokens_per_document.<domain>`` (mean) and
        ``control.n_documents.<domain>``.
    """
    lengths = pool.store.lengths()[candidates.doc_ids]
    tokens = np.bincount(pool.domain_ids[candidates.doc_ids], weights=lengths, minlength=len(pool.domains))
    controls: dict[str, float] = {}
    for domain, count, total in zip(pool.domains, candidates.counts, tokens):
        controls[f"control.tokens_per_document.{domain}"] = float(total / count)
        controls[f"control.n_documents.{domain}"] = float(count)
    return controls


def describe_state(pool: Pool, candidates: CandidatePool, state: State) -> dict[str, Any]:
    """Collect what an analysis needs to know of a target pool, as plain values."""
    available = {domain: int(count) for domain, count in zip(pool.domains, candidates.counts)}
    total = sum(available.values())
    return {
        "format": FORMAT,
        "pool_fingerprint": pool.fingerprint,
        "candidate_fingerprint": candidates.fingerprint,
        "normaliser_fingerprint": pool.facts["normaliser"]["fingerprint"],
        "n_documents": total,
        "available": available,
        "natural": {domain: count / total for domain, count in available.items()},
        "state": state.named(),
        "quantiles": state.quantiles,
        "controls": measure_controls(pool, candidates),
    }


def write_state(path: Path, pool: Pool, candidates: CandidatePool, state: State) -> None:
    """Write ``state.json``, atomically."""
    write_json(path, describe_state(pool, candidates, state))


def _quantiles(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    return {f"{q:g}": float(value) for q, value in zip(QUANTILES, np.quantile(values, QUANTILES))}
