"""One analysis, from a config to an answer: table, fit, policy, baselines, checks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from analysis.answer import estimate_gain, measure_support, refit_halves
from analysis.checks.check import CheckResult, Evidence
from analysis.checks.run import check_allowed, list_blocking, list_overruled, run_checks, stop_at
from analysis.coordinates import tabulate_moves
from analysis.curves import draw_curves, read_theta
from analysis.estimators.effects import Effects
from analysis.estimators.fit import FAMILIES, Fitted, check_estimator, fit_effects, predict_out_of_fold
from analysis.interpreter import grow_tree, measure_importances
from analysis.limits import read_constraints
from analysis.policies.proposal import Proposal
from analysis.policies.propose import baseline_config, check_kind, propose
from analysis.result import GIVEN, MOVE_DELTA, WITHHELD, Analysis, Answer
from analysis.roles import Roles, assign_roles, select_cohort
from analysis.target import Target, build_target
from causalmix.config import AnalysisConfig, PolicyConfig
from causalmix.errors import AnalysisError, ConfigError
from causalmix.files import write_json
from causalmix.mixture.allocate import allocate
from causalmix.table.runs import RunsTable, load_runs

Floats = NDArray[np.float64]

RANDOMISED = "T was drawn independently of X: nothing to deconfound, orthogonalisation only reduces variance."
NOT_RANDOMISED = (
    "Whether T was drawn independently of X is not known (design.mean_log.* is missing or differs over "
    "runs): effects are causal only if X and W hold everything that moved both the mixture and the outcome."
)


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
    _check_settings(cfg)
    roles = assign_roles(runs, cfg.cohort, cfg.estimator, cfg.outcome)
    check_estimator(roles, cfg.estimator)
    early = run_checks(Evidence(roles, runs.frame, cfg), before_fit=True)
    stop_at(list_blocking(early, cfg.allow_failed_checks))
    target = _find_target(cfg, runs, roles)
    seed = cfg.seed + cfg.estimator.seed
    fitted = fit_effects(roles, cfg.estimator, seed)
    proposal = propose(fitted.effects, roles, target, cfg.policy)
    predicted = predict_out_of_fold(roles, fitted.residuals, cfg.estimator, seed)
    evidence = Evidence(roles, runs.frame, cfg, target, fitted, predicted, proposal.weights)
    late = run_checks(evidence, before_fit=False)
    return _assemble(cfg, runs, roles, target, fitted, proposal, [*early, *late], progress), roles


def run(cfg: AnalysisConfig, *, progress: bool = True) -> tuple[Analysis, dict[str, Path]]:
    """Analyse and write ``mixture.json``, ``checks.json`` and ``report.html`` into ``cfg.output_dir``.

    Returns
    -------
    Analysis
    dict of str to Path
        What was written.
    """
    cfg, runs = load_inputs(cfg)
    analysis, roles = analyse_table(cfg, runs, progress=progress)
    return analysis, write_answer(analysis, roles, cfg)


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
        raise ConfigError("runs=... is missing: a sweep folder, a .csv or a .parquet file; several joined by commas.")
    kind = cfg.estimator.kind
    needs_state = kind not in FAMILIES or FAMILIES[kind].uses_state
    return cfg, load_runs(cfg.runs, needs_state=needs_state)


def _check_settings(cfg: AnalysisConfig) -> None:
    check_allowed(cfg.allow_failed_checks)
    check_kind(cfg.policy.kind, "policy.kind")
    for name in cfg.baselines:
        check_kind(name, "baselines")
    if not 0.5 <= cfg.confidence < 1:
        raise ConfigError(f"confidence={cfg.confidence}: from .5 to below 1, for example .95.")


def _find_target(cfg: AnalysisConfig, runs: RunsTable, roles: Roles) -> Target:
    frame = runs.frame
    names = [str(column).removeprefix("state.") for column in frame if str(column).startswith("state.")]
    # Other cohorts may have sizes of their own (perturbation, confirmation).
    fitted = select_cohort(frame, cfg.cohort)
    sizes = fitted["train.n_samples"].dropna().unique() if "train.n_samples" in fitted else np.array([])
    n_samples = int(sizes[0]) if len(sizes) == 1 else None
    target = build_target(cfg.target, roles, state_names=names, n_samples_runs=n_samples)
    target = dataclasses.replace(target, constraints=read_constraints(cfg.outcome, roles))
    _require_one_scale(runs, target)
    return target


def _require_one_scale(runs: RunsTable, target: Target) -> None:
    """Refuse a state measured with other scorers than the runs' states: the numbers would not compare."""
    column = "pool.normaliser_fingerprint"
    if target.normaliser_fingerprint is None or column not in runs.frame:
        return
    scales = sorted({str(value) for value in runs.frame[column].dropna()})
    if scales and scales != [target.normaliser_fingerprint]:
        raise AnalysisError(
            f"the target's state was measured on another scale (normaliser {target.normaliser_fingerprint}) than "
            f"the runs' states ({', '.join(scales)}): scores compare only where one reference LM, one rater and "
            "one normaliser made them. Prepare the target's pool with pool.scores.scale_of=FOLDER, the sweep's "
            "prepared pool."
        )


def _assemble(
    cfg: AnalysisConfig,
    runs: RunsTable,
    roles: Roles,
    target: Target,
    fitted: Fitted,
    proposal: Proposal,
    checks: list[CheckResult],
    progress: bool,
) -> Analysis:
    effects = fitted.effects
    answer = _judge(effects, target, cfg.policy.name, proposal, cfg.confidence)
    blocking = list_blocking(checks, cfg.allow_failed_checks)
    advice, reason = _decide(answer, target, [f"[{c.code}] {c.message}" for c in blocking])
    weights = answer.weights if advice == GIVEN else target.reference
    spread = refit_halves(cfg, roles, target, fitted, answer.weights, progress=progress)
    notes = [RANDOMISED if roles.randomised else NOT_RANDOMISED, *target.notes, *proposal.notes]
    overruled = list_overruled(checks, cfg.allow_failed_checks)
    notes += [f"Allowed although it failed: [{c.code}] {c.message}" for c in overruled]
    notes += [*runs.notes]
    has_pool = "pool.fingerprint" in runs.frame
    pools = runs.frame["pool.fingerprint"].dropna().astype(str).unique().tolist() if has_pool else []
    return Analysis(
        domains=roles.domains,
        weights=weights,
        candidate=answer,
        advice=advice,
        reason=reason,
        target=target,
        theta=tuple(read_theta(effects, target.x, cfg.confidence)),
        moves=tabulate_moves(effects.theta(target.x), target.reference, MOVE_DELTA),
        spread=spread,
        support=measure_support(roles, target, answer.weights),
        shadow_prices=proposal.shadow_prices,
        baselines=_ask_baselines(cfg, effects, roles, target, notes),
        checks=tuple(checks),
        overruled=tuple(check.code for check in overruled),
        curves=tuple(draw_curves(effects, roles, target, cfg.confidence)),
        tree=tuple(grow_tree(effects, roles)),
        importances=dict(zip(effects.x_names, measure_importances(effects, roles).tolist())),
        counts=_count_documents(weights, target),
        effects=effects,
        estimator=cfg.estimator,
        policy=cfg.policy,
        fingerprints={
            "runs": runs.fingerprint,
            "pool": target.pool_fingerprint or (pools[0] if len(pools) == 1 else None),
        },
        n_runs=roles.n_runs,
        n_skipped=len(runs.problems),
        confidence=cfg.confidence,
        randomised=roles.randomised,
        notes=tuple(notes),
    )


def _judge(effects: Effects, target: Target, name: str, proposal: Proposal, confidence: float) -> Answer:
    gain = estimate_gain(effects, target, proposal.weights, confidence)
    return Answer(name, proposal.weights, gain, proposal.notes)


def _decide(answer: Answer, target: Target, blocking: list[str]) -> tuple[str, str]:
    """Give advice only where the gain is above zero for sure, and no failed check stands against it."""
    if blocking:
        return WITHHELD, " ".join(blocking)
    if np.abs(answer.weights - target.reference).max() < 1e-9:
        return WITHHELD, "The policy's answer is the reference itself."
    gain = answer.gain
    said = f"{gain.estimate:+.3f} points [{gain.low:+.3f}, {gain.high:+.3f}]"
    if not gain.is_positive:
        return WITHHELD, f"The predicted gain over the reference, {said}, is not above zero for sure."
    return GIVEN, f"The predicted gain over the reference, {said}, is above zero."


def _ask_baselines(
    cfg: AnalysisConfig, effects: Effects, roles: Roles, target: Target, notes: list[str]
) -> tuple[Answer, ...]:
    answers = []
    for name in dict.fromkeys(cfg.baselines):
        policy: PolicyConfig = baseline_config(name, cfg.policy)
        try:
            proposal = propose(effects, roles, target, policy)
        except AnalysisError as error:  # a baseline that cannot answer is named, and stops nothing
            notes.append(f"Left out: {error}")
            continue
        answers.append(_judge(effects, target, name, proposal, cfg.confidence))
    return tuple(answers)


def _count_documents(weights: Floats, target: Target) -> dict[str, dict[str, float | int | None]]:
    if target.n_samples is None:
        return {}
    known = target.available
    available = known or dict.fromkeys(target.domains, target.n_samples)
    counts = allocate(weights, target.n_samples, available, target.repeats_max)
    return {
        name: {"n": int(n), "repeats": n / known[name] if known and known[name] else None}
        for name, n in zip(target.domains, counts.tolist())
    }
