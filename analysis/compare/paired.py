"""The comparison: each arm's mean over seeds, and its difference to the reference arm, paired over seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.compare.arms import Arms
from causalmix.errors import AnalysisError, name_some
from causalmix.table.paired import Estimate, estimate_mean


@dataclass(frozen=True)
class ArmRow:
    """One arm in one group.

    Attributes
    ----------
    group : dict
        Values of the columns that are compared apart: pool, model, size.
    arm : str
    seeds : tuple of int
        Trainings behind the means.
    dev : Estimate
        Outcome, points.
    unseen : Estimate or None
        The same on the unseen split.
    gain, gain_unseen : Estimate or None
        Mean of the differences to the reference arm on the seeds that both have; None for the reference
        itself, and where they share none.
    """

    group: dict[str, Any]
    arm: str
    seeds: tuple[int, ...]
    dev: Estimate
    unseen: Estimate | None
    gain: Estimate | None
    gain_unseen: Estimate | None


@dataclass(frozen=True)
class Comparison:
    """Everything that is shown.

    Attributes
    ----------
    rows : tuple of ArmRow
        In the order of groups and arms in the table, the reference first.
    reference : str
    confidence : float
    mixtures : dict of str to dict of str to float
    notes : tuple of str
    """

    rows: tuple[ArmRow, ...]
    reference: str
    confidence: float
    mixtures: dict[str, dict[str, float]]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a figure that one seed cannot give is null."""
        return {
            "reference": self.reference,
            "confidence": self.confidence,
            "rows": [{**asdict(row), "seeds": list(row.seeds)} for row in self.rows],
            "mixtures": self.mixtures,
            "notes": list(self.notes),
        }


def compare_arms(arms: Arms, reference: str, confidence: float) -> Comparison:
    """Compare arms within each group.

    The difference of arm a over the reference r is ``mean_s (Y_as - Y_rs)`` over the seeds s that both were
    trained with, so what a seed does to both (its pool, its base, its order of documents) cancels.

    Parameters
    ----------
    arms : Arms
    reference : str
        An arm of every group.
    confidence : float
        Of each two-sided t interval by itself; they are not joint.

    Raises
    ------
    AnalysisError
        A confidence out of range, or groups that lack the reference.
    """
    if not 0.5 <= confidence < 1:
        raise AnalysisError(f"confidence={confidence}: from .5 to below 1, for example .95.")
    rows, notes, lacking = [], list(arms.notes), []
    for group, part in _split(arms):
        by_arm = {str(arm): runs.set_index("seed").sort_index() for arm, runs in part.groupby("arm", sort=False)}
        if reference not in by_arm:
            lacking.append(_spell(group))
            continue
        base = by_arm[reference]
        for arm in [reference, *(name for name in by_arm if name != reference)]:
            rows.append(_compare(group, arm, by_arm[arm], base, arm == reference, confidence))
            unpaired = list(by_arm[arm].index.symmetric_difference(base.index))
            if unpaired:
                notes.append(
                    f"{arm}{_spell(group, ' on ')}: seeds {name_some(unpaired)} have no partner in {reference}"
                )
    if lacking:
        raise AnalysisError(
            f"reference={reference} was not trained on {name_some(lacking)}: without it there is no difference. Name "
            "another reference, or train it there."
        )
    return Comparison(tuple(rows), reference, confidence, arms.mixtures, tuple(notes))


def _split(arms: Arms) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    if not arms.by:
        return [({}, arms.frame)]
    grouped = arms.frame.groupby(list(arms.by), sort=False, dropna=False)
    return [(dict(zip(arms.by, _to_plain(key))), part) for key, part in grouped]


def _compare(
    group: dict[str, Any], arm: str, runs: pd.DataFrame, base: pd.DataFrame, is_reference: bool, confidence: float
) -> ArmRow:
    shared = runs.index.intersection(base.index)

    def subtract(column: str) -> Estimate | None:
        if is_reference or not len(shared) or column not in runs:
            return None
        return estimate_mean(runs.loc[shared, column] - base.loc[shared, column], confidence)

    return ArmRow(
        group,
        arm,
        tuple(int(seed) for seed in runs.index),
        estimate_mean(runs["outcome"], confidence),
        estimate_mean(runs["unseen"], confidence) if "unseen" in runs else None,
        subtract("outcome"),
        subtract("unseen"),
    )


def _to_plain(key: Any) -> list[Any]:
    values = key if isinstance(key, tuple) else (key,)
    return [value.item() if hasattr(value, "item") else value for value in values]


def _spell(group: dict[str, Any], before: str = "") -> str:
    return before + ", ".join(f"{name}={value}" for name, value in group.items()) if group else ""
