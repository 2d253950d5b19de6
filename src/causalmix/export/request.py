"""What is asked of an export, read and checked: shares, counts, paths, what the file must say about itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalmix.config import MixtureConfig
from causalmix.errors import ConfigError, MixtureError, name_some, nearest_name
from causalmix.export.blend import Blend, Stage
from causalmix.mixture.allocate import allocate
from causalmix.mixture.file import find_weights, read_answer
from causalmix.mixture.simplex import count_allowed, validate_weights

if TYPE_CHECKING:
    from causalmix.pool.store import Pool


@dataclass(frozen=True)
class ExportRequest:
    """One call of ``causalmix export``.

    Attributes
    ----------
    mixture : Path
        ``mixture.json``.
    data : str
        Where a domain's data lies, with ``{domain}`` in it.
    pool : Pool, optional
        Checks the domains, says how many documents and tokens there are, and gives the documents.
    candidate : bool
        Take the policy's own answer where advice was withheld.
    n_samples : int, optional
        Documents in all, repeats counted; by default the sum of the counts in ``mixture.json``.
    repeats_max : float, optional
        How often a document may be seen at most; by default as often as in ``mixture.json``, or as a run's.
    stages : tuple of (int, Path)
        Later mixtures, each with the step at which it starts.
    seed : int
        Of whatever is drawn.
    """

    mixture: Path
    data: str
    pool: Pool | None = None
    candidate: bool = False
    n_samples: int | None = None
    repeats_max: float | None = None
    stages: tuple[tuple[int, Path], ...] = ()
    seed: int = 0


def read_blend(request: ExportRequest) -> Blend:
    """Read a mixture and everything that an exporter needs to know of it.

    Returns
    -------
    Blend

    Raises
    ------
    MixtureError
        Weights that are no mixture, domains that the pool lacks, counts that are damaged, or more documents
        than there are.
    ConfigError
        A path template without ``{domain}``, or stages out of order.
    """
    if "{domain}" not in request.data:
        raise ConfigError(
            f"--data={request.data}: a domain's place must stand in it, for example data/{{domain}}.jsonl"
        )
    content = read_answer(request.mixture)
    weights = _read_weights(content, request.mixture, request)
    available = _count_available(content, weights, request.pool)
    counts = _count_documents(content, weights, available, request)
    return Blend(
        weights=weights,
        counts=counts,
        available=available,
        tokens_per_document=_measure_tokens(request.pool, weights),
        stages=(Stage(0, weights), *_read_stages(request, weights)),
        data=request.data,
        seed=request.seed,
        about=tuple(_describe(content, request, weights, counts)),
        pool=request.pool,
    )


def parse_stages(given: Sequence[str]) -> tuple[tuple[int, Path], ...]:
    """Read ``STEP=mixture.json`` of each later stage.

    Raises
    ------
    ConfigError
        Naming every text that is not of that form.
    """
    stages, wrong = [], []
    for text in given:
        step, _, path = text.partition("=")
        if step.isdecimal() and int(step) > 0 and path:
            stages.append((int(step), Path(path)))
        else:
            wrong.append(text)
    if wrong:
        raise ConfigError(f"--stage {name_some(wrong)}: STEP=mixture.json is wanted, with a step above 0")
    return tuple(stages)


def _read_weights(content: dict[str, Any], path: Path, request: ExportRequest) -> dict[str, float]:
    given = find_weights(content, path, use_candidate=request.candidate)
    if request.pool is not None:
        known = request.pool.domains
        strangers = [f"'{name}'{nearest_name(name, known)}" for name in given if name not in known]
        if strangers:
            raise MixtureError(
                f"{path}: the pool {request.pool.path} has no domain {name_some(strangers)}; it has "
                f"{name_some(known, 50)}. Give the pool that the mixture was made for."
            )
    try:
        shares = validate_weights(given, tuple(given))
    except MixtureError as error:
        raise MixtureError(f"{path}: {error}") from error
    return dict(zip(given, shares.tolist()))


def _count_available(content: dict[str, Any], weights: Mapping[str, float], pool: Pool | None) -> dict[str, int] | None:
    """Documents that a domain has: of the pool, else as ``mixture.json`` implies (count / repeats)."""
    if pool is not None:
        counted = pool.candidate_counts()
        return {name: counted[name] for name in weights}
    counts = content.get("counts") or {}
    known = {}
    for name in weights:
        if weights[name] == 0:
            known[name] = 0  # not asked for any
            continue
        entry = counts.get(name) if isinstance(counts, Mapping) else None
        if not isinstance(entry, Mapping) or not entry.get("repeats") or not _is_count(entry.get("n")):
            return None
        known[name] = round(entry["n"] / entry["repeats"])
    return known


def _count_documents(
    content: dict[str, Any],
    weights: Mapping[str, float],
    available: Mapping[str, int] | None,
    request: ExportRequest,
) -> dict[str, int] | None:
    """Counts that sum to the size asked for; those of ``mixture.json`` as they stand where they are meant."""
    written = _read_counts(content, request.mixture)
    n_samples = request.n_samples if request.n_samples is not None else sum(written.values()) or None
    if n_samples is None:
        return None
    if n_samples < 1:
        raise ConfigError(f"--n-samples={n_samples}: a training set has at least one document")
    limit = request.repeats_max or max(MixtureConfig.repeats_max, _read_repeats(content))
    is_meant = not (request.candidate and content.get("advice") == "withheld")
    if is_meant and request.n_samples is None:
        strangers = sorted(set(written) ^ set(weights))
        if strangers:
            raise MixtureError(f"{request.mixture}: counts and weights differ in {name_some(strangers)}.")
        apart = [name for name, share in weights.items() if abs(written[name] - share * n_samples) > 1.0 + 1e-6]
        if apart:
            raise MixtureError(
                f"{request.mixture}: the counts of {name_some(apart)} are not the shares' ({n_samples} documents in "
                f"all). Give --n-samples {n_samples} to count anew, or the file as the analysis wrote it."
            )
        counts = {name: written[name] for name in weights}
    else:
        # Every domain could give everything here; what it has is checked below, where the options are named.
        dealt = allocate(dict(weights), n_samples, dict.fromkeys(weights, n_samples), 1.0)
        counts = dict(zip(weights, dealt.tolist()))
    if available is not None:
        over = [
            f"{name} ({n} asked; {available[name]} documents x {limit:g} repeats)"
            for name, n in counts.items()
            if n > count_allowed(available[name], limit)
        ]
        if over:
            raise MixtureError(
                f"{request.mixture}: more documents than there are: {name_some(over)}. Give a smaller --n-samples, "
                f"a larger --repeats-max, or a larger pool."
            )
    return counts


def _read_counts(content: dict[str, Any], path: Path) -> dict[str, int]:
    counts = content.get("counts") or {}
    wrong = not isinstance(counts, Mapping) or [
        name for name, entry in counts.items() if not isinstance(entry, Mapping) or not _is_count(entry.get("n"))
    ]
    if wrong:
        named = name_some(wrong) if isinstance(wrong, list) else repr(counts)
        raise MixtureError(f"{path}: 'counts' must give each domain a whole number 'n', but not for {named}.")
    return {str(name): int(entry["n"]) for name, entry in counts.items()}


def _read_repeats(content: dict[str, Any]) -> float:
    entries = (content.get("counts") or {}).values()
    return max((float(entry.get("repeats") or 0.0) for entry in entries), default=0.0)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _measure_tokens(pool: Pool | None, weights: Mapping[str, float]) -> dict[str, float] | None:
    """Mean tokens of a domain's documents, the reference slice left out."""
    if pool is None:
        return None
    lengths, means = pool.store.lengths(), {}
    for name in weights:
        inside = (pool.domain_ids == pool.domains.index(name)) & ~pool.is_reference
        means[name] = float(lengths[inside].mean()) if inside.any() else math.nan
    empty = [name for name, mean in means.items() if not mean > 0 and weights[name] > 0]
    if empty:
        raise MixtureError(f"the pool {pool.path} has no document of {name_some(empty)} that may be trained on.")
    return means


def _read_stages(request: ExportRequest, first: Mapping[str, float]) -> list[Stage]:
    stages, last = [], 0
    for step, path in request.stages:
        if step <= last:
            raise ConfigError(f"--stage {step}={path}: stages start one after the other, each after step {last}")
        weights = _read_weights(read_answer(path), path, request)
        difference = sorted(set(first) ^ set(weights))
        if difference:
            raise MixtureError(f"{request.mixture} and {path} differ in the domains {name_some(difference)}.")
        stages.append(Stage(step, {name: weights[name] for name in first}))
        last = step
    return stages


def _describe(
    content: dict[str, Any], request: ExportRequest, weights: Mapping[str, float], counts: Mapping[str, int] | None
) -> list[str]:
    lines = [f"Made by `causalmix export` from {request.mixture}."]
    if content.get("advice") == "withheld":
        reason = " ".join(str(content.get("reason") or "no reason given").split())
        lines.append(f"ADVICE WAS WITHHELD: {reason}")
        lines.append(
            "These shares are the policy's own answer all the same (--candidate)."
            if request.candidate
            else "These shares are the reference's; --candidate takes the policy's own answer."
        )
    lines.append("Shares of documents: " + ", ".join(f"{name} {share:.4f}" for name, share in weights.items()) + ".")
    if counts is not None:
        lines.append(
            f"Documents: {', '.join(f'{n} {name}' for name, n in counts.items())}; {sum(counts.values())} in all."
        )
    return lines
