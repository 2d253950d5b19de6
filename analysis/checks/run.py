"""Running the checks, and stopping where one of them must be passed."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.checks.check import FAILED, Check, CheckResult, Evidence
from analysis.checks.contrasts import EffectsSumToZero
from analysis.checks.identification import BadControl, Confounding, ConstantState, OneStatePerPool, Overlap
from analysis.checks.quality import (
    Calibration,
    MixtureSupport,
    RankAgreement,
    SampleSize,
    SeedNoise,
    TargetSupport,
)
from analysis.checks.refutation import NegativeControl, Placebo, RandomCause
from analysis.checks.sensitivity import RunPlan, UnobservedConfounding
from analysis.checks.stability import LeaveOnePoolOut, RandomisedAgreement, SubsetStability
from causalmix.errors import AnalysisError, ConfigError, name_some, nearest_name

CHECKS: tuple[type[Check], ...] = (
    ConstantState,
    BadControl,
    Confounding,
    Overlap,
    TargetSupport,
    SampleSize,
    Calibration,
    RankAgreement,
    SeedNoise,
    MixtureSupport,
    Placebo,
    NegativeControl,
    RandomCause,
    SubsetStability,
    RandomisedAgreement,
    LeaveOnePoolOut,
    RunPlan,
    UnobservedConfounding,
    OneStatePerPool,
    EffectsSumToZero,
)


def check_allowed(codes: Sequence[str]) -> None:
    """Refuse codes of checks that do not exist."""
    known = [check.code for check in CHECKS]
    unknown = [code for code in codes if code not in known]
    if unknown:
        named = name_some(f"'{code}'{nearest_name(code, known)}" for code in unknown)
        raise ConfigError(f"allow_failed_checks: no check {named}; allowed: {', '.join(known)}.")


def run_checks(
    evidence: Evidence, *, before_fit: bool, refitted: dict[str, CheckResult] | None = None
) -> list[CheckResult]:
    """Run the checks of one stage; those that refit are looked up in ``refitted``, by code, and added there."""
    known = {} if refitted is None else refitted
    results = []
    for check in CHECKS:
        if check.before_fit != before_fit:
            continue
        result = known[check.code] if check.code in known else check().run(evidence)
        if check.refits:
            known[check.code] = result
        results.append(result)
    return results


def list_blocking(results: Sequence[CheckResult], allowed: Sequence[str]) -> list[CheckResult]:
    """Return the checks that failed and were not allowed to."""
    return [result for result in results if result.status == FAILED and result.code not in allowed]


def list_overruled(results: Sequence[CheckResult], allowed: Sequence[str]) -> list[CheckResult]:
    """Return the checks that failed and were allowed to: every answer says so before all else."""
    return [result for result in results if result.status == FAILED and result.code in allowed]


def stop_at(blocking: Sequence[CheckResult]) -> None:
    """Stop an analysis whose table cannot answer.

    Raises
    ------
    AnalysisError
        Names every such check, what it found and what to do.
    """
    if not blocking:
        return
    said = " ".join(f"[{result.code}] {result.message} {result.action}" for result in blocking)
    codes = ",".join(result.code for result in blocking)
    raise AnalysisError(f"{said} To go on all the same, and have it said in the report: allow_failed_checks=[{codes}].")
