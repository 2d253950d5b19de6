"""Which documents a run trains on: drawn before it by its mixture, or by the run itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from causalmix.config import Config
from causalmix.files import write_atomically

if TYPE_CHECKING:
    from causalmix.pool.candidate import CandidatePool
    from causalmix.pool.store import Pool
    from causalmix.train.online import Online


def plan_online(config: Config, pool: Pool) -> Online | None:
    """Say what a run that chooses its domains as it goes may draw; None for every other run."""
    if config.mixture.kind != "odm":
        return None
    from causalmix.train.online import Online

    return Online(
        domains=pool.domains,
        domain_ids=pool.domain_ids,
        n_samples=config.train.n_samples,
        repeats_max=config.mixture.repeats_max,
        rule=config.mixture.odm_rule,
        memory=config.mixture.odm_memory,
    )


def describe_mixture(pool: Pool, weights: NDArray[np.float64], documents: NDArray[np.int64]) -> dict[str, float]:
    """Return the columns ``mixture.<domain>`` (target shares) and ``realised.<domain>`` (of the documents)."""
    counts = np.bincount(pool.domain_ids[documents], minlength=len(pool.domains))
    row = {f"mixture.{domain}": float(w) for domain, w in zip(pool.domains, weights)}
    return row | {f"realised.{domain}": float(c / counts.sum()) for domain, c in zip(pool.domains, counts)}


def describe_online(pool: Pool, documents: NDArray[np.int64], report: dict[str, float]) -> dict[str, float]:
    """Return what an online run's mixture came to be: the shares it realised, and the bandit's last weights.

    Its mixture was never a target, so ``mixture.<domain>`` is what was realised.
    """
    counts = np.bincount(pool.domain_ids[documents], minlength=len(pool.domains))
    row = describe_mixture(pool, counts / counts.sum(), documents)
    last = {name.removeprefix("weight."): value for name, value in report.items() if name.startswith("weight.")}
    return row | {f"design.weight_last.{domain}": value for domain, value in last.items()}


def list_exhausted(report: dict[str, float]) -> list[str]:
    """Name the domains that gave an online run all the documents that their repeats allow."""
    return [name.removeprefix("left.") for name, n in report.items() if name.startswith("left.") and n == 0]


def write_manifest(path: Path, pool: Pool, documents: NDArray[np.int64]) -> None:
    """Write ``manifest.parquet``: a row a document, in the order in which they were drawn."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    domains = pa.DictionaryArray.from_arrays(pool.domain_ids[documents].astype(np.int32), list(pool.domains))
    table = pa.table({"document": documents, "domain": domains})
    write_atomically(path, lambda temporary: pq.write_table(table, temporary))


def draw_manifest(
    config: Config,
    pool: Pool,
    candidates: CandidatePool,
    weights: NDArray[np.float64],
    n_samples: int,
    seed: np.random.SeedSequence,
) -> NDArray[np.int64]:
    """Draw the documents of a run whose mixture is known: exact quotas, then documents.

    Parameters
    ----------
    weights : ndarray of float64, shape (K,)
        Shares in the order of the pool's domains.
    n_samples : int
        Documents, repeats counted.
    seed : SeedSequence

    Returns
    -------
    ndarray of int64, shape (n_samples,)

    Raises
    ------
    MixtureError
        Where a domain would be repeated too often.
    """
    from causalmix.mixture.allocate import allocate
    from causalmix.pool.candidate import draw_documents

    available = {domain: int(n) for domain, n in zip(pool.domains, candidates.counts)}
    counts = allocate(weights, n_samples, available, config.mixture.repeats_max)
    return draw_documents(pool, candidates, counts, config.mixture.repeats_max, np.random.default_rng(seed))
