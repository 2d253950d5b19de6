"""Runs of the other cohorts, as the baselines that need runs of their own read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.columns import read_numbers
from analysis.roles import Roles
from causalmix.errors import AnalysisError, name_some

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CohortRuns:
    """Complete runs of one cohort.

    Attributes
    ----------
    run_ids : tuple of str
    mixtures : ndarray (m, K)
        Target shares.
    frame : DataFrame
        Their rows of the runs table.
    """

    run_ids: tuple[str, ...]
    mixtures: Floats
    frame: pd.DataFrame


def read_cohort(roles: Roles, cohort: str) -> CohortRuns | None:
    """Return the complete runs of a cohort that is not fitted, sorted by run id; None where there are none.

    Raises
    ------
    AnalysisError
        Shares that are not finite; every run is named.
    """
    frame = roles.others
    if "cohort" not in frame or not (frame["cohort"] == cohort).any():
        return None
    frame = frame[frame["cohort"] == cohort].reset_index(drop=True)
    run_ids = tuple(frame["run_id"].astype(str))
    columns = [f"mixture.{name}" for name in roles.domains]
    return CohortRuns(run_ids, read_numbers(frame, columns, run_ids, f"mixtures of cohort {cohort}"), frame)


def read_cohort_outcomes(runs: CohortRuns, roles: Roles) -> Floats:
    """Return the outcomes (m, A) that the fit raises, points, of the runs of another cohort."""
    columns = [f"outcome.{name}" for name in roles.outcome_names]
    missing = [name for name in columns if name not in runs.frame]
    if missing:
        raise AnalysisError(f"runs {name_some(runs.run_ids)}: no column {name_some(missing)}, which the fit raises.")
    return read_numbers(runs.frame, columns, runs.run_ids, "outcomes")


def list_cohorts(roles: Roles) -> str:
    """Name the cohorts besides the fitted one, for a message."""
    return name_some(sorted(roles.others["cohort"].astype(str).unique())) if "cohort" in roles.others else ""
