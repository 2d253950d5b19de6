"""From records to documents, shard by shard: each shard becomes a table of its own, written once, in any process.

Every offending record of every shard is collected before anything is raised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from causalmix.config import PoolConfig
from causalmix.files import write_json
from causalmix.pool.demo.generate import generate_documents
from causalmix.pool.documents import (
    BadRecordError,
    Document,
    HeldoutDocument,
    Problems,
    UnmappedError,
    parse_domain,
    parse_id,
    parse_messages,
    parse_name,
    parse_quality,
    require_known,
)
from causalmix.pool.duplicates import Bands, hash_bands
from causalmix.pool.given import parse_scores
from causalmix.pool.hashing import HASH_TYPE, draw_key, hash_text, is_reference, join_hashes
from causalmix.pool.records import read_shard
from causalmix.pool.scores import IN_DOCUMENTS
from causalmix.pool.signature import Signer
from causalmix.pool.sources import Shard, Sources, cut_file
from causalmix.pool.table import DocumentWriter

ARRAYS: dict[str, Any] = {
    "ids": HASH_TYPE,
    "texts": HASH_TYPE,
    "keys": np.uint64,
    "lines": np.int64,
    "domains": np.int32,
    "references": np.bool_,
    "lengths": np.int64,
    "signatures": np.uint32,
    "scores": np.float64,
}


@dataclass
class Tally:
    """What one shard's reader counts beside its documents."""

    n_records: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    unmapped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ShardTask:
    """One shard to read, and where its table goes: ``<folder>/<number>.*``."""

    cfg: PoolConfig
    shard: Shard
    folder: Path
    number: int
    bands: Bands | None = None  # near-duplicates: how signatures are cut

    @property
    def summary(self) -> Path:
        """The file that says the shard is done; written last."""
        return self.folder / f"{self.number:05d}.json"

    @property
    def table(self) -> Path:
        """Its documents."""
        return self.folder / f"{self.number:05d}.parquet"

    def array(self, name: str) -> Path:
        """One value a document."""
        return self.folder / f"{self.number:05d}.{name}.npy"

    @cached_property
    def is_done(self) -> bool:
        """Whether it need not be read again."""
        return self.summary.is_file()


def ingest_shard(task: ShardTask) -> int:
    """Read a shard and write its documents, hashes and signatures; return how many records it had.

    Memory holds a few hundred documents and some hundred bytes for each of the shard's others.
    """
    cfg = task.cfg
    problems, tally = Problems(), Tally()
    signer = Signer(cfg.dedup) if task.bands else None
    columns: dict[str, list[Any]] = {name: [] for name in ARRAYS}
    names: dict[str, int] = {}
    with DocumentWriter(task.table) as writer:
        for line, document, scores in read_documents(cfg, task.shard, problems, tally):
            is_kept = is_reference(document.id, cfg.seed, cfg.reference_fraction)
            writer.add(document, is_reference=is_kept)
            text = "\x00".join(f"{message.role}\x01{message.content}" for message in document.messages)
            columns["ids"].append(hash_text(document.id))
            columns["texts"].append(hash_text(text))
            columns["keys"].append(draw_key(f"subsample:{cfg.subsample.seed}:{document.id}"))
            columns["lines"].append(line)
            columns["domains"].append(names.setdefault(document.domain, len(names)))
            columns["references"].append(is_kept)
            columns["lengths"].append(sum(len(message.content) for message in document.messages))
            if signer:
                columns["signatures"].append(signer.sign(message.content for message in document.messages))
            if scores is not None:
                columns["scores"].append(scores)
    for name, values in columns.items():
        if name in ("ids", "texts"):
            np.save(task.array(name), join_hashes(values))
        elif name != "signatures" and (values or name != "scores"):
            np.save(task.array(name), np.asarray(values, dtype=ARRAYS[name]))
    if task.bands:
        signatures = np.asarray(columns["signatures"], dtype=np.uint32).reshape(-1, cfg.dedup.num_perm)
        np.save(task.array("signatures"), signatures)
        np.save(task.array("bands"), hash_bands(signatures, task.bands))
    write_json(
        task.summary,
        {
            "n_records": tally.n_records,
            "n_documents": len(columns["ids"]),
            "domains": list(names),
            "problems": {"count": problems.count, "first": problems.first},
            "dropped": dict(tally.dropped),
            "unmapped": dict(tally.unmapped),
        },
    )
    return tally.n_records


def read_documents(
    cfg: PoolConfig, shard: Shard, problems: Problems, tally: Tally
) -> Iterator[tuple[int, Document, list[float] | None]]:
    """Yield line, document and given scores (if any) of every good record; offenders go to ``problems``."""
    if shard.kind == "demo":
        for line, document in enumerate(generate_documents(cfg), start=1):
            tally.n_records += 1
            yield line, document, None
        return
    wants_quality = cfg.scores.given is None and cfg.scores.rater.path is None and cfg.scores.rater.pairs == "quality"
    name = Path(shard.path).name
    for line, record in read_shard(shard, problems, lambda split: _open_split(cfg, split)):
        tally.n_records += 1
        try:
            identity = parse_id(record, f"{name}:{line}" if shard.kind != "hf" else f"{shard.name}:{line}")
            domain = parse_domain(record, cfg.domain_field, shard.name, cfg.domain_map or {})
            if domain is None:
                tally.dropped[str(record.get(cfg.domain_field, shard.name))] += 1
                continue
            require_known(domain, cfg.domains)
            quality = parse_quality(record) if wants_quality else None
            document = Document(identity, domain, parse_messages(record), quality)
            scores = parse_scores(cfg.scores, record) if cfg.scores.given == IN_DOCUMENTS else None
        except UnmappedError as problem:
            tally.unmapped[problem.name] += 1
        except BadRecordError as problem:
            problems.add(place_of(shard, line), problem)
        else:
            yield line, document, scores


def read_heldout(cfg: PoolConfig, sources: Sources, problems: Problems) -> Iterator[HeldoutDocument]:
    """Yield every good held-out document; offenders go to ``problems``.

    Its ability and its task are its fields of those names, else its domain.
    """
    seen: dict[str, str] = {}
    for shard in (shard for path in sources.heldout for shard in cut_file(path)):
        count = 0
        for line, record in read_shard(shard, problems):
            count += 1
            place = f"{Path(shard.path).name}:{line}"
            try:
                identity = parse_id(record, place)
                if identity in seen:
                    raise BadRecordError(f"duplicate id {identity!r}, first seen at {seen[identity]}")
                seen[identity] = place
                domain = parse_name(record, cfg.domain_field, shard.name)
                ability = parse_name(record, "ability", domain)
                task = parse_name(record, "task", domain)
                split = parse_name(record, "split", "dev") if record.get("split") is not None else None
                document = HeldoutDocument(identity, ability, task, split, parse_messages(record))
            except BadRecordError as problem:
                problems.add(place_of(shard, line), problem)
            else:
                yield document
        if not count and not problems.count and shard.start == 0:
            problems.add(shard.path, "the file is empty: not one document in it")


def place_of(shard: Shard, line: int) -> str:
    """Name a record's place in messages."""
    return f"{shard.path} (split {shard.name}):{line}" if shard.kind == "hf" else f"{shard.path}:{line}"


def _open_split(cfg: PoolConfig, name: str) -> Any:
    from causalmix.pool.hub import open_splits

    return open_splits(cfg)[name]
