"""One check at a time, on a table, without the rest of an analysis."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.checks.check import Check, CheckResult, Evidence
from analysis.estimators.fit import fit_effects, predict_out_of_fold
from analysis.policies.propose import propose
from analysis.roles import assign_roles
from analysis.target import build_target
from causalmix.config import AnalysisConfig
from tests.analysis.synthetic import ABILITIES, make_config, make_runs


def gather(frame: pd.DataFrame, cfg: AnalysisConfig | None = None, candidate: np.ndarray | None = None) -> Evidence:
    """Fit and ask the policy, as an analysis does before its late checks."""
    cfg = cfg or make_config()
    runs = make_runs(frame)
    roles = assign_roles(runs, cfg.cohort, cfg.estimator, cfg.outcome)
    states = [str(column).removeprefix("state.") for column in frame if str(column).startswith("state.")]
    target = build_target(cfg.target, roles, state_names=states, n_samples_runs=2000)
    seed = cfg.seed + cfg.estimator.seed
    fitted = fit_effects(roles, cfg.estimator, seed)
    weights = propose(fitted.effects, roles, target, cfg.policy).weights if candidate is None else candidate
    predicted = predict_out_of_fold(roles, fitted.residuals, cfg.estimator, seed)
    return Evidence(roles, runs.frame, cfg, target, fitted, predicted, weights)


def judge(check: type[Check], frame: pd.DataFrame, cfg: AnalysisConfig | None = None) -> CheckResult:
    return check().run(gather(frame, cfg))


def set_outcomes(frame: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    """Give every ability the same outcome (n,) with a little of its own."""
    frame = frame.copy()
    for a, name in enumerate(ABILITIES):
        frame[f"outcome.{name}"] = values + a
    frame["outcome.avg_dev"] = frame[[f"outcome.{name}" for name in ABILITIES]].mean(axis=1)
    return frame
