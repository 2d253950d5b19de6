"""The check of what contrasts assume: that moving all log shares at once is worth nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from analysis.checks.check import FAILED, PASSED, Check, CheckResult, Evidence, begin
from analysis.columns import read_numbers
from analysis.coordinates import to_log
from analysis.estimators.nuisances import FirstStage, residualise
from analysis.roles import Roles, select_cohort

Floats = NDArray[np.float64]

P_FAILED = 0.05
LEAST_LEFT = 1e-9  # share of the level's variance: less is rounding


class EffectsSumToZero(Check):
    """Contrasts hold no effect of all log shares at once. Where it is worth something, gains are off, with intervals
    that do not say so."""

    code, title, must, refits = "CM020", "What contrasts leave out is worth nothing", True, True

    def run(self, evidence: Evidence) -> CheckResult:
        """Regress what the fit leaves of the outcome, out of fold, on the mean log share."""
        from scipy.stats import t

        coordinates = evidence.roles.coordinates
        if coordinates.has_level:
            return self.skip(f"estimator.coordinates={coordinates.name} holds all log shares: nothing is left out.")
        if evidence.fitted is None or evidence.predicted is None:
            return self.skip("Nothing was predicted out of fold.")
        if np.any(evidence.roles.mixtures + coordinates.offset <= 0):
            return self.skip("A run left a domain out: its log share is minus infinity.")
        residuals = evidence.fitted.residuals
        left = residuals.outcomes @ evidence.roles.outcome_weights - evidence.predicted
        level = residualise_level(evidence, evidence.fitted.first_stage)
        found = estimate_omitted(left, level, residuals.Z, residuals.folds)
        if found is None:
            return self.skip("The mean log share does not move beside the contrasts: nothing can be said of it.")
        slope, error, n_free = found
        p = float(2.0 * t.sf(abs(slope / error), n_free)) if error > 0 else 1.0
        said = "effects of log shares sum to" if coordinates.is_log else "the mean log share is worth"
        said = f"{said} {slope:+.2f} +- {error:.2f} points per unit of log (p = {p:.2g})"
        if p < P_FAILED:
            return self.say(
                FAILED,
                slope,
                f"estimator.coordinates={coordinates.name} takes it for zero, but {said}: predicted gains are off.",
                "Take estimator.coordinates=log or ilr_even, which estimate it.",
            )
        return self.say(PASSED, slope, begin(said) + f", as estimator.coordinates={coordinates.name} assumes.")


def residualise_level(evidence: Evidence, first_stage: FirstStage) -> Floats:
    """Return ``l - E[l | X, W]`` (n,), with l the mean over domains of ``log(T + eps)``.

    E is the design's own mean where the table has it and the fit may take it, and else made as that of Z was.

    Raises
    ------
    AnalysisError
        A design's mean that is no number.
    """
    roles = first_stage.roles
    logs = to_log(roles.mixtures, roles.coordinates.offset)
    mean = _read_design_mean(evidence, roles)
    # Nothing of the outcome is asked here, so none is fitted: ridge on zeros costs nothing.
    level = dataclasses.replace(
        roles, Z=logs.mean(axis=1, keepdims=True), design_mean=mean, outcomes=np.zeros((roles.n_runs, 1))
    )
    return residualise(level, dataclasses.replace(first_stage.cfg, outcome="ridge"), first_stage.seed).Z[:, 0]


def _read_design_mean(evidence: Evidence, roles: Roles) -> Floats | None:
    """Return the design's mean of the level (n, 1), None where the table has none of these very logs."""
    frame = select_cohort(evidence.frame, evidence.cfg.cohort)
    names = [f"design.mean_log.{domain}" for domain in roles.domains]
    known = all(name in frame and bool(frame[name].notna().all()) for name in names)
    if not known or roles.coordinates.offset > 0 or len(frame) != roles.n_runs:
        return None
    return np.asarray(read_numbers(frame, names, roles.run_ids, "design means").mean(axis=1, keepdims=True))


def estimate_omitted(
    left: Floats, level: Floats, Z: Floats, folds: NDArray[np.int64]
) -> tuple[float, float, int] | None:
    """Estimate b of ``left = a + c' Z + b v + error`` by least squares, v being the level less its part in Z.

    Parameters
    ----------
    left : ndarray (n,)
        What the fit leaves of the outcome out of fold, points.
    level : ndarray (n,)
        Residual of the mean log share. With log-ratios as Z, b is the sum of the K effects of log shares.
    Z : ndarray (n, p)
        Residuals of the coordinates: they take up what is linear in them.
    folds : ndarray of int64 (n,)
        Those of ``left``. v is what the level's own fit on Z leaves out of the same folds: runs far out leave more of
        both, and with v from all runs b would be too large (a sixth, of 60 runs).

    Returns
    -------
    slope, error : float
        b and its HC3 standard error, points per unit of log.
    n_free : int
        Degrees of freedom, ``n - p - 2``.
    None instead of all, where Z determines the level or no run is left over.

    Notes
    -----
    HC3: MacKinnon and White, "Some heteroskedasticity-consistent covariance matrix estimators with improved finite
    sample properties", Journal of Econometrics 29 (1985). The mean log share has a long tail, so few runs
    have much of the leverage, and HC0 is then too small.
    """
    n, width = Z.shape
    n_free = n - width - 2
    if n_free < 1:
        return None
    apart = np.empty(n)
    for fold in np.unique(folds):
        out = folds == fold
        apart[out] = level[out] - Z[out] @ np.linalg.lstsq(Z[~out], level[~out], rcond=None)[0]
    basis = np.linalg.qr(np.column_stack([np.ones(n), Z]))[0]
    beside = apart - basis @ (basis.T @ apart)
    total = float(beside @ beside)
    if total <= LEAST_LEFT * float(((level - level.mean()) ** 2).sum()):
        return None
    slope = float(beside @ left) / total
    errors = left - basis @ (basis.T @ left) - slope * beside
    leverage = (basis**2).sum(axis=1) + beside**2 / total
    # A run of leverage one is fitted exactly and says nothing of the error.
    scaled = errors / np.maximum(1.0 - leverage, 1e-9)
    return slope, float(np.sqrt(((beside * scaled) ** 2).sum()) / total), n_free
