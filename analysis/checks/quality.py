"""Checks of how far a fit can be trusted: support, size, calibration, ranks, noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.answer import measure_support
from analysis.checks.check import FAILED, PASSED, WARNING, Check, CheckResult, Evidence, begin
from analysis.estimators.fit import FAMILIES
from analysis.roles import select_cohort
from causalmix.errors import name_some

Floats = NDArray[np.float64]

# Share of target states at which CausalForestDML is worse than Equal, by runs, on simulated step and linear truths.
WORSE_THAN_EQUAL = {32: 62, 64: 42, 128: 8, 256: 4}
RANK_LEAST = 0.3
FAR = 2.0  # times the distance that holds 95% of the runs: beyond it there is no advice


class TargetSupport(Check):
    """A state that no run had is answered by extrapolation."""

    code, title, must = "CM005", "The target's state lies among the states of the runs", True

    def run(self, evidence: Evidence) -> CheckResult:
        """Compare the target's state with the range and the distances of the runs."""
        roles, target = evidence.roles, evidence.target
        uses_state = FAMILIES[evidence.cfg.estimator.kind].uses_state
        if target is None or not roles.x_names or not uses_state:
            return self.skip("The estimator uses no state.")
        support = measure_support(roles, target, target.reference)
        found = (
            f"distance {support.distance:.2f} from the mean state, 95% of runs lie within {support.distance_limit:.2f}"
        )
        if support.state_is_supported:
            return self.say(PASSED, support.distance, begin(found) + ".")
        named = f"; outside the range of the runs: {name_some(support.outside)}" if support.outside else ""
        if support.unrelated:
            return self.say(
                FAILED,
                support.distance,
                f"Outside the support: the state breaks a relation of {name_some(support.unrelated)} that holds "
                f"exactly in all {roles.n_runs} runs{named}. No run tells what such a state does.",
                "Check that target.state is what was measured on one pool; add runs on pools like the target, or "
                "leave out the feature that others determine.",
            )
        far = support.distance > FAR * support.distance_limit
        return self.say(
            FAILED if far else WARNING,
            support.distance,
            f"Outside the support: {found}{named}.",
            "Check that target.state is in the table's own units; add runs on pools like the target.",
        )


class MixtureSupport(Check):
    """A mixture that no run came near is an extrapolation too."""

    code, title = "CM010", "The mixture lies among the mixtures of the runs"

    def run(self, evidence: Evidence) -> CheckResult:
        """Compare the residual leverage of the policy's mixture with those of the runs."""
        if evidence.target is None or evidence.candidate is None:
            return self.skip("No mixture was found.")
        support = measure_support(evidence.roles, evidence.target, evidence.candidate)
        found = f"leverage {support.leverage:.3f}, 95% of runs lie below {support.leverage_limit:.3f}"
        if support.mixture_is_supported:
            return self.say(PASSED, support.leverage, begin(found) + ".")
        return self.say(
            WARNING,
            support.leverage,
            f"Outside the support: {found}.",
            "Take a smaller region (policy.rho), or add runs with mixtures like it.",
        )


class SampleSize(Check):
    """Forests need runs: with few, equal shares do better at many states."""

    code, title = "CM006", "There are enough runs"

    def run(self, evidence: Evidence) -> CheckResult:
        """Warn below 128 runs where a forest was fitted."""
        n = evidence.roles.n_runs
        if evidence.cfg.estimator.kind != "causal_forest":
            return self.skip("The table of known failures is of forests.")
        sizes = "/".join(str(size) for size in WORSE_THAN_EQUAL)
        shares = "/".join(str(share) for share in WORSE_THAN_EQUAL.values())
        known = f"a causal forest was worse than Equal for {shares}% of targets at n={sizes}"
        if n < 128:
            return self.say(
                WARNING,
                float(n),
                f"{n} runs are few: {known}.",
                "Run more of the sweep, or take estimator=own_state.",
            )
        return self.say(PASSED, float(n), f"{n} runs; {known}.")


class Calibration(Check):
    """Out of fold, an effect of one point should be worth one point."""

    code, title = "CM007", "Predicted effects are calibrated out of fold (slope 1)"

    def run(self, evidence: Evidence) -> CheckResult:
        """Regress the outcome residual on the out-of-fold prediction ``theta(x)' z``."""
        if evidence.predicted is None or evidence.fitted is None:
            return self.skip("Nothing was predicted out of fold.")
        y = evidence.fitted.residuals.outcomes @ evidence.roles.outcome_weights
        slope, error, intercept, r2 = calibrate(y, evidence.predicted)
        found = (
            f"slope {slope:.2f} +- {error:.2f}, intercept {intercept:.2f}; effects explain {max(r2, 0):.0%} "
            "of what the state leaves of the outcome"
        )
        if slope - 2 * error <= 0:
            return self.say(
                WARNING,
                slope,
                f"Out of fold the effects predict nothing that can be told from noise: {found}.",
                "Run more of the sweep, or a less noisy outcome, before trusting the mixture.",
            )
        if abs(slope - 1) > max(2 * error, 0.25):
            return self.say(
                WARNING,
                slope,
                f"Effects are {'too large' if slope < 1 else 'too small'}: {found}.",
                "Read the predicted gain times the slope.",
            )
        return self.say(PASSED, slope, begin(found) + ".")


class RankAgreement(Check):
    """Ranks of runs that the fit did not see."""

    code, title = "CM008", "Predicted outcomes rank the runs out of fold"

    def run(self, evidence: Evidence) -> CheckResult:
        """Report the Spearman correlation of out-of-fold predicted with observed outcome."""
        from scipy.stats import spearmanr

        if evidence.predicted is None or evidence.fitted is None:
            return self.skip("Nothing was predicted out of fold.")
        base = evidence.fitted.residuals.outcomes_hat @ evidence.roles.outcome_weights
        predicted = base + evidence.predicted
        if np.ptp(predicted) == 0 or np.ptp(evidence.roles.Y) == 0:
            return self.skip("All predictions or all outcomes are equal.")
        rho = float(spearmanr(predicted, evidence.roles.Y).statistic)
        found = f"Spearman {rho:.3f} over {evidence.roles.n_runs} runs (the paper reports .756 on 64)"
        if rho < RANK_LEAST:
            return self.say(WARNING, rho, f"Weak: {found}.", "Run more of the sweep, or reduce the seed noise.")
        return self.say(PASSED, rho, found + ".")


class SeedNoise(Check):
    """Replicates of one mixture and pool say how much of the outcome no model can explain."""

    code, title = "CM009", "Mixtures move the outcome more than seeds do"

    def run(self, evidence: Evidence) -> CheckResult:
        """Compare the spread over runs with the spread over replicates."""
        noise = measure_seed_sd(evidence)
        if noise is None:
            return self.skip("The table has no replicates (runs with one mixture and state, other seeds).")
        spread = float(evidence.roles.Y.std(ddof=1))
        ratio = spread / noise if noise > 0 else float("inf")
        ceiling = 1.0 - min((noise / spread) ** 2, 1.0) if spread > 0 else 0.0
        found = f"sd over runs {spread:.3f}, over seeds {noise:.3f}; at most {ceiling:.0%} can be explained"
        if ratio < 3:
            return self.say(
                WARNING,
                ratio,
                f"Noisy: {found} (a ratio of 3 is wanted).",
                "Train longer, evaluate on more documents, or spread the mixtures wider.",
            )
        return self.say(PASSED, ratio, found + ".")


def measure_seed_sd(evidence: Evidence) -> float | None:
    """Return the pooled sd of the outcome over runs of one mixture and one state; None without such runs."""
    cohorts = ["signal"] if "cohort" not in evidence.frame else sorted(evidence.frame["cohort"].unique())
    wanted = {evidence.cfg.cohort, "replicate", "anchor"}
    parts = [select_cohort(evidence.frame, cohort) for cohort in cohorts if cohort in wanted]
    rows = [row for part in parts for row in part.to_dict("records")]
    keys = [c for c in evidence.frame if str(c).startswith(("mixture.", "state."))]
    names = [f"outcome.{name}" for name in evidence.roles.outcome_names]
    groups: dict[tuple[object, ...], list[float]] = {}
    for row in rows:
        value = float(np.dot([float(row[name]) for name in names], evidence.roles.outcome_weights))
        if np.isfinite(value):
            groups.setdefault(tuple(row[key] for key in keys), []).append(value)
    repeated = [np.array(values) for values in groups.values() if len(values) > 1]
    if not repeated:
        return None
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in repeated)
    return float(np.sqrt(squares / sum(len(values) - 1 for values in repeated)))


def calibrate(y: Floats, predicted: Floats) -> tuple[float, float, float, float]:
    """Regress outcome residuals (n,) on predicted effect parts (n,).

    Returns
    -------
    slope, error, intercept : float
        ``y = intercept + slope * predicted``; the slope's HC0 standard error.
    r2 : float
        ``1 - sum (y - predicted)^2 / sum y^2``, below zero where predicting nothing would be better.
    """
    design = np.column_stack([np.ones(len(y)), predicted])
    bread = np.linalg.pinv(design.T @ design, hermitian=True)
    intercept, slope = bread @ design.T @ y
    scores = design * (y - design @ [intercept, slope])[:, None]
    error = float(np.sqrt((bread @ (scores.T @ scores) @ bread)[1, 1]))
    r2 = 1.0 - float(((y - predicted) ** 2).sum() / (y**2).sum())
    return float(slope), error, float(intercept), r2
