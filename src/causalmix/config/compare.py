"""Targets trained under each policy, compared: ``python -m analysis.compare``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class CompareConfig:
    """Which runs to compare, and over what."""

    runs: str = ""  # a sweep folder, a runs table (several joined by commas), or a study's folder or confirmation.csv
    cohort: str = "confirmation"  # runs of this cohort are compared
    reference: str = "equal"  # the arm that differences are taken over
    arm: str = "design.name"  # column that says what chose a run's mixture
    mixtures: Any = None  # {name: mixture.json}: names of arms whose runs have that mixture
    outcome: str = "outcome.avg_dev"  # points, higher is better
    unseen: str = "unseen.avg"  # the same on the unseen split; left out where no run has it
    by: list[str] | None = None  # columns whose values are compared apart; null: pool, model and size as they vary
    confidence: float = 0.95  # of each interval, two-sided
    output_dir: str = "outputs/compare"  # compare.md, compare.tex, compare.html, compare.json
    as_json: bool = False  # print JSON instead of the table; --json says the same
