"""Which documents of the shards a pool keeps: every id once, no duplicates, and of the rest a subsample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.config import PoolConfig, SubsampleConfig
from causalmix.errors import PoolError, name_some, nearest_name
from causalmix.files import read_json
from causalmix.pool.documents import Problems
from causalmix.pool.duplicates import mark_near_duplicates
from causalmix.pool.hashing import mark_repeats
from causalmix.pool.ingest import ShardTask, place_of


@dataclass(frozen=True)
class Selection:
    """What is kept of all documents of all shards, in their order, and what was left out, by cause and domain.

    Attributes
    ----------
    kept : ndarray of bool, shape (n,)
    domain_ids : ndarray of uint16, shape (n,)
        Positions in ``domains``.
    is_reference : ndarray of bool, shape (n,)
    n_characters : ndarray of int64, shape (n,)
    keys : ndarray of uint64, shape (n,)
        Random, but decided by the id.
    domains : list of str
        Sorted, of what is kept.
    left_out : dict
        Cause -> domain (or the source's name for it) -> documents.
    """

    kept: NDArray[np.bool_]
    domain_ids: NDArray[np.uint16]
    is_reference: NDArray[np.bool_]
    n_characters: NDArray[np.int64]
    keys: NDArray[np.uint64]
    domains: list[str]
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)


def collect_problems(cfg: PoolConfig, tasks: Sequence[ShardTask], problems: Problems) -> Counter[str]:
    """Gather what the shards found wrong; return what they dropped, by the source's name for its domain."""
    dropped: Counter[str] = Counter()
    unmapped: Counter[str] = Counter()
    records: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for task in tasks:
        summary = read_json(task.summary)
        problems.extend(summary["problems"]["count"], summary["problems"]["first"])
        dropped.update(summary["dropped"])
        unmapped.update(summary["unmapped"])
        records[task.shard.path] += summary["n_records"]
        wrong[task.shard.path] += summary["problems"]["count"]
    for path, count in records.items():
        if not count and not wrong[path]:
            problems.add(path, "the file is empty: not one document in it")
    if unmapped:
        names = [
            f"{name!r} ({count} documents){nearest_name(name, cfg.domain_map)}"
            for name, count in unmapped.most_common()
        ]
        more = f"\n{problems.count} other problems: {'; '.join(problems.first)}" if problems.count else ""
        example = unmapped.most_common(1)[0][0]
        raise PoolError(
            f"pool {cfg.name}: pool.domain_map has no domain for {len(unmapped)} names of the field "
            f"{cfg.domain_field!r}: {name_some(names, 50)}. Give each a domain, or null to drop its documents: "
            f"'++pool.domain_map={{{example}: null}}'.{more}"
        )
    return dropped


def select_documents(cfg: PoolConfig, tasks: Sequence[ShardTask], problems: Problems) -> Selection:
    """Decide what the pool keeps; ids that repeat go to ``problems``.

    Raises
    ------
    PoolError
        For names that ``pool.domain_map`` lacks, or a subsample larger than what there is.
    """
    dropped = collect_problems(cfg, tasks, problems)
    _check_ids(tasks, problems)
    problems.raise_any(f"pool {cfg.name}: documents that cannot be used")
    names = [read_json(task.summary)["domains"] for task in tasks]
    domains = sorted({name for shard in names for name in shard})
    index = {name: at for at, name in enumerate(domains)}
    domain_ids = np.concatenate(
        [
            np.array([index[name] for name in shard], dtype=np.uint16)[_load(task, "domains")]
            for task, shard in zip(tasks, names)
        ]
    )
    kept = np.ones(len(domain_ids), dtype=bool)
    keys = _join(tasks, "keys")
    left_out: dict[str, dict[str, int]] = {"dropped": dict(sorted(dropped.items()))} if dropped else {}

    def leave_out(cause: str, positions: NDArray[np.int64]) -> None:
        kept[positions] = False
        counts = np.bincount(domain_ids[positions], minlength=len(domains))
        left_out[cause] = {name: int(count) for name, count in zip(domains, counts) if count}

    if cfg.dedup.kind != "off":
        texts = _join(tasks, "texts")
        leave_out("exact_duplicates", np.flatnonzero(mark_repeats(texts) != np.arange(len(texts))))
    if cfg.dedup.kind == "near":
        bands = [task.array("bands") for task in tasks]
        signatures = [task.array("signatures") for task in tasks]
        leave_out("near_duplicates", mark_near_duplicates(kept, bands, signatures, cfg.dedup.threshold))
    if cfg.subsample.n_documents is not None:
        leave_out("not_sampled", np.flatnonzero(kept & ~choose_subsample(cfg.subsample, kept, domain_ids, keys)))
    return _drop_empty_domains(
        Selection(kept, domain_ids, _join(tasks, "references"), _join(tasks, "lengths"), keys, domains, left_out)
    )


def choose_subsample(
    cfg: SubsampleConfig, kept: NDArray[np.bool_], domain_ids: NDArray[np.uint16], keys: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Mark the documents of the subsample: those with the smallest keys, in all or within each domain; shape (n,).

    Raises
    ------
    PoolError
    """
    wanted, available = int(cfg.n_documents or 0), int(kept.sum())
    if not 0 < wanted <= available:
        raise PoolError(f"pool.subsample.n_documents={wanted}, but {available} documents are there (1 or more needed).")
    if cfg.by not in ("none", "domain"):
        raise PoolError(f"pool.subsample.by={cfg.by!r} is not one of none, domain.")
    groups = domain_ids if cfg.by == "domain" else np.zeros(len(kept), dtype=np.uint16)
    sizes = np.bincount(groups[kept])
    exact = wanted * sizes / available
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")  # the largest remainder: shares as exact as whole numbers are
    counts[largest[: wanted - int(counts.sum())]] += 1
    chosen = np.zeros(len(kept), dtype=bool)
    for group, count in enumerate(counts):
        members = np.flatnonzero(kept & (groups == group))
        chosen[members[np.argsort(keys[members], kind="stable")[:count]]] = True
    return chosen


def _check_ids(tasks: Sequence[ShardTask], problems: Problems) -> None:
    ids = _join(tasks, "ids")
    first = mark_repeats(ids)
    repeats = np.flatnonzero(first != np.arange(len(ids)))
    starts = np.cumsum([0, *(len(_load(task, "lines")) for task in tasks)])
    for at in repeats[: problems.limit].tolist():
        (task, row), (other, other_row) = (_locate(tasks, starts, place) for place in (at, int(first[at])))
        place = f"{Path(other.shard.path).name}:{_load(other, 'lines')[other_row]}"
        name = _read_id(task, row)
        problems.add(
            place_of(task.shard, int(_load(task, "lines")[row])), f"duplicate id {name!r}, first seen at {place}"
        )
    problems.extend(max(0, len(repeats) - problems.limit), [])


def _locate(tasks: Sequence[ShardTask], starts: NDArray[np.int64], position: int) -> tuple[ShardTask, int]:
    at = int(np.searchsorted(starts, position, side="right")) - 1
    return tasks[at], position - int(starts[at])


def _read_id(task: ShardTask, row: int) -> str:
    from causalmix.pool.table import iterate_column

    return str(next(name for at, name in enumerate(iterate_column(task.table, "id")) if at == row))


def _drop_empty_domains(selection: Selection) -> Selection:
    """Number only the domains of which something is kept."""
    counts = np.bincount(selection.domain_ids[selection.kept], minlength=len(selection.domains))
    alive = np.flatnonzero(counts)
    renumber = np.zeros(max(1, len(counts)), dtype=np.uint16)
    renumber[alive] = np.arange(len(alive), dtype=np.uint16)
    return Selection(
        selection.kept,
        renumber[selection.domain_ids],
        selection.is_reference,
        selection.n_characters,
        selection.keys,
        [selection.domains[at] for at in alive],
        selection.left_out,
    )


def _join(tasks: Sequence[ShardTask], name: str) -> NDArray[Any]:
    return np.concatenate([_load(task, name) for task in tasks])


def _load(task: ShardTask, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(task.array(name), allow_pickle=False)
    return array
