"""Reading documents: JSONL (gzip or not) and Parquet, one file, a folder or a glob, checked line by line.

Only the given paths are read. Every offending record of every file is collected before anything is raised.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from causalmix.config import PoolConfig
from causalmix.errors import PoolError
from causalmix.pool.documents import (
    BadRecordError,
    Document,
    HeldoutDocument,
    Problems,
    parse_id,
    parse_messages,
    parse_name,
    parse_quality,
    require_known,
)

SUFFIXES = {"jsonl": (".jsonl", ".jsonl.gz"), "parquet": (".parquet",)}
HELDOUT_PREFIX = "heldout-"
TRAIN_PREFIX = "train-"


@dataclass(frozen=True)
class Sources:
    """Files to read: for training and for evaluation, each sorted by name."""

    train: tuple[Path, ...]
    heldout: tuple[Path, ...]

    def hash_content(self) -> list[list[str]]:
        """Name and SHA-256 of every file, so that a changed file makes another pool."""
        hashes = []
        for path in (*self.train, *self.heldout):
            with path.open("rb") as handle:
                hashes.append([path.name, hashlib.file_digest(handle, "sha256").hexdigest()])
        return hashes


def find_sources(cfg: PoolConfig) -> Sources:
    """Find the files that ``cfg.path`` and ``cfg.heldout_path`` name.

    Raises
    ------
    PoolError
        For a path that is missing, holds no file of the right kind, or holds held-out files alone.
    """
    if not cfg.path:
        raise PoolError(f"pool.source={cfg.source} needs pool.path: a file, a folder or a glob of documents.")
    found = _expand(cfg.path, "pool.path", SUFFIXES[cfg.source])
    train = tuple(path for path in found if not path.name.startswith(HELDOUT_PREFIX))
    heldout = tuple(path for path in found if path.name.startswith(HELDOUT_PREFIX))
    if cfg.heldout_path:
        heldout = _expand(cfg.heldout_path, "pool.heldout_path", SUFFIXES[cfg.source])
        train = tuple(path for path in train if path not in heldout)
    if not train:
        raise PoolError(
            f"pool.path={cfg.path} holds only held-out files ({HELDOUT_PREFIX}*); training needs others, "
            f"such as train-<domain>.jsonl.gz."
        )
    return Sources(train, heldout)


def read_documents(
    cfg: PoolConfig, sources: Sources, problems: Problems, *, progress: bool = True
) -> Iterator[Document]:
    """Yield every good training document; offenders go to ``problems``.

    Yields
    ------
    Document
        In the order of the files and their lines.
    """
    seen: dict[str, str] = {}
    wants_quality = cfg.scores.rater.path is None and cfg.scores.rater.pairs == "quality"
    for path in sources.train:
        file_domain = _stem(path).removeprefix(TRAIN_PREFIX)
        for line, record in _read_records(path, problems, progress=progress):
            try:
                identity = _register(record, path, line, seen)
                domain = parse_name(record, cfg.domain_field, file_domain)
                require_known(domain, cfg.domains)
                quality = parse_quality(record) if wants_quality else None
                document = Document(identity, domain, parse_messages(record), quality)
            except BadRecordError as problem:
                problems.add(f"{path}:{line}", problem)
            else:
                yield document


def read_heldout(
    cfg: PoolConfig, sources: Sources, problems: Problems, *, progress: bool = True
) -> Iterator[HeldoutDocument]:
    """Yield every good held-out document; offenders go to ``problems``.

    Its ability and its task are its fields of those names, else its domain.
    """
    seen: dict[str, str] = {}
    for path in sources.heldout:
        file_domain = _stem(path).removeprefix(HELDOUT_PREFIX)
        for line, record in _read_records(path, problems, progress=progress):
            try:
                identity = _register(record, path, line, seen)
                domain = parse_name(record, cfg.domain_field, file_domain)
                ability = parse_name(record, "ability", domain)
                task = parse_name(record, "task", domain)
                split = parse_name(record, "split", "dev") if record.get("split") is not None else None
                document = HeldoutDocument(identity, ability, task, split, parse_messages(record))
            except BadRecordError as problem:
                problems.add(f"{path}:{line}", problem)
            else:
                yield document


def _expand(given: str, key: str, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    path = Path(given).expanduser()
    if path.is_file():
        candidates = [path]
    elif path.is_dir():
        candidates = [child for child in path.iterdir() if child.is_file() and not child.name.startswith(".")]
    else:
        # glob.glob knows absolute patterns, which Path.glob refuses.
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207
        candidates = [Path(match) for match in matches if Path(match).is_file()]
        if not candidates:
            raise PoolError(f"{key}={given}: no such file or folder, and as a glob it matches nothing.")
    found = tuple(sorted(child for child in candidates if child.name.endswith(suffixes)))
    if not found:
        names = ", ".join(sorted(child.name for child in candidates)[:10]) or "an empty folder"
        raise PoolError(f"{key}={given} holds no {' or '.join(suffixes)} file (found: {names}).")
    return found


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    return name.rsplit(".", 1)[0]


def _register(record: dict[str, Any], path: Path, line: int, seen: dict[str, str]) -> str:
    identity = parse_id(record, f"{path.name}:{line}")
    place = f"{path.name}:{line}"
    if identity in seen:
        raise BadRecordError(f"duplicate id {identity!r}, first seen at {seen[identity]}")
    seen[identity] = place
    return identity


def _read_records(path: Path, problems: Problems, *, progress: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    read = _read_parquet if path.suffix == ".parquet" else _read_jsonl
    bar = tqdm(desc=f"read {path.name}", unit="doc", disable=None if progress else True, leave=False)
    count, before = 0, problems.count
    with bar:
        for place in read(path, problems):
            count += 1
            bar.update()
            yield place
    if not count and problems.count == before:
        problems.add(str(path), "the file is empty: not one document in it")


def _read_jsonl(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    line = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
            for line, raw in enumerate(handle, start=1):
                if not raw.strip():
                    continue
                try:
                    record = json.loads(raw)
                except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
                    problems.add(f"{path}:{line}", f"not JSON ({error})")
                    continue
                if isinstance(record, dict):
                    yield line, record
                else:
                    problems.add(f"{path}:{line}", f"not a JSON object but a {type(record).__name__}")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        problems.add(f"{path}:{line + 1}", f"the gzip stream is damaged or cut short ({error})")


def _read_parquet(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=4096):
                for record in batch.to_pylist():
                    row += 1
                    yield row, record
    except (pa.ArrowException, OSError) as error:
        problems.add(f"{path}:{row + 1}", f"not a whole Parquet file ({error})")
