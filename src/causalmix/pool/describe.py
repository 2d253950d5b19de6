"""What a pool holds, as plain values: sizes, repeats at a target size, state and its spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalmix.config import CandidateConfig
from causalmix.pool.candidate import candidate_sizes, draw_candidates
from causalmix.pool.state import describe_state, measure_state
from causalmix.pool.store import Pool


def describe_pool(pool: Pool, cfg: CandidateConfig, *, n_samples: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Describe a pool and one candidate pool of it.

    Parameters
    ----------
    pool : Pool
    cfg : CandidateConfig
    n_samples : int, optional
        Documents a run would train on; where given, the repeats that equal and natural shares would need.
    seed : int
        Of the candidate pool whose state is shown.

    Returns
    -------
    dict
        ``name``, ``fingerprint``, ``path``, ``n_documents``, ``n_tokens``, ``n_truncated``, ``heldout``
        {task: documents}, ``domains`` {domain: counts, shares, tokens a document, repeats}, ``lengths``
        (characters and tokens a document), ``left_out`` (cause -> domain -> documents), ``languages`` and
        ``state`` (the content of a ``state.json``).
    """
    candidates = draw_candidates(pool, cfg, seed)
    return {
        "name": pool.facts["name"],
        "path": str(pool.path),
        "fingerprint": pool.fingerprint,
        "n_documents": pool.n_documents,
        "n_tokens": pool.facts["n_tokens"],
        "n_target_tokens": pool.facts["n_target_tokens"],
        "n_truncated": pool.facts["n_truncated"],
        "n_truncated_scores": pool.facts["n_truncated_scores"],
        "n_literal": pool.facts["n_literal"],
        "n_samples": n_samples,
        "left_out": pool.facts["left_out"],
        "lengths": pool.facts["lengths"],
        "languages": pool.facts["languages"],
        "truncated_scores": pool.facts.get("truncated_scores", {}),  # not in stores made before it was counted apart
        "vocab_size": pool.vocab_size,
        "tokenizer_fingerprint": pool.tokenizer_fingerprint,
        "heldout": pool.facts["heldout"],
        "domains": describe_domains(pool, cfg, n_samples),
        "state": describe_state(pool, candidates, measure_state(pool, candidates)),
        "stage_wall_s": pool.facts["stage_wall_s"],
    }


def describe_domains(pool: Pool, cfg: CandidateConfig, n_samples: int | None = None) -> dict[str, Any]:
    """Describe each domain: documents, natural share, tokens a document, and repeats at ``n_samples``.

    Returns
    -------
    dict
        Domain -> values. ``repeats_equal`` and ``repeats_natural`` say how often a document of the candidate
        pool would be seen with equal and with natural shares; ``share_max`` is the share at one pass.
    """
    sizes = candidate_sizes(pool, cfg)
    natural = sizes / sizes.sum()
    lengths = pool.store.lengths()
    described: dict[str, Any] = {}
    for at, domain in enumerate(pool.domains):
        own = lengths[pool.domain_ids == at]
        values: dict[str, Any] = {
            **pool.facts["counts"][domain],
            "in_a_run": int(sizes[at]),
            "natural_share": float(natural[at]),
            "tokens_per_document": float(np.mean(own)),
            "tokens_max": int(own.max()),
        }
        if n_samples is not None:
            values["repeats_equal"] = float(n_samples / len(sizes) / sizes[at])
            values["repeats_natural"] = float(n_samples * natural[at] / sizes[at])
            values["share_max"] = float(min(1.0, sizes[at] / n_samples))
        described[domain] = values
    return described
