"""``python -m analysis`` as functions: from a config to written answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from analysis.estimators.fit import FAMILIES
from analysis.extrapolate import answer_target, check_targets
from analysis.fitted import fit_table
from analysis.result import Analysis
from analysis.roles import Roles
from analysis.settings import check_folder, check_settings, read_targets
from causalmix.config import AnalysisConfig
from causalmix.errors import AnalysisError, ConfigError
from causalmix.files import write_json
from causalmix.table.runs import RunsTable, load_runs
from causalmix.table.sources import ALLOWED


def analyse(cfg: AnalysisConfig, *, progress: bool = True) -> Analysis:
    """Read a mixture off a runs table.

    Parameters
    ----------
    cfg : AnalysisConfig
        A dataclass or an OmegaConf node of that schema. Nothing is written.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Analysis

    Raises
    ------
    AnalysisError
        A table, target or setting that cannot be answered, or a check that stops the analysis.
    """
    return analyse_table(*load_inputs(cfg), progress=progress)[0]


def analyse_table(cfg: AnalysisConfig, runs: RunsTable, *, progress: bool = True) -> tuple[Analysis, Roles]:
    """Analyse a table that is already in memory; see :func:`analyse`.

    Returns
    -------
    Analysis
    Roles
        The arrays that were fitted.
    """
    check_settings(cfg)
    check_targets(cfg, runs, {"": cfg.target})
    table = fit_table(cfg, runs)
    return answer_target(table, progress=progress), table.roles


def run(cfg: AnalysisConfig, *, progress: bool = True) -> list[tuple[Analysis, dict[str, Path]]]:
    """Fit once, answer every target, and write ``mixture.json``, ``checks.json`` and ``report.html`` of each.

    Returns
    -------
    list of (Analysis, dict of str to Path)
        One answer in ``cfg.output_dir``; with ``cfg.targets`` one a target, in a folder of its name there.
    """
    cfg, runs = load_inputs(cfg)
    check_settings(cfg)
    check_folder(Path(cfg.output_dir))
    targets = read_targets(cfg)
    check_targets(cfg, runs, targets)
    table = fit_table(cfg, runs, list(targets.values()))
    answers = []
    for name, target in targets.items():
        analysis = answer_target(table, target, progress=progress)
        folder = dataclasses.replace(cfg, output_dir=str(Path(cfg.output_dir) / name))
        answers.append((analysis, write_answer(analysis, table.roles, folder)))
    return answers


def write_answer(analysis: Analysis, roles: Roles, cfg: AnalysisConfig) -> dict[str, Path]:
    """Write an analysis into ``cfg.output_dir``; return what was written, by name."""
    folder = Path(cfg.output_dir)
    paths = {"mixture": folder / "mixture.json", "checks": folder / "checks.json"}
    write_json(paths["mixture"], analysis.to_json())
    write_json(paths["checks"], [check.to_json() for check in analysis.checks])
    if cfg.report:
        from analysis.report import write_report

        paths["report"] = folder / "report.html"
        write_report(analysis, roles, paths["report"])
    return paths


def load_inputs(cfg: AnalysisConfig) -> tuple[AnalysisConfig, RunsTable]:
    """Make the config plain and load the runs table that it names.

    Raises
    ------
    ConfigError
        No table named.
    TableError
        One that cannot be read.
    AnalysisError
        One without the state that the estimator reads.
    """
    if OmegaConf.is_config(cfg):
        cfg = cast(AnalysisConfig, OmegaConf.to_object(cast(Any, cfg)))
    if not cfg.runs:
        raise ConfigError(f"runs=... is missing: {ALLOWED}.")
    runs = load_runs(cfg.runs, needs_state=False)
    kind = cfg.estimator.kind
    if not runs.features and (kind not in FAMILIES or FAMILIES[kind].uses_state):
        raise AnalysisError(
            f"runs={cfg.runs}: no column state.<feature>, which estimator={cfg.estimator.name} reads. A sweep measures "
            "the state of each run's pool; for a table without, take estimator=no_covariates."
        )
    return cfg, runs
