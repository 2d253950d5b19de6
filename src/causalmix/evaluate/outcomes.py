"""From task scores to the outcomes of a run: abilities, and their unweighted mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from causalmix.errors import EvaluateError, name_some


@dataclass(frozen=True)
class TaskScore:
    """What one task says about a model.

    Attributes
    ----------
    score : float
        0-100, higher is better: 100 * 2^-bits_per_byte of a likelihood task, else the task's metric * 100.
    bits_per_byte : float or None
        All bits of the correct answers over all their UTF-8 bytes; None for a task that generates.
    accuracy : float or None
        0-1: greedy decoding gives the answer exactly, or the task's own accuracy.
    n_documents, n_bytes : int
    documents : list of dict
        ``id``, ``bits``, ``n_bytes`` and ``is_greedy`` of each document, where there are any.
    """

    score: float
    bits_per_byte: float | None
    accuracy: float | None
    n_documents: int
    n_bytes: int
    documents: list[dict[str, Any]]


def score_bits(bits_per_byte: float) -> float:
    """Geometric mean probability of a byte, in points: 100 * 2^-bits_per_byte."""
    return float(100 * 2**-bits_per_byte)


def is_finite(score: TaskScore) -> bool:
    """Say whether a score, and the bits behind it, are numbers."""
    return math.isfinite(score.score) and math.isfinite(score.bits_per_byte or 0.0)


def average_outcomes(
    scores: Mapping[str, TaskScore], dev: Mapping[str, list[str]], unseen: Mapping[str, list[str]]
) -> dict[str, float]:
    """Average tasks to abilities and abilities to AvgDev, both unweighted.

    Parameters
    ----------
    scores : mapping
        Task -> its score.
    dev, unseen : mapping
        Ability -> its tasks; only ``dev`` enters AvgDev.

    Returns
    -------
    dict
        ``outcome.avg_dev``, ``outcome.<ability>``, ``outcome.<ability>.<task>``; where there are unseen tasks
        ``unseen.avg``, ``unseen.<ability>``, ``unseen.<ability>.<task>``; and
        ``accuracy.<ability>.<task>`` where a task has one.

    Raises
    ------
    EvaluateError
        For a score that is missing or not a number.
    """
    tasks = [task for split in (dev, unseen) for names in split.values() for task in names]
    missing = [task for task in tasks if task not in scores]
    broken = [task for task in tasks if task in scores and not is_finite(scores[task])]
    if missing or broken:
        raise EvaluateError(
            f"No outcome can be made: without a score are {name_some(missing) or 'none'}, "
            f"not a number are {name_some(broken) or 'none'}."
        )
    outcomes: dict[str, float] = {}
    for split, prefix, average in ((dev, "outcome", "outcome.avg_dev"), (unseen, "unseen", "unseen.avg")):
        for ability, names in split.items():
            outcomes[f"{prefix}.{ability}"] = fmean(scores[task].score for task in names)
            for task in names:
                outcomes[f"{prefix}.{ability}.{task}"] = scores[task].score
                accuracy = scores[task].accuracy
                if accuracy is not None:
                    outcomes[f"accuracy.{ability}.{task}"] = accuracy
        if split:
            outcomes[average] = fmean(outcomes[f"{prefix}.{ability}"] for ability in split)
    return outcomes
