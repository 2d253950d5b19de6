"""Scores that exist already: read with the documents, or from a table joined by id, instead of computed anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.config import ScoresConfig
from causalmix.errors import PoolError, name_some, nearest_name
from causalmix.files import read_json
from causalmix.pool.reading import documents_path
from causalmix.pool.scores import FEATURES, IN_DOCUMENTS
from causalmix.pool.scores.extra import make_scorers, read_entries
from causalmix.pool.scores.given import GivenScores, ScoreTable, read_numbers
from causalmix.pool.stage import SUMMARY
from causalmix.pool.table import read_column

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


def name_fields(cfg: ScoresConfig) -> list[str]:
    """Say where each of the three scores stands."""
    fields = cfg.given_fields or {}
    return [str(fields.get(feature, feature)) for feature in name_features(cfg)]


def parse_scores(cfg: ScoresConfig, record: Mapping[str, Any]) -> list[float]:
    """Read the scores of one record, one a feature.

    Raises
    ------
    BadRecordError
        Naming every score that is missing, null, NaN or no number.
    """
    return read_numbers(record, name_fields(cfg))


def check_given(scores: ScoresConfig, root: Path) -> None:
    """Refuse tables of given scores that are not the pool's, one row a document, before anything is made of it.

    Raises
    ------
    PoolError
        Naming ids that are missing, doubled or foreign, and what is no number.
    """
    if scores.given:
        load_given(scores, root)
    given = {name: scores.extra[name] for name, (kind, _) in read_entries(scores.extra).items() if kind == "given"}
    if not given:
        return
    ids = read_column(documents_path(root), "id")
    for name, scorer in make_scorers(given).items():
        assert isinstance(scorer, GivenScores)
        try:
            scorer.check(ids, knows_more=_left_some_out(root))
        except PoolError as error:
            raise PoolError(f"pool.scores.extra.{name}: {error}") from error


def load_given(cfg: ScoresConfig, root: Path) -> NDArray[np.float64]:
    """Load given scores of all documents of a store that is being made, in its order; shape (n, F).

    Scores of ids that no document has are refused, unless documents were left out when the pool was made (as
    duplicates, by the domain map or by the subsample).

    Raises
    ------
    PoolError
        Where a table has other documents' scores, lacks some, or holds what is no number; all are named.
    """
    if cfg.given == IN_DOCUMENTS:
        scores: NDArray[np.float64] = np.load(root / "documents" / SCORES_FILE, allow_pickle=False)
        return scores
    table = ScoreTable(str(cfg.given), name_fields(cfg), key="pool.scores.given")
    return table.join(read_column(documents_path(root), "id"), knows_more=_left_some_out(root))


def _left_some_out(root: Path) -> bool:
    return any(read_json(root / "documents" / SUMMARY)["left_out"].values())
