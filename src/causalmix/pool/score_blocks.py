"""Blocks of scores: 4,096 documents in a row, each block one file, whole or absent.

What a block holds depends on its documents and the scorers alone, never on who scored it: so any number of
processes, machines and attempts give the same scores, and no finished block is scored again.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from causalmix.errors import PoolError, name_some
from causalmix.files import write_atomically
from causalmix.pool.table import BATCH

FOLDER = ".score_blocks"  # of a store that is being made
IDENTITY = b"causalmix.scores"
TRUNCATED = "truncated."


@dataclass(frozen=True)
class ScoreBlocks:
    """The blocks of a store.

    Attributes
    ----------
    folder : Path
    n_documents : int
    features : tuple of str
    identity : str
        Fingerprint of the documents and of everything that decides a score; a file with another is no block
        of this pool.
    """

    folder: Path
    n_documents: int
    features: tuple[str, ...]
    identity: str

    @property
    def count(self) -> int:
        """Blocks in all."""
        return -(-self.n_documents // BATCH)

    def span(self, block: int) -> tuple[int, int]:
        """First position of a block, and the one after its last."""
        return block * BATCH, min((block + 1) * BATCH, self.n_documents)

    def path(self, block: int) -> Path:
        """Where a block is, once it is scored."""
        return self.folder / f"{block:06d}.parquet"

    def is_done(self, block: int) -> bool:
        """Say whether a block is there and whole; a file cut short is removed, to be made again.

        Raises
        ------
        PoolError
            For a block that other scorers or another pool made.
        """
        path = self.path(block)
        if not path.is_file():
            return False
        try:
            with pq.ParquetFile(path) as table:
                found, rows = (table.schema_arrow.metadata or {}).get(IDENTITY, b"").decode(), table.metadata.num_rows
        except (pa.ArrowInvalid, OSError):
            path.unlink(missing_ok=True)
            return False
        start, stop = self.span(block)
        if found != self.identity or rows != stop - start:
            raise PoolError(
                f"{path} holds {rows} scores of another pool or of other scorers (fingerprint {found or 'none'}, "
                f"wanted {self.identity}). Delete the file and run the same command again."
            )
        return True

    def list_missing(self) -> list[int]:
        """List the blocks that are not scored yet."""
        return [block for block in range(self.count) if not self.is_done(block)]

    def write(self, block: int, ids: Sequence[str], raw: NDArray[np.float64], truncated: dict[str, int]) -> None:
        """Write a block, atomically.

        Raises
        ------
        PoolError
            Naming every document with a score that is not a finite number: nothing is written.
        """
        _refuse_broken(ids, raw, self.features)
        start, stop = self.span(block)
        columns = {"position": np.arange(start, stop), "id": list(ids), **dict(zip(self.features, raw.T))}
        facts = {IDENTITY: self.identity.encode()}
        facts |= {f"{TRUNCATED}{name}".encode(): str(count).encode() for name, count in truncated.items()}
        table = pa.table(columns).replace_schema_metadata(facts)
        write_atomically(self.path(block), lambda temporary: pq.write_table(table, temporary))

    def join(self, ids: Sequence[str]) -> tuple[NDArray[np.float64], dict[str, int]]:
        """Put all blocks together, one row a document.

        Parameters
        ----------
        ids : sequence of str
            The pool's, in its order.

        Returns
        -------
        raw : ndarray of float64, shape (n_documents, n_features)
        truncated : dict of str to int

        Raises
        ------
        PoolError
            Naming blocks that are missing or foreign, and ids that are missing, doubled or foreign.
        """
        wanted = {self.path(block).name for block in range(self.count)}
        found_files = {path.name for path in self.folder.glob("*.parquet") if not path.name.startswith(".")}
        strangers = sorted(found_files - wanted)
        missing = self.list_missing()
        if missing or strangers:
            faults = [f"{len(missing)} of {self.count} blocks missing ({name_some(missing)})"] if missing else []
            faults += [f"files that are no block of this pool ({name_some(strangers)})"] if strangers else []
            raise PoolError(f"{self.folder}: {'; '.join(faults)}. Score what is missing and remove what is foreign.")
        raw = np.empty((self.n_documents, len(self.features)))
        truncated: Counter[str] = Counter()
        found: list[str] = []
        for block in range(self.count):
            table = pq.read_table(self.path(block))
            start, stop = self.span(block)
            found += table.column("id").to_pylist()
            raw[start:stop] = np.column_stack([table.column(name).to_numpy() for name in self.features])
            for key, value in (table.schema.metadata or {}).items():
                if key.decode().startswith(TRUNCATED):
                    truncated[key.decode().removeprefix(TRUNCATED)] += int(value)
        _refuse_other_ids(self.folder, ids, found)
        _refuse_broken(ids, raw, self.features)
        return raw, dict(truncated)

    def remove(self) -> None:
        """Delete the blocks: they are in the store's own file now."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _refuse_broken(ids: Sequence[str], raw: NDArray[np.float64], features: Sequence[str]) -> None:
    broken = np.argwhere(~np.isfinite(raw)).tolist()
    if broken:
        named = name_some(f"{ids[row]} ({features[column]} {raw[row, column]})" for row, column in broken)
        raise PoolError(f"{len(broken)} scores are not numbers: {named}. The scorer or the model behind it is broken.")


def _refuse_other_ids(folder: Path, wanted: Sequence[str], found: Sequence[str]) -> None:
    if list(wanted) == list(found):
        return
    counts, known = Counter(found), set(wanted)
    faults = {
        "missing": [identity for identity in wanted if identity not in counts],
        "doubled": [identity for identity, count in counts.items() if count > 1],
        "foreign": [identity for identity in counts if identity not in known],
    }
    said = "; ".join(f"{len(some)} {what}: {name_some(some)}" for what, some in faults.items() if some)
    raise PoolError(
        f"the scores in {folder} are not of this pool's documents ({said or 'the same ids in another order'}). "
        "Delete the folder and score again."
    )
