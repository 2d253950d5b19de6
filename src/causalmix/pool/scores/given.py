"""Scores that somebody else made: read from a table, joined to the documents one to one by their ids."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import PoolError, name_some
from causalmix.pool.scores.scorer import ScoredText

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")


class GivenScores:
    """One column of a table of scores.

    Parameters
    ----------
    path : str
        JSON lines or Parquet.
    column : str
        Where the score stands; ``scores.HES`` looks into an object.
    id_field : str
        Where the document's id stands.

    Raises
    ------
    PoolError
        Naming, with its place, every row without an id or with a score that is no finite number.
    """

    def __init__(self, path: str, column: str, id_field: str = "id") -> None:
        self.path, self.column = path, column
        if not Path(path).is_file() or not path.endswith(ENDINGS):
            raise PoolError(f"path={path} of given scores is no file that ends in {', '.join(ENDINGS)}.")
        wrong: list[str] = []
        self.scores: dict[str, float] = {}
        seen: Counter[str] = Counter()
        for place, row in _read_rows(Path(path)):
            identity, value = _find(row, id_field), _find(row, column)
            if identity is None or isinstance(value, bool) or not isinstance(value, int | float):
                wrong.append(f"{place} (id {identity!r}, {column} {value!r})")
            elif not math.isfinite(value):
                wrong.append(f"{place} (id {identity!r}, {column} {value})")
            else:
                seen[str(identity)] += 1
                self.scores[str(identity)] = float(value)
        if wrong:
            raise PoolError(f"{path}: {len(wrong)} rows without an id or a finite {column}: {name_some(wrong)}.")
        self.doubled = [identity for identity, count in seen.items() if count > 1]

    def check(self, ids: Sequence[str]) -> None:
        """Refuse a table that is not the pool's, one row a document.

        Raises
        ------
        PoolError
            Naming the ids that are missing, doubled or foreign.
        """
        known = set(ids)
        missing = [identity for identity in ids if identity not in self.scores]
        foreign = [identity for identity in self.scores if identity not in known]
        faults = [
            f"{len(some)} {what} ({name_some(some)})"
            for what, some in (
                ("documents without a score", missing),
                ("ids that stand there twice", self.doubled),
                ("ids that are not the pool's", foreign),
            )
            if some
        ]
        if faults:
            raise PoolError(f"{self.path}: {'; '.join(faults)}. Scores are joined one to one by id.")

    def __call__(self, texts: Sequence[ScoredText]) -> NDArray[np.float64]:
        """Look the documents up."""
        return np.array([self.scores[text.id] for text in texts], dtype=np.float64)


def _read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as table:
                at = 0
                for batch in table.iter_batches():
                    for row in batch.to_pylist():
                        at += 1
                        yield f"{path.name}, row {at}", row
        except (pa.ArrowInvalid, OSError) as error:
            raise PoolError(f"{path} cannot be read as Parquet: {error}") from error
        return
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for at, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path.name}, line {at}", json.loads(line)
        except (ValueError, EOFError, OSError) as error:
            raise PoolError(f"{path} is not whole JSON lines: {error}") from error


def _find(row: Any, name: str) -> Any:
    if isinstance(row, dict) and name in row:
        return row[name]
    for part in name.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row
