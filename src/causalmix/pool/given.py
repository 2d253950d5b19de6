"""Scores that exist already: read with the documents, or from a table joined by id, instead of computed anew."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.config import ScoresConfig
from causalmix.errors import PoolError, name_some, nearest_name
from causalmix.files import read_json
from causalmix.pool.documents import BadRecordError, Problems, parse_id, read_field
from causalmix.pool.hashing import hash_ids
from causalmix.pool.reading import documents_path
from causalmix.pool.records import read_shard
from causalmix.pool.scores import FEATURES, IN_DOCUMENTS
from causalmix.pool.sources import SUFFIXES, cut_file, expand
from causalmix.pool.stage import SUMMARY
from causalmix.pool.table import iterate_column

SCORES_FILE = "given.npy"  # beside the documents, in their order


def name_features(cfg: ScoresConfig) -> tuple[str, ...]:
    """Name the columns of given scores: the keys of ``given_fields``, in the scorers' order where they are theirs.

    Raises
    ------
    PoolError
        For a feature that no scorer makes.
    """
    if not cfg.given_fields:
        return FEATURES
    unknown = [f"{name!r}{nearest_name(name, FEATURES)}" for name in cfg.given_fields if name not in FEATURES]
    absent = [name for name in FEATURES if name not in cfg.given_fields]
    if unknown or absent:
        raise PoolError(
            f"pool.scores.given_fields must name {', '.join(FEATURES)}: "
            + "; ".join(
                [f"unknown {name_some(unknown)}"] * bool(unknown) + [f"missing {name_some(absent)}"] * bool(absent)
            )
        )
    return FEATURES


def parse_scores(cfg: ScoresConfig, record: Mapping[str, Any]) -> list[float]:
    """Read the scores of one record, one a feature.

    Raises
    ------
    BadRecordError
        Naming every score that is missing, null, NaN or no number.
    """
    values, bad = [], []
    for feature in name_features(cfg):
        field = cfg.given_fields.get(feature, feature)
        value = read_field(record, field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            bad.append(f"'{field}' is {'missing or null' if value is None else repr(value)[:40]}")
        else:
            values.append(float(value))
    if bad:
        raise BadRecordError(f"score {name_some(bad)}; pool.scores.given needs a number for {', '.join(FEATURES)}")
    return values


def load_given(cfg: ScoresConfig, root: Path) -> NDArray[np.float64]:
    """Load given scores of all documents of a store that is being made, in its order; shape (n, F).

    Raises
    ------
    PoolError
        Where a table has other documents' scores, lacks some, or holds what is no number; all are named.
    """
    if cfg.given == IN_DOCUMENTS:
        scores: NDArray[np.float64] = np.load(root / "documents" / SCORES_FILE, allow_pickle=False)
        return scores
    return join_table(cfg, root)


def join_table(cfg: ScoresConfig, root: Path) -> NDArray[np.float64]:
    """Join a table of scores to the documents by id, one to one.

    Scores of ids that no document has are refused, unless documents were left out when the pool was made (as
    duplicates, by the domain map or by the subsample).
    """
    documents = list(iterate_column(documents_path(root), "id"))
    ids = hash_ids(documents)
    names, places, scores = _read_table(cfg)
    table = hash_ids(names)
    order = np.argsort(table, kind="stable")
    twice = order[1:][table[order][1:] == table[order][:-1]]
    found = order[np.minimum(np.searchsorted(table[order], ids), len(order) - 1)]
    lacking = np.flatnonzero(table[found] != ids)
    known = np.isin(table, ids)
    problems = [f"{len(twice)} ids twice ({name_some(places[at] for at in twice)})"] * bool(len(twice))
    if len(lacking):
        problems.append(f"no scores for {len(lacking)} documents ({name_some(documents[at] for at in lacking)})")
    leaves_out = any(read_json(root / "documents" / SUMMARY)["left_out"].values())
    others = np.flatnonzero(~known)
    if len(others) and not leaves_out:
        problems.append(f"scores for {len(others)} other ids ({name_some(places[at] for at in others)})")
    if problems:
        raise PoolError(f"pool.scores.given={cfg.given} does not fit the documents: {'; '.join(problems)}.")
    return np.asarray(scores[found])


def _read_table(cfg: ScoresConfig) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Read ids, their places and their scores, shape (n, F); what is no number is named with its line."""
    files = expand(str(cfg.given), "pool.scores.given", SUFFIXES["jsonl"] + SUFFIXES["parquet"])
    names: list[str] = []
    places: list[str] = []
    values = array("d")
    problems = Problems()
    for shard in (shard for path in files for shard in cut_file(path)):
        for line, record in read_shard(shard, problems):
            try:
                scores = parse_scores(cfg, record)
                names.append(parse_id(record, f"{Path(shard.path).name}:{line}"))
            except BadRecordError as problem:
                problems.add(f"{shard.path}:{line}", problem)
                continue
            places.append(f"{names[-1]} at {Path(shard.path).name}:{line}")
            values.extend(scores)
    problems.raise_any(f"pool.scores.given={cfg.given}: scores that cannot be used")
    if not names:
        raise PoolError(f"pool.scores.given={cfg.given} holds no scores.")
    return names, places, np.frombuffer(values, dtype=np.float64).reshape(len(names), -1)
