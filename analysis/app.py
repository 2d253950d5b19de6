"""``python -m analysis`` as functions: from a config to written answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from analysis.checks.run import check_allowed
from analysis.estimators.fit import FAMILIES
from analysis.extrapolate import answer_target
from analysis.fitted import fit_table
from analysis.policies.propose import check_kind
from analysis.result import Analysis
from analysis.roles import Roles
from analysis.target import read_mapping
from causalmix.config import AnalysisConfig, TargetConfig
from causalmix.errors import ConfigError, name_some, nearest_name
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
    targets = read_targets(cfg)
    table = fit_table(cfg, runs)
    answers = []
    for name, target in targets.items():
        analysis = answer_target(table, target, progress=progress)
        folder = dataclasses.replace(cfg, output_dir=str(Path(cfg.output_dir) / name))
        answers.append((analysis, write_answer(analysis, table.roles, folder)))
    return answers


def read_targets(cfg: AnalysisConfig) -> dict[str, TargetConfig]:
    """Return the targets by folder: those of ``targets``, each on top of ``target``, or ``target`` alone.

    Raises
    ------
    ConfigError
        A name that is no folder's, or a key that a target does not have.
    """
    if not cfg.targets:
        return {"": cfg.target}
    targets = {}
    for name, changes in read_mapping(cfg.targets, "targets").items():
        if not name.replace("_", "").replace("-", "").replace(".", "").isalnum() or name.startswith("."):
            raise ConfigError(f"targets: '{name}' names a folder: letters, digits, '_', '-' and '.' are allowed.")
        allowed = [item.name for item in dataclasses.fields(TargetConfig)]
        unknown = [key for key in read_mapping(changes, f"targets.{name}") if key not in allowed]
        if unknown:
            named = name_some(f"'{key}'{nearest_name(key, allowed)}" for key in unknown)
            raise ConfigError(f"targets.{name}: no key {named}; allowed: {', '.join(allowed)}.")
        targets[name] = dataclasses.replace(cfg.target, **changes)
    return targets


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
    """Make the config plain and load the runs table that it names."""
    if OmegaConf.is_config(cfg):
        cfg = cast(AnalysisConfig, OmegaConf.to_object(cast(Any, cfg)))
    if not cfg.runs:
        raise ConfigError(f"runs=... is missing: {ALLOWED}.")
    kind = cfg.estimator.kind
    needs_state = kind not in FAMILIES or FAMILIES[kind].uses_state
    return cfg, load_runs(cfg.runs, needs_state=needs_state)


def check_settings(cfg: AnalysisConfig) -> None:
    """Refuse what is wrong with a config whatever the runs are.

    Raises
    ------
    ConfigError
        A check that does not exist, a confidence out of range.
    AnalysisError
        An unknown policy or baseline.
    """
    check_allowed(cfg.allow_failed_checks)
    check_kind(cfg.policy.kind, "policy.kind")
    for name in cfg.baselines:
        check_kind(name, "baselines")
    if not 0.5 <= cfg.confidence < 1:
        raise ConfigError(f"confidence={cfg.confidence}: from .5 to below 1, for example .95.")
