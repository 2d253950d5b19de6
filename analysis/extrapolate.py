"""From a fit to an answer for one target: mixture, gain, spread, baselines, checks. No refit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis.answer import estimate_gain, measure_spread, measure_support
from analysis.checks.check import CheckResult, Evidence
from analysis.checks.run import list_blocking, list_overruled, run_checks
from analysis.columns import list_states
from analysis.coordinates import tabulate_moves
from analysis.curves import draw_curves, read_theta
from analysis.estimators.effects import Effects
from analysis.fitted import FittedTable
from analysis.interpreter import grow_tree, measure_importances
from analysis.limits import read_constraints
from analysis.policies.proposal import Proposal
from analysis.policies.propose import baseline_config, propose
from analysis.policies.radius import settle_radius
from analysis.result import GIVEN, MOVE_DELTA, WITHHELD, Analysis, Answer
from analysis.roles import Roles, assign_roles, select_cohort
from analysis.target import Target, build_target
from causalmix.config import AnalysisConfig, PolicyConfig, TargetConfig
from causalmix.errors import AnalysisError, CausalMixError
from causalmix.mixture.allocate import allocate
from causalmix.table.runs import RunsTable

Floats = NDArray[np.float64]

RANDOMISED = "T was drawn independently of X: nothing to deconfound, orthogonalisation only reduces variance."
NOT_RANDOMISED = (
    "Whether T was drawn independently of X is not known (design.mean_log.* is missing or differs over "
    "runs): effects are causal only if X and W hold everything that moved both the mixture and the outcome."
)


def answer_target(
    table: FittedTable,
    target: TargetConfig | None = None,
    policy: PolicyConfig | None = None,
    *,
    progress: bool = True,
) -> Analysis:
    """Extrapolate: read the mixture for a target off a fit that is there, in less than a second.

    Parameters
    ----------
    table : FittedTable
    target : TargetConfig, optional
        Another pool, size or limit than that of the table's own config.
    policy : PolicyConfig, optional
        Another way to read the mixture off.
    progress : bool
        Show a bar on a terminal, while the refits behind the spread are made for the first answer.
    """
    cfg = dataclasses.replace(table.cfg, target=target or table.cfg.target, policy=policy or table.cfg.policy)
    goal = find_target(cfg, table.runs, table.roles)
    settled = settle_radius(table.fitted.effects, table.roles, goal, cfg.policy)
    proposal = propose(table.fitted.effects, table.roles, goal, settled)
    if settled is not cfg.policy:  # the record holds the number, and the refits behind the spread keep it
        taken = f"policy.rho=auto took {settled.rho:g} nats."
        cfg, proposal = (
            dataclasses.replace(cfg, policy=settled),
            dataclasses.replace(proposal, notes=(*proposal.notes, taken)),
        )
    evidence = Evidence(table.roles, table.runs.frame, cfg, goal, table.fitted, table.predicted, proposal.weights)
    late = run_checks(evidence, before_fit=False, refitted=table.refitted)
    return _assemble(table, cfg, goal, proposal, [*table.early, *late], progress)


def check_targets(cfg: AnalysisConfig, runs: RunsTable, targets: Mapping[str, TargetConfig]) -> None:
    """Refuse targets that cannot be answered, all of them and before anything is fitted.

    Where ``estimator=auto`` has still to choose the state that effects depend on, a state that is incomplete is
    found later.

    Raises
    ------
    AnalysisError
        With the name of each such target where there are several.
    """
    estimator = cfg.estimator
    if estimator.kind == "auto":
        estimator = dataclasses.replace(estimator, kind="no_covariates")
    roles, faults = assign_roles(runs, cfg.cohort, estimator, cfg.outcome), []
    for name, target in targets.items():
        try:
            find_target(dataclasses.replace(cfg, target=target), runs, roles)
        except CausalMixError as error:
            faults.append(f"targets.{name}: {error}" if name else str(error))
    if faults:
        raise AnalysisError(" ".join(faults))


def find_target(cfg: AnalysisConfig, runs: RunsTable, roles: Roles) -> Target:
    """Return the target of a config, constraints included."""
    frame = runs.frame
    # Other cohorts may have sizes of their own (perturbation, confirmation).
    fitted = select_cohort(frame, cfg.cohort)
    sizes = fitted["train.n_samples"].dropna().unique() if "train.n_samples" in fitted else np.array([])
    n_samples = int(sizes[0]) if len(sizes) == 1 else None
    target = build_target(cfg.target, roles, state_names=list_states(frame), n_samples_runs=n_samples)
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
    table: FittedTable,
    cfg: AnalysisConfig,
    target: Target,
    proposal: Proposal,
    checks: list[CheckResult],
    progress: bool,
) -> Analysis:
    runs, roles, effects = table.runs, table.roles, table.fitted.effects
    answer = _judge(effects, target, cfg.policy.name, proposal, cfg.confidence)
    blocking = list_blocking(checks, cfg.allow_failed_checks)
    advice, reason = _decide(answer, target, [f"[{c.code}] {c.message}" for c in blocking])
    weights = answer.weights if advice == GIVEN else target.reference
    spread = measure_spread(table.refit_halves(progress=progress), cfg.policy, target, answer.weights)
    notes = [RANDOMISED if roles.randomised else NOT_RANDOMISED, *target.notes, *proposal.notes]
    overruled = list_overruled(checks, cfg.allow_failed_checks)
    notes += [f"Allowed although it failed: [{c.code}] {c.message}" for c in overruled]
    notes += [*runs.notes]
    notes += [table.selection.describe()] if table.selection else []
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
        moves=tabulate_moves(partial(effects.predict, target.x), target.reference, MOVE_DELTA),
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
