"""Scores that somebody else made: read from a table, joined to the documents one to one by their ids."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import PoolError, name_some
from causalmix.pool.documents import BadRecordError, Problems, parse_id, read_field
from causalmix.pool.hashing import hash_ids
from causalmix.pool.records import read_shard
from causalmix.pool.scores.scorer import ScoredText
from causalmix.pool.sources import SUFFIXES, cut_file, expand


class ScoreTable:
    """Columns of a table of scores, found by the documents' ids.

    Memory holds each row's id and 16 + 8 x columns bytes.

    Parameters
    ----------
    path : str
        JSON lines, gzipped or not, or Parquet: a file, a folder or a glob.
    columns : sequence of str
        Where each score stands; ``scores.HES`` looks into an object.
    id_field : str
        Where the document's id stands.
    key : str
        The setting that ``path`` is, for messages.

    Raises
    ------
    PoolError
        Naming, with its line, every row without an id or with a score that is no finite number.
    """

    def __init__(self, path: str, columns: Sequence[str], id_field: str = "id", *, key: str = "path") -> None:
        self.name = f"{key}={path}"
        self.shards = [shard for file in find_tables(path, key) for shard in cut_file(file)]
        self.ids: list[str] = []
        values, places = array("d"), array("q")
        problems = Problems()
        for number, shard in enumerate(self.shards):
            for line, record in read_shard(shard, problems):
                try:
                    identity, scores = _read_id(record, id_field), read_numbers(record, columns)
                except BadRecordError as problem:
                    problems.add(f"{shard.path}:{line}", problem)
                    continue
                self.ids.append(identity)
                values.extend(scores)
                places.extend((number, line))
        problems.raise_any(f"{self.name}: scores that cannot be used")
        self.scores = np.frombuffer(values, dtype=np.float64).reshape(len(self.ids), len(columns))
        self.places = np.frombuffer(places, dtype=np.int64).reshape(-1, 2)
        hashes = hash_ids(self.ids)
        self.order = np.argsort(hashes, kind="stable")
        self.hashes = hashes[self.order]

    def join(self, ids: Sequence[str], *, knows_more: bool = False) -> NDArray[np.float64]:
        """Join the scores to documents, one to one; shape (n, n_columns).

        Parameters
        ----------
        ids : sequence of str
        knows_more : bool
            Whether scores of ids that are not among them are fine: of documents that a pool left out.

        Raises
        ------
        PoolError
            Naming the ids that are missing, stand there twice or are of no document.
        """
        wanted = hash_ids(ids)
        rows, is_found = self._find(wanted)
        lacking = np.flatnonzero(~is_found)
        twice = self.order[1:][self.hashes[1:] == self.hashes[:-1]]
        others = np.zeros(0, dtype=np.int64) if knows_more else np.sort(self.order[~np.isin(self.hashes, wanted)])
        faults = []
        if len(lacking):
            faults.append(f"no scores for {len(lacking)} documents ({name_some(ids[at] for at in lacking.tolist())})")
        if len(twice):
            faults.append(f"{len(twice)} ids twice ({self._name(np.sort(twice))})")
        if len(others):
            faults.append(f"scores for {len(others)} other ids ({self._name(others)})")
        if faults:
            raise PoolError(f"{self.name} does not fit the documents: {'; '.join(faults)}.")
        return np.asarray(self.scores[rows])

    def look_up(self, ids: Sequence[str]) -> NDArray[np.float64]:
        """Scores of ids that :meth:`join` has found here; shape (n, n_columns)."""
        return np.asarray(self.scores[self._find(hash_ids(ids))[0]])

    def _find(self, wanted: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if not len(self.order):
            return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=np.bool_)
        at = np.minimum(np.searchsorted(self.hashes, wanted), len(self.order) - 1)
        return self.order[at], np.asarray(self.hashes[at] == wanted)

    def _name(self, rows: NDArray[np.int64]) -> str:
        places = ((row, *self.places[row].tolist()) for row in rows)
        return name_some(f"{self.ids[row]} at {Path(self.shards[of].path).name}:{line}" for row, of, line in places)


class GivenScores:
    """One column of a table of scores, as a scorer; parameters and errors are those of :class:`ScoreTable`."""

    def __init__(self, path: str, column: str, id_field: str = "id") -> None:
        self.table = ScoreTable(path, [column], id_field)

    def check(self, ids: Sequence[str], *, knows_more: bool = False) -> None:
        """Refuse a table that is not the pool's, one row a document."""
        self.table.join(ids, knows_more=knows_more)

    def __call__(self, texts: Sequence[ScoredText]) -> NDArray[np.float64]:
        """Look the documents up."""
        return self.table.look_up([text.id for text in texts])[:, 0]


def find_tables(path: str, key: str = "path") -> tuple[Path, ...]:
    """Find the files of a table of scores, sorted.

    Raises
    ------
    PoolError
        For a path that is missing or holds no table.
    """
    return expand(path, key, SUFFIXES["jsonl"] + SUFFIXES["parquet"])


def read_numbers(record: Mapping[str, Any], fields: Sequence[str]) -> list[float]:
    """Read the scores of one record.

    Raises
    ------
    BadRecordError
        Naming every score that is missing, null, NaN or no number.
    """
    values, bad = [], []
    for field in fields:
        value = read_field(record, field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            bad.append(f"'{field}' is {'missing or null' if value is None else repr(value)[:40]}")
        else:
            values.append(float(value))
    if bad:
        raise BadRecordError(f"score {name_some(bad)}; a score is a finite number")
    return values


def _read_id(record: Mapping[str, Any], field: str) -> str:
    identity = read_field(record, field)
    if identity is None:
        raise BadRecordError(f"no '{field}': scores are joined to documents by it")
    return parse_id({"id": identity}, "")
