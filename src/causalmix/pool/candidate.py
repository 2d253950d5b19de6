"""Candidate pools: the part of the pool that one run may draw from, fixed before its mixture is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.config import CandidateConfig
from causalmix.errors import MixtureError, PoolError, name_some, nearest_name
from causalmix.pool.store import Pool

KINDS = ("tilted", "fixed", "all")
STREAM = 7001  # keeps these draws apart from others of the same seed


@dataclass(frozen=True)
class CandidatePool:
    """Documents a run may draw, and the tilt that chose them.

    Attributes
    ----------
    doc_ids : ndarray of int64, shape (n,)
        Sorted positions in the store; never of the reference slice.
    tau : ndarray of float64, shape (K, F)
        Tilt of each domain along each feature.
    counts : ndarray of int64, shape (K,)
        Documents a domain.
    fingerprint : str
        Hash of the pool's fingerprint and the documents.
    """

    doc_ids: NDArray[np.int64]
    tau: NDArray[np.float64]
    counts: NDArray[np.int64]
    fingerprint: str


def candidate_sizes(pool: Pool, cfg: CandidateConfig) -> NDArray[np.int64]:
    """Documents a domain in any candidate pool of this config, shape (K,); no draw is needed.

    Raises
    ------
    PoolError
        For an unknown kind or a fraction outside (0, 1].
    """
    if cfg.kind not in KINDS:
        raise PoolError(f"pool.candidate.kind={cfg.kind!r} is not one of {', '.join(KINDS)}.")
    if not 0 < cfg.fraction <= 1:
        raise PoolError(f"pool.candidate.fraction={cfg.fraction} must lie in (0, 1].")
    available = np.array(list(pool.candidate_counts().values()), dtype=np.int64)
    if cfg.kind == "all":
        return available
    return np.asarray(np.maximum(1, np.rint(cfg.fraction * available).astype(np.int64)))


def draw_candidates(pool: Pool, cfg: CandidateConfig, seed: int) -> CandidatePool:
    """Draw a candidate pool: within each domain, documents without replacement with weight exp(tau_k . z).

    The draw is the Gumbel top-k: the k largest of ``tau_k . z + Gumbel noise`` are such a sample.

    Parameters
    ----------
    pool : Pool
    cfg : CandidateConfig
        ``tilted`` draws tau_k ~ N(0, tau_sd^2), one a feature and domain (one tilt for all domains would
        scale every effect alike); ``fixed`` takes ``cfg.tau`` (what is not named there is 0); ``all`` takes
        everything.
    seed : int
        The run's; ``cfg.seed``, where set, replaces it, so that all runs share one candidate pool.

    Returns
    -------
    CandidatePool

    Raises
    ------
    PoolError
        For a tilt of a domain or feature that the pool does not have, or one that is not a number.
    """
    sizes = candidate_sizes(pool, cfg)
    rng = np.random.default_rng([STREAM, cfg.seed if cfg.seed is not None else seed])
    tau = _choose_tau(pool, cfg, rng)
    chosen = []
    for domain, (size, tilt) in enumerate(zip(sizes, tau)):
        members = np.flatnonzero((pool.domain_ids == domain) & ~pool.is_reference)
        # Column by column: a matrix product may round differently with another number of threads.
        tilted = sum(weight * pool.scores[members, at] for at, weight in enumerate(tilt))
        chosen.append(members[_choose_largest(tilted + rng.gumbel(size=len(members)), int(size))])
    doc_ids = np.sort(np.concatenate(chosen)).astype(np.int64)
    digest = hashlib.sha256(pool.fingerprint.encode() + doc_ids.astype("<i8").tobytes())
    return CandidatePool(doc_ids, tau, sizes, digest.hexdigest()[:16])


def draw_documents(
    pool: Pool,
    candidates: CandidatePool,
    counts: NDArray[np.int64],
    repeats_max: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw a run's manifest: ``counts[k]`` documents of domain k, in the order they are trained on.

    Without replacement until a domain runs out; then whole further passes over it, the last one in part.

    Returns
    -------
    ndarray of int64, shape (sum of counts,)
        Positions in the store, shuffled over domains.

    Raises
    ------
    MixtureError
        Naming every domain that would be repeated more than ``repeats_max`` times.
    """
    short = [
        f"{domain} ({wanted} wanted, {available} available)"
        for domain, wanted, available in zip(pool.domains, counts, candidates.counts)
        if wanted > repeats_max * available
    ]
    if short:
        raise MixtureError(
            f"more documents than {repeats_max:g} repeats allow: {name_some(short)}. Lower train.n_samples "
            f"or the "
            f"domain's share, raise mixture.repeats_max, or use a larger pool."
        )
    domain_of = pool.domain_ids[candidates.doc_ids]
    drawn = []
    for domain, wanted in enumerate(counts):
        members = candidates.doc_ids[domain_of == domain]
        passes = -(-int(wanted) // len(members))
        order = [rng.permutation(members) for _ in range(passes)]
        drawn.append(np.concatenate(order)[: int(wanted)] if order else members[:0])
    return rng.permutation(np.concatenate(drawn)).astype(np.int64)


def _choose_largest(keys: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Positions of the ``size`` largest keys, ascending; of equal ones the first. Linear in their number."""
    if size >= len(keys):
        return np.arange(len(keys))
    least = np.partition(keys, len(keys) - size)[len(keys) - size]
    above = keys > least
    ties = np.flatnonzero(keys == least)[: size - int(np.count_nonzero(above))]
    above[ties] = True
    return np.flatnonzero(above)


def _choose_tau(pool: Pool, cfg: CandidateConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    shape = (len(pool.domains), len(pool.features))
    if cfg.kind == "tilted":
        return cfg.tau_sd * rng.standard_normal(shape)
    tau = np.zeros(shape)
    if cfg.kind == "all":
        return tau
    _require_names(cfg.tau, pool.domains, "domain")
    for domain, tilts in cfg.tau.items():
        _require_names(tilts, pool.features, f"feature of pool.candidate.tau.{domain}")
        for feature, value in tilts.items():
            if not np.isfinite(value):
                raise PoolError(f"pool.candidate.tau.{domain}.{feature}={value} is not a number.")
            tau[pool.domains.index(domain), pool.features.index(feature)] = value
    return tau


def _require_names(given: Mapping[str, object], allowed: tuple[str, ...], what: str) -> None:
    unknown = [f"{name!r}{nearest_name(name, allowed)}" for name in given if name not in allowed]
    if unknown:
        raise PoolError(f"unknown {what} in pool.candidate.tau: {name_some(unknown)}; allowed: {', '.join(allowed)}.")
