"""What ``launch.py`` asks of the analysis: the weights of a policy, and the answers of a study."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from analysis.app import analyse_table, load_inputs, write_answer
from analysis.columns import list_states
from analysis.extrapolate import answer_target
from analysis.fitted import FittedTable, fit_table
from analysis.report import write_report
from analysis.result import GIVEN, Analysis
from analysis.roles import Roles
from analysis.settings import check_settings
from analysis.target_state import list_known_states
from causalmix.config import AnalysisConfig
from causalmix.errors import ConfigError
from causalmix.files import fingerprint

FITTED_WITH = ("runs", "estimator", "outcome", "allow_failed_checks")
TABLES_KEPT = 6  # a study asks of a few estimators in turn, at every target
_tables: dict[str, FittedTable] = {}
_weights: dict[str, dict[str, float]] = {}  # 512 points of one policy are one fit


@dataclass(frozen=True)
class Answered:
    """An analysis with the arrays it was fitted on, and the folder it was written to."""

    analysis: Analysis
    roles: Roles
    folder: Path


UNFITTED = ("target", "policy", "output_dir", "report", "as_json")  # keys that no fit depends on


def answer_settings(settings: dict[str, Any]) -> Answered:
    """Analyse with plain settings (fields of AnalysisConfig) and write the answer.

    Answers that differ in the target, the policy or the folder alone share one fit.
    """
    cfg, runs = load_inputs(make_config(settings))
    check_settings(cfg)
    fit = {name: value for name, value in asdict(cfg).items() if name not in UNFITTED}
    known = list_known_states([cfg.target], list_states(runs.frame)) if cfg.estimator.kind == "auto" else None
    key = fingerprint([runs.fingerprint, fit, known])
    if key not in _tables:
        while len(_tables) >= TABLES_KEPT:
            _tables.pop(next(iter(_tables)))
        _tables[key] = fit_table(cfg, runs)
    table = _tables[key]
    analysis = answer_target(table, cfg.target, cfg.policy)
    write_answer(analysis, table.roles, cfg)
    return Answered(analysis, table.roles, Path(cfg.output_dir))


def write_confirmed_report(answered: Answered, confirmation: Sequence[dict[str, Any]]) -> Path:
    """Write ``report.html`` anew, with the table of confirmation runs."""
    rows = [
        {
            "target": f"{row['target']}, x{row['size']} documents",
            "policy": row["arm"],
            "mean": row["mean"],
            "se": row["se"],
            "n_seeds": row["n_seeds"],
            "gain": row["gain_natural"],
            "gain_se": row["gain_natural_se"],
        }
        for row in confirmation
    ]
    return write_report(answered.analysis, answered.roles, answered.folder / "report.html", rows)


def find_policy_weights(config: dict[str, Any], measure: Callable[[], Path]) -> dict[str, float]:
    """Fit the policy that a launch config names and return the weights to train on.

    Parameters
    ----------
    config : dict
        Resolved launch config: ``runs``, ``policy``, ``estimator``, ``target``, ``outcome``,
        ``allow_failed_checks``, ``pool``, ``train``, ``mixture``.
    measure : callable
        Measures the pool that the launch is for and returns its ``state.json``; asked once a pool,
        and only where ``target`` has no state.

    Returns
    -------
    dict of str to float
        The advised weights; where advice is withheld they are the reference, or the policy's own
        answer with ``mixture.use_candidate=true``. Which it was is said on standard error.

    Raises
    ------
    ConfigError
        Where ``runs`` is missing.
    """
    if not config["runs"]:
        raise ConfigError("mixture=policy needs runs=SWEEP-or-table: the runs that the policy is fitted on")
    asked = {name: config[name] for name in (*FITTED_WITH, "policy", "target", "pool", "outputs")}
    key = fingerprint([asked, config["train"]["n_samples"], config["mixture"]["use_candidate"]])
    if key not in _weights:
        _weights[key] = _fit_policy_weights(config, measure)
    return _weights[key]


def _fit_policy_weights(config: dict[str, Any], measure: Callable[[], Path]) -> dict[str, float]:
    target = {**config["target"]}
    if not target["state"] and not target["state_file"]:
        target["state_file"] = str(measure())
    if target["n_samples"] is None:
        target["n_samples"] = config["train"]["n_samples"]
    settings = {
        **{name: config[name] for name in FITTED_WITH},
        "policy": config["policy"],
        "target": target,
        "n_refits": 0,
        "baselines": [],
        "report": False,
    }
    analysis = analyse_table(*load_inputs(make_config(settings)))[0]
    answer = analysis.to_json()
    chosen = "candidate" if config["mixture"]["use_candidate"] else "weights"
    weights = {name: float(share) for name, share in answer[chosen].items()}
    withheld = analysis.advice != GIVEN
    said = f"advice withheld ({analysis.reason}); training on the {chosen}" if withheld else "advice given"
    shares = ", ".join(f"{name} {share:.3f}" for name, share in weights.items())
    print(f"policy {config['policy']['name']}: {shares}; {said}", file=sys.stderr)
    return weights


def make_config(settings: dict[str, Any]) -> AnalysisConfig:
    """Turn plain settings into the typed config; unknown keys are refused."""
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(AnalysisConfig), settings))
    assert isinstance(config, AnalysisConfig)
    return config
