"""Checks of whether parts of the runs tell the same story: halves, pools, random and observed mixtures."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.checks.check import FAILED, PASSED, WARNING, Check, CheckResult, Evidence, begin
from analysis.checks.identification import P_REFUSED
from analysis.checks.quality import calibrate
from analysis.checks.refits import find_contrast, make_refitter
from analysis.estimators.fit import predict_out_of_fold
from analysis.roles import Roles, select_cohort
from causalmix.errors import name_some

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]

N_HALVES = 12
LEAST_RANDOMISED = 20  # runs that share one design mean before they count as one randomised sweep
MOST_GROUPS = 5  # refits of leave-one-pool-out
SAME = 1e-6  # spread of design means that is rounding


class SubsetStability(Check):
    """Effects that are there are there in every half of the runs, no further apart than their interval says."""

    code, title = "CM014", "Halves of the runs agree on the gain"
    refits = True

    def run(self, evidence: Evidence) -> CheckResult:
        """Compare the spread of the answer's gain over half-sample refits with its standard error."""
        from scipy.stats import chi2

        contrast = find_contrast(evidence)
        if contrast is None:
            return self.skip("Nothing was fitted.")
        refitter = make_refitter(evidence)
        n = evidence.roles.n_runs
        if not refitter.can_fit(n // 2):
            return self.skip(f"Half of {n} runs is too few for the estimator.")
        rng = np.random.default_rng([refitter.seed, 47])
        halves = [np.sort(rng.choice(n, n // 2, replace=False)) for _ in range(N_HALVES)]
        gains = np.array([contrast.read(refitter.fit(half))[0] for half in halves])
        gain, variance = contrast.read(contrast.effects)
        # A half drawn without replacement lies as far from the whole as the whole from the truth.
        spread, error = float(gains.std(ddof=1)), math.sqrt(max(variance, 1e-300))
        ratio = spread / error
        limit = math.sqrt(float(chi2.ppf(0.99, N_HALVES - 1)) / (N_HALVES - 1))
        n_alike = int((np.sign(gains) == np.sign(gain)).sum())
        found = (
            f"over {N_HALVES} random halves the gain runs from {gains.min():+.2f} to {gains.max():+.2f} (on all runs "
            f"{gain:+.2f}, the same sign in {n_alike}); its sd {spread:.2f} is {ratio:.2f} of the standard error"
        )
        if ratio > limit:
            return self.say(
                WARNING,
                ratio,
                f"Halves disagree by more than the interval says: {found} (at most {limit:.2f} is chance).",
                "Read the interval as that much wider; run more of the sweep, or take a smoother estimator.",
            )
        return self.say(PASSED, ratio, begin(found) + ".")


class RandomisedAgreement(Check):
    """Where some mixtures were drawn at random and others were not, the random ones are the judge of the others."""

    code, title, must = "CM015", "Randomised and observational runs agree", True
    refits = True

    def run(self, evidence: Evidence) -> CheckResult:
        """Compare the answer's gain as the two kinds of runs tell it."""
        from scipy.stats import norm

        contrast = find_contrast(evidence)
        if contrast is None:
            return self.skip("Nothing was fitted.")
        drawn = find_randomised(select_cohort(evidence.frame, evidence.cfg.cohort), evidence.roles.domains)
        rows, others = np.flatnonzero(drawn), np.flatnonzero(~drawn)
        if not len(rows) or not len(others):
            kind = "randomised" if len(rows) else "known to be randomised"
            return self.skip(f"{'All' if len(rows) else 'No'} runs are {kind} (design.mean_log.*).")
        refitter = make_refitter(evidence)
        if not (refitter.can_fit(len(rows)) and refitter.can_fit(len(others))):
            return self.skip(f"{len(rows)} randomised and {len(others)} other runs: one kind is too few to fit alone.")
        (gain, variance), (other, other_variance) = (contrast.read(refitter.fit(part)) for part in (rows, others))
        z = (gain - other) / math.sqrt(max(variance + other_variance, 1e-300))
        p = float(2 * norm.sf(abs(z)))
        found = (
            f"gain {gain:+.2f} +- {math.sqrt(variance):.2f} over {len(rows)} randomised runs, {other:+.2f} +- "
            f"{math.sqrt(other_variance):.2f} over {len(others)} others (p = {p:.4f})"
        )
        action = "Fit the randomised runs alone, or find what else moved mixture and outcome and add it to the state."
        if p < P_REFUSED:
            return self.say(FAILED, p, f"The observational runs are confounded: {found}.", action)
        if p < 0.05:
            return self.say(WARNING, p, f"The two kinds of runs may disagree: {found}.", action)
        return self.say(PASSED, p, begin(found) + ".")


class LeaveOnePoolOut(Check):
    """The answer is for a pool that no run had; leaving out one pool at a time is the nearest rehearsal of that."""

    code, title = "CM016", "Effects carry over to a pool that was left out"
    refits = True

    def run(self, evidence: Evidence) -> CheckResult:
        """Predict the runs of every pool, or cluster of states, by a fit on the others."""
        if evidence.fitted is None or evidence.predicted is None:
            return self.skip("Nothing was fitted.")
        groups, what = find_groups(evidence)
        if groups is None:
            return self.skip(what)
        refitter = make_refitter(evidence)
        largest = int(np.bincount(groups).max())
        if not refitter.can_fit(evidence.roles.n_runs - largest):
            return self.skip(f"Without the largest of the {what} too few runs are left.")
        predicted = predict_out_of_fold(refitter.roles, refitter.residuals, refitter.cfg, refitter.seed, groups)
        y = refitter.residuals.outcomes[:, 0]
        slope, error, _, r2 = calibrate(y, predicted)
        inside = calibrate(y, evidence.predicted)[3]
        found = (
            f"leaving out one of {groups.max() + 1} {what} at a time, slope {slope:.2f} +- {error:.2f}; effects "
            f"explain {max(r2, 0.0):.0%} there, {max(inside, 0.0):.0%} over random folds"
        )
        action = "Add runs on more kinds of pools, the target's among them; trust the mixture less far from the runs."
        if slope - 2 * error <= 0:
            return self.say(WARNING, slope, f"Effects do not carry over: {found}.", action)
        if abs(slope - 1) > max(2 * error, 0.25):
            size = "too large" if slope < 1 else "too small"
            return self.say(WARNING, slope, f"Elsewhere effects are {size}: {found}.", action)
        return self.say(PASSED, slope, begin(found) + ".")


def find_randomised(frame: pd.DataFrame, domains: tuple[str, ...]) -> NDArray[np.bool_]:
    """Say which runs (n,) share their known design mean of log T with many others: their T knew nothing of X."""
    names = [f"design.mean_log.{domain}" for domain in domains]
    if not set(names) <= set(frame.columns):
        return np.zeros(len(frame), dtype=bool)
    means = frame[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    known = np.isfinite(means).all(axis=1)
    keys = [tuple(np.round(row / SAME).tolist()) if ok else None for row, ok in zip(means, known)]
    sizes = pd.Series(keys, dtype=object).value_counts()
    return np.array([key is not None and sizes[key] >= LEAST_RANDOMISED for key in keys])


def find_groups(evidence: Evidence) -> tuple[Groups | None, str]:
    """Return a group for each run (n,) and what the groups are: pools where there are several, else states.

    A sweep's runs each have a candidate pool of their own, so ``pool.fingerprint`` groups only where runs share
    it; ``pool.store_fingerprint`` names the pool that the candidates were drawn from.
    """
    frame, roles = select_cohort(evidence.frame, evidence.cfg.cohort), evidence.roles
    for column in ("pool.store_fingerprint", "pool.fingerprint"):
        if column not in frame or frame[column].isna().any():
            continue
        codes, names = pd.factorize(frame[column].astype(str), sort=True)
        if 2 <= len(names) <= roles.n_runs // 4:
            if len(names) <= MOST_GROUPS:
                return codes.astype(np.int64), f"pools ({column})"
            order = np.random.default_rng([evidence.cfg.seed, 53]).permutation(len(names))
            return order[codes] % MOST_GROUPS, f"groups of {len(names)} pools ({column})"
    return cluster_states(roles)


def cluster_states(roles: Roles) -> tuple[Groups | None, str]:
    """Cut the runs into quarters along the first principal component of their states."""
    scale = roles.X.std(axis=0)
    if not (scale > 0).any():
        return None, "The table names one pool at most, and no state varies."
    standard = (roles.X - roles.X.mean(axis=0))[:, scale > 0] / scale[scale > 0]
    _, _, directions = np.linalg.svd(standard, full_matrices=False)
    ranks = np.argsort(np.argsort(standard @ directions[0], kind="stable"), kind="stable")
    loads = np.abs(directions[0])
    names = [name for name, s in zip(roles.x_names, scale) if s > 0]
    top = name_some([names[j] for j in np.argsort(-loads)[:2]])
    return ranks * 4 // roles.n_runs, f"clusters of states (quarters along their main direction, chiefly {top})"
