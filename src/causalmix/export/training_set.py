"""A training set on disk, JSONL or Parquet: exact counts, repeats included, in the order to train on.

Each line is ``{"id", "domain", "messages": [{"role", "content"}, ...]}``, which chat trainers read as it is. A domain
is gone through without replacement, again and again where its count is larger than it, as a run of CausalMix does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from causalmix.config import CandidateConfig
from causalmix.errors import MixtureError
from causalmix.export.blend import Blend, require_counts


def write(blend: Blend, output: Path) -> list[Path]:
    """Write the training set to ``output``, a file whose ending is the format.

    Raises
    ------
    MixtureError
        Without a pool or without counts.
    """
    from causalmix.export.documents import write_rows
    from causalmix.pool.candidate import draw_candidates, draw_documents

    kind = output.suffix.removeprefix(".")
    if blend.pool is None:
        raise MixtureError(
            f"--to {kind} writes documents, so it needs the pool that has them: --pool STORE (`causalmix pool prepare` "
            f"prints it)."
        )
    counts = require_counts(blend, kind)
    pool = blend.pool
    candidates = draw_candidates(pool, CandidateConfig(kind="all"), blend.seed)
    asked = np.array([counts.get(name, 0) for name in pool.domains], dtype=np.int64)
    repeats = float(max(n / max(1, available) for n, available in zip(asked, candidates.counts)))
    doc_ids = draw_documents(pool, candidates, asked, repeats, np.random.default_rng(blend.seed))
    write_rows(pool, doc_ids, output)
    return [output]
