"""What a pool is read from: files (one, a folder, a glob) or a dataset, cut into shards of about equal work.

A shard is the unit of work and of restarting. The cut depends on the sources alone, never on the number of
processes, so that the result does not either.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalmix.config import PoolConfig
from causalmix.errors import PoolError
from causalmix.pool.checksum import Checksums

SUFFIXES = {"jsonl": (".jsonl", ".jsonl.gz"), "parquet": (".parquet",)}
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
HELDOUT_PREFIX = "heldout-"
TRAIN_PREFIX = "train-"
SHARD_BYTES = 32 * 2**20  # of JSON lines
SHARD_ROWS = 20_000  # of tables and datasets
ROW_BYTES, PACKED = 1000, 4  # a guess at a row's text, and at how much smaller files are than it


@dataclass(frozen=True)
class Shard:
    """A part of a source.

    Attributes
    ----------
    path : str
        File, or dataset.
    kind : str
        demo, jsonl, gzip, parquet or hf.
    name : str
        The domain of documents that name none: the file's, or the split's.
    start, stop : int
        Bytes (jsonl), row groups (parquet) or rows (hf); the whole file where it cannot be cut (gzip).
    first : int
        Number of the first line or row, from 1.
    count : int
        Lines or rows, where they are known before it is read.
    """

    path: str
    kind: str
    name: str
    start: int = 0
    stop: int = 0
    first: int = 1
    count: int = 0

    @property
    def n_bytes(self) -> int:
        """About how much text it holds."""
        if self.kind == "jsonl":
            return self.stop - self.start
        if self.kind in ("demo", "hf"):
            return (self.stop - self.start) * ROW_BYTES
        return PACKED * Path(self.path).stat().st_size

    @property
    def n_records(self) -> int:
        """Lines or rows; of a gzipped file an estimate."""
        return self.count or self.n_bytes // ROW_BYTES


@dataclass(frozen=True)
class Sources:
    """What to read: for training and for evaluation, files sorted by name; or datasets by split."""

    train: tuple[Path, ...]
    heldout: tuple[Path, ...]
    identity: Any = None  # of a dataset: what stands for its content

    def hash_content(self, checksums: Checksums | None = None) -> Any:
        """Name and SHA-256 of every file, so that a changed file makes another pool."""
        if self.identity is not None:
            return self.identity
        files = (*self.train, *self.heldout)
        digests = (checksums or Checksums(None)).hash_files(files)
        return [[path.name, digest] for path, digest in zip(files, digests)]


def find_sources(cfg: PoolConfig, checksums: Checksums | None = None) -> Sources:
    """Find what ``cfg.path`` and ``cfg.heldout_path`` name.

    Raises
    ------
    PoolError
        For a path that is missing, holds no file of the right kind, or holds held-out files alone.
    """
    if not cfg.path:
        what = "a saved dataset or a Hub name" if cfg.source == "hf" else "a file, a folder or a glob of documents"
        raise PoolError(f"pool.source={cfg.source} needs pool.path: {what}.")
    if cfg.source == "hf":
        from causalmix.pool.hub import identify_dataset

        heldout = expand(cfg.heldout_path, "pool.heldout_path", SUFFIXES["jsonl"]) if cfg.heldout_path else ()
        identity = identify_dataset(cfg, checksums or Checksums(None))
        held = Sources((), heldout).hash_content(checksums)
        return Sources((), heldout, {"dataset": identity, "heldout": held} if held else {"dataset": identity})
    found = expand(cfg.path, "pool.path", SUFFIXES[cfg.source])
    train = tuple(path for path in found if not path.name.startswith(HELDOUT_PREFIX))
    heldout = tuple(path for path in found if path.name.startswith(HELDOUT_PREFIX))
    if cfg.heldout_path:
        heldout = expand(cfg.heldout_path, "pool.heldout_path", SUFFIXES[cfg.source])
        train = tuple(path for path in train if path not in heldout)
    if not train:
        raise PoolError(
            f"pool.path={cfg.path} holds only held-out files ({HELDOUT_PREFIX}*); training needs others, "
            f"such as train-<domain>.jsonl.gz."
        )
    return Sources(train, heldout)


def plan_shards(cfg: PoolConfig, sources: Sources | None) -> list[Shard]:
    """Cut the training documents into shards, in their order."""
    if sources is None:
        return [Shard("demo", "demo", "demo", 0, cfg.n_documents, count=cfg.n_documents)]
    if cfg.source == "hf":
        from causalmix.pool.hub import open_splits

        return [
            Shard(str(cfg.path), "hf", name, start, stop, start + 1, stop - start)
            for name, split in open_splits(cfg).items()
            for start in range(0, max(1, len(split)), SHARD_ROWS)
            for stop in [min(start + SHARD_ROWS, len(split))]
        ]
    return [shard for path in sources.train for shard in cut_file(path)]


def cut_file(path: Path) -> list[Shard]:
    """Cut one file: JSON lines at line ends, Parquet between row groups; what is compressed whole stays whole."""
    name = name_of(path)
    if path.name.endswith(".gz"):
        return [Shard(str(path), "gzip", name)]
    if path.suffix == ".parquet":
        return [Shard(str(path), "parquet", name, *cut) for cut in _cut_row_groups(path)]
    return [Shard(str(path), "jsonl", name, *cut) for cut in _cut_lines(path)]


def name_of(path: Path) -> str:
    """Read a domain off a file's name: ``train-math.jsonl.gz`` is math."""
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return stem.removeprefix(TRAIN_PREFIX).removeprefix(HELDOUT_PREFIX)


def expand(given: str, key: str, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    """Find the files that a path, a folder or a glob names, sorted; only files of these kinds.

    Raises
    ------
    PoolError
    """
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
        hint = " Archives are not read: unpack them." if any(c.name.endswith(ARCHIVES) for c in candidates) else ""
        raise PoolError(f"{key}={given} holds no {' or '.join(suffixes)} file (found: {names}).{hint}")
    return found


def _cut_lines(path: Path) -> Iterator[tuple[int, int, int, int]]:
    """Yield first byte, byte after the last, number of the first line, and lines of each shard."""
    size = path.stat().st_size
    start, line = 0, 1
    with path.open("rb") as handle:
        while True:
            stop, lines = start, 0
            handle.seek(start)
            while chunk := handle.read(2**20):
                if stop - start + len(chunk) >= SHARD_BYTES and (end := chunk.find(b"\n")) >= 0:
                    lines += 1
                    stop += end + 1
                    break
                lines += chunk.count(b"\n")
                stop += len(chunk)
            yield start, stop, line, lines
            start, line = stop, line + lines
            if start >= size:
                return


def _cut_row_groups(path: Path) -> Iterator[tuple[int, int, int, int]]:
    """Yield first row group, the one after the last, number of the first row, and rows of each shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            counts = [table.metadata.row_group(at).num_rows for at in range(table.num_row_groups)]
    except (pa.ArrowException, OSError):
        yield 0, 0, 1, 0  # reading it will say what is wrong
        return
    start, row = 0, 1
    while start < max(1, len(counts)):
        stop, rows = start, 0
        while stop < len(counts) and (rows == 0 or rows + counts[stop] <= SHARD_ROWS):
            rows += counts[stop]
            stop += 1
        yield start, stop, row, rows
        start, row = max(stop, 1), row + rows
