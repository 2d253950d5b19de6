"""Checks of what can be identified at all: a state that varies, measured before the mixture, with overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.checks.check import FAILED, PASSED, WARNING, Check, CheckResult, Evidence, begin
from analysis.estimators.fit import FAMILIES
from analysis.estimators.nuisances import assign_folds, make_regressor
from causalmix.errors import name_some

Floats = NDArray[np.float64]

N_PERMUTATIONS = 1999
P_REFUSED = 0.001  # randomised design
R2_WARNED, R2_REFUSED = 0.5, 0.8  # otherwise, out of sample
OVERLAP_LEAST = 0.1
DESIGN_DRAWS = 20_000  # behind a sampler's own mean of log T
P_DESIGN = 1e-4  # logs of shares are skewed: of 40 runs, one sweep in a hundred reaches .001 by chance
SAME_STATE = 0.01  # of a state's spread over runs: less is the rounding of another device


class ConstantState(Check):
    """A state that is the same in every run carries no information; econml fits it without a word."""

    code, title, before_fit, must = "CM001", "The state varies over runs", True, True

    def run(self, evidence: Evidence) -> CheckResult:
        """Fail where every column of X is constant; warn where some are."""
        roles = evidence.roles
        if not FAMILIES[evidence.cfg.estimator.kind].uses_state:
            return self.skip("The estimator uses no state.")
        constant = roles.constant_names
        if set(roles.x_names) <= set(constant):
            return self.say(
                FAILED,
                0.0,
                f"X is constant: {name_some(roles.x_names)} has one value in all {roles.n_runs} runs.",
                "Draw a candidate pool for each run (pool.candidate.kind=tilted) and measure its state, or "
                "take estimator=no_covariates.",
            )
        if constant:
            return self.say(
                WARNING,
                float(len(roles.x_names)),
                f"{name_some(constant)} has one value in all runs and was left out of X.",
                "Nothing can be said about pools that differ in it.",
            )
        return self.say(PASSED, float(len(roles.x_names)), f"{len(roles.x_names)} state features vary.")


class BadControl(Check):
    """X measured on the drawn mixture is a consequence of T: a bad control that hides the effects."""

    code, title = "CM002", "The state was measured before the mixture was drawn"
    before_fit, must = True, True

    def run(self, evidence: Evidence) -> CheckResult:
        """Predict X by T: by permutation where T was randomised, out of sample otherwise."""
        roles = evidence.roles
        if not FAMILIES[evidence.cfg.estimator.kind].uses_state or _all_constant(roles.X):
            return self.skip("No state varies.")
        action = (
            "Measure the state on the candidate pool, with fixed weights, before the mixture is drawn; or "
            "take estimator=no_covariates, or allow_failed_checks=[CM002] if you know why T predicts X."
        )
        regressors = np.hstack([roles.mixtures, roles.Z])
        if roles.randomised:
            r2, p = test_dependence(roles.X, regressors, evidence.cfg.seed)
            found = f"X is predicted by T with R2 {r2:.2f} (permutation p = {p:.4f}), and T was randomised"
            if p < P_REFUSED:
                return self.say(FAILED, p, f"X looks measured on the mixture: {found}.", action)
            return self.say(PASSED, p, f"{found}: no more than chance.")
        r2 = float(max(predict_out_of_sample(regressors, roles.X, evidence.cfg.seed)))
        found = f"X is predicted by T with an out-of-sample R2 of {r2:.2f}"
        if r2 > R2_REFUSED:
            return self.say(FAILED, r2, f"X looks measured on the mixture: {found}.", action)
        if r2 > R2_WARNED:
            return self.say(WARNING, r2, f"X may have been measured on the mixture: {found}.", action)
        return self.say(PASSED, r2, f"{found}.")


class OneStatePerPool(Check):
    """The state is measured before the mixture is drawn, so runs of one candidate pool must have one state."""

    code, title = "CM019", "Runs of one candidate pool have one state"
    before_fit, must = True, True

    def run(self, evidence: Evidence) -> CheckResult:
        """Compare the states of the runs that share a ``pool.fingerprint``."""
        frame = evidence.frame
        names = [str(column) for column in frame if str(column).startswith("state.")]
        if not names:
            return self.skip("The table has no state.")
        if "pool.fingerprint" not in frame:
            return self.skip("The table has no pool.fingerprint (which candidate pool a run drew from).")
        # Another normaliser is another scale: the same pool then has other numbers.
        keys = [c for c in ("pool.fingerprint", "pool.normaliser_fingerprint") if c in frame]
        known = frame.dropna(subset=keys)
        groups = known.groupby(keys)[names]
        n_shared = int((groups.size() > 1).sum())
        if n_shared == 0:
            return self.skip(f"No two of {len(known)} runs share a candidate pool.")
        spread = known[names].std(ddof=0).replace(0.0, np.inf)
        gaps = ((groups.max() - groups.min()) / spread).max(axis=1)
        worst = float(gaps.max())
        if worst > SAME_STATE:
            moved = [str(key[0] if isinstance(key, tuple) else key) for key in gaps.index[gaps > SAME_STATE]]
            return self.say(
                FAILED,
                worst,
                f"X looks measured on the mixture: runs of pool {name_some(moved, 3)} differ in state by up to "
                f"{worst:.2f} of its spread over runs.",
                "Measure the state on the candidate pool before the mixture is drawn. If pool.fingerprint names the "
                "whole pool rather than each run's candidate pool, call that column pool.store_fingerprint.",
            )
        return self.say(PASSED, worst, f"{n_shared} candidate pools are shared by several runs; each has one state.")


class Confounding(Check):
    """How much of the mixture the state explains: none in a randomised sweep."""

    code, title = "CM003", "How much of the mixture the state explains"

    def run(self, evidence: Evidence) -> CheckResult:
        """Compare Z with its design's mean, where that is known; report the R2 of Z on X with a permutation p-value."""
        roles = evidence.roles
        p_design = 1.0 if roles.design_mean is None else judge_design_mean(roles.Z, roles.design_mean)
        if roles.design_mean is not None and p_design < P_DESIGN:
            gap = float(np.abs((roles.Z - roles.design_mean).mean(axis=0)).max())
            return self.say(
                WARNING,
                gap,
                f"The runs' mean of Z is not what their design.mean_log.* say: {gap:.2f} off (p = {p_design:.1g}).",
                "These columns may be of another design, floor or size, or runs are missing by their mixture: find out "
                "which, and take estimator.nuisance.treatment=lightgbm until then.",
            )
        if not roles.x_names or _all_constant(roles.X):
            return self.skip("No state varies.")
        r2, p = test_dependence(roles.Z, roles.X, evidence.cfg.seed + 1)
        found = f"R2 of Z on X {r2:.2f}, permutation p = {p:.4f}"
        if roles.randomised:
            if p < P_REFUSED:
                return self.say(
                    WARNING,
                    r2,
                    f"{found}, though the sampler's mean is the same for all runs.",
                    "Look for runs that were dropped or chosen by their state.",
                )
            return self.say(
                PASSED,
                r2,
                f"{found}. T was drawn independently of X: nothing to deconfound, orthogonalisation only "
                "reduces variance.",
            )
        status = WARNING if p < 0.05 else PASSED
        action = "The answer leans on the state holding everything that moved both mixture and outcome."
        return self.say(status, r2, f"{found}.", action if status == WARNING else "")


class Overlap(Check):
    """Where the state fixes the mixture, no data are left to tell its effect."""

    code, title = "CM004", "Every direction of the mixture still varies given the state"

    def run(self, evidence: Evidence) -> CheckResult:
        """Judge the smallest generalised eigenvalue of Cov(Z residual) against Cov(Z)."""
        from scipy.linalg import eigh

        if evidence.fitted is None:
            return self.skip("Nothing was fitted.")
        residual = np.atleast_2d(np.cov(evidence.fitted.residuals.Z, rowvar=False))
        total = np.atleast_2d(np.cov(evidence.roles.Z, rowvar=False))
        ridge = 1e-12 * np.trace(total) * np.eye(len(total))
        least = float(eigh(residual, total + ridge, eigvals_only=True)[0])
        found = f"the least share of variance left in a direction of Z is {least:.2f}"
        if least < OVERLAP_LEAST:
            return self.say(
                WARNING,
                least,
                f"Weak overlap: {found} (at least {OVERLAP_LEAST:g} is wanted).",
                "Add runs whose mixture is drawn independently of the state.",
            )
        return self.say(PASSED, least, begin(found) + ".")


def test_dependence(targets: Floats, regressors: Floats, seed: int) -> tuple[float, float]:
    """Regress ``targets`` (n, p) on ``regressors`` (n, q) linearly; permute rows for a p-value.

    Returns
    -------
    r2 : float
        Mean over targets of the in-sample R2, adjusted for the number of regressors.
    p : float
        Share of permutations, the data themselves included, that reach the largest R2 of a target.
    """
    n = len(targets)
    scaled = targets - targets.mean(axis=0)
    norms = np.sqrt((scaled**2).sum(axis=0))
    scaled = scaled[:, norms > 0] / norms[norms > 0]
    left, singular, _ = np.linalg.svd(regressors - regressors.mean(axis=0), full_matrices=False)
    left = left[:, singular > 1e-9 * singular[0]]
    r2 = ((left.T @ scaled) ** 2).sum(axis=0)
    rng = np.random.default_rng([seed, 37])
    n_reached = 1
    for _ in range(N_PERMUTATIONS):
        permuted = ((left.T @ scaled[rng.permutation(n)]) ** 2).sum(axis=0)
        n_reached += int(permuted.max() >= r2.max())
    free = max(n - 1 - left.shape[1], 1)
    adjusted = 1.0 - (1.0 - r2) * (n - 1) / free
    return float(max(adjusted.mean(), 0.0)), n_reached / (N_PERMUTATIONS + 1)


def judge_design_mean(Z: Floats, means: Floats) -> float:
    """Return the p-value of ``E[Z] = means`` (both (n, p)) by Hotelling's T2; 1 where the runs are too few to tell."""
    from scipy.stats import f

    gaps = Z - means
    n, width = gaps.shape
    if n < 2 * width + 2:
        return 1.0
    # Means of a sampler are Monte Carlo themselves.
    scatter = np.atleast_2d(np.cov(gaps, rowvar=False)) * (1 / n + 1 / DESIGN_DRAWS)
    gap = gaps.mean(axis=0)
    statistic = float(gap @ np.linalg.pinv(scatter, hermitian=True) @ gap)
    return float(f.sf(statistic * (n - width) / (width * (n - 1)), width, n - width))


def predict_out_of_sample(regressors: Floats, targets: Floats, seed: int) -> list[float]:
    """Return the out-of-sample R2 of each target (n, p), the better of ridge and LightGBM over five folds."""
    folds = assign_folds(len(targets), 5, seed)
    best = []
    for target in targets.T:
        total = ((target - target.mean()) ** 2).sum()
        scores = []
        for kind in ("ridge", "lightgbm"):
            error = 0.0
            for fold in range(5):
                kept = folds != fold
                model = make_regressor(kind, seed).fit(regressors[kept], target[kept])
                error += ((target[~kept] - model.predict(regressors[~kept])) ** 2).sum()
            scores.append(1.0 - error / total if total > 0 else 0.0)
        best.append(float(max(scores)))
    return best


def _all_constant(X: Floats) -> bool:
    return X.shape[1] == 0 or bool(np.all(np.ptp(X, axis=0) <= 1e-10 * np.maximum(1.0, np.abs(X).max(axis=0))))
