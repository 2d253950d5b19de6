"""Checks of what it would take to change the answer: more runs, or a cause that nobody measured."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from analysis.checks.check import PASSED, WARNING, Check, CheckResult, Evidence, begin
from analysis.checks.quality import measure_seed_sd
from analysis.checks.refits import Contrast, find_contrast
from analysis.estimators.effects import Effects
from analysis.roles import Roles
from causalmix.errors import name_some

Floats = NDArray[np.float64]

POWER = 0.8  # chance wanted that the lower bound clears zero, if the estimate is right


class RunPlan(Check):
    """An interval shrinks with the root of the runs, so what is missing can be counted before it is paid for."""

    code, title = "CM017", "The runs are enough for the gain to clear zero"

    def run(self, evidence: Evidence) -> CheckResult:
        """Say how many runs would put the lower bound above zero, or halve the interval."""
        from scipy.stats import norm

        target, candidate = evidence.target, evidence.candidate
        if evidence.fitted is None or target is None or candidate is None:
            return self.skip("Nothing was fitted.")
        if np.abs(candidate - target.reference).max() < 1e-9:
            return self.skip("The answer is the reference itself: there is no gain to tell from zero.")
        n = evidence.roles.n_runs
        gain, variance = evidence.fitted.effects.gain(target.x, candidate, target.reference)
        z = float(norm.ppf(0.5 + evidence.cfg.confidence / 2))
        half = z * math.sqrt(variance)
        found = f"the gain is {gain:+.2f} +- {half:.2f} at {n} runs; half the interval takes about {4 * n}"
        seeds = describe_seeds(evidence)
        if gain - half > 0:
            return self.say(PASSED, float(n), f"{begin(found)}. {seeds}")
        if gain <= 0:
            action = "More runs will not help this mixture: take another policy or region."
            return self.say(WARNING, None, f"No number of runs is known to clear zero: {found}. {seeds}", action)
        needed = plan_runs(n, gain, math.sqrt(variance), z)
        said = f"about {needed} runs would put its lower bound above zero ({POWER:.0%} of the time, if it is right)"
        action = f"Run {needed - n} more points of the sweep, or keep the reference."
        return self.say(WARNING, float(needed), f"{begin(found)}; {said}. {seeds}", action)


class UnobservedConfounding(Check):
    """No table holds every cause; the bound says how strong one that is missing must be to undo the answer."""

    code, title = "CM018", "A confounder would have to be strong to undo the gain"

    def run(self, evidence: Evidence) -> CheckResult:
        """Report robustness values of the gain and of each domain's effect; benchmark them by the state."""
        contrast = find_contrast(evidence)
        if contrast is None:
            return self.skip("Nothing was fitted.")
        roles, effects = evidence.roles, contrast.effects
        df = roles.n_runs - 1 - len(roles.domains) - len(roles.x_names)
        if df < 10:
            return self.skip(f"{df} degrees of freedom are too few.")
        alpha = 1.0 - evidence.cfg.confidence
        gain, variance = contrast.read(effects)
        error = math.sqrt(max(variance, 1e-300))
        point, bound = measure_robustness(gain / error, df), measure_robustness(gain / error, df, alpha)
        found = (
            f"a cause that explains {point:.1%} of what the state leaves of both the mixture's direction and the "
            f"outcome would explain the gain away, {bound:.1%} would bring its interval to zero "
            f"(by domain: {_list_domains(effects, contrast.x, df)})"
        )
        if roles.randomised:
            return self.say(PASSED, bound, f"T was drawn at random, so none is expected; {found}.")
        name, bias = benchmark_state(evidence.roles, effects, contrast, error, df)
        if name is None:
            return self.say(PASSED, bound, f"{begin(found)}; no state to compare with.")
        told = f"one as strong as {name}, the strongest state feature, would move it by {bias:.2f} of {gain:+.2f}"
        if bias >= abs(gain):
            return self.say(
                WARNING,
                bound,
                f"A modest confounder would do: {found}; {told}.",
                "Add runs whose mixture is drawn at random, or measure what else differs between the pools.",
            )
        return self.say(PASSED, bound, f"{begin(found)}; {told}.")


def plan_runs(n_runs: int, gain: float, error: float, z: float) -> int:
    """Return the runs at which ``gain - z error`` exceeds zero with a chance of POWER.

    The standard error falls as ``1 / sqrt(n)``: ``n' = n ((z + z_power) error / gain)^2``, at least one run more.
    """
    from scipy.stats import norm

    return max(n_runs + 1, math.ceil(n_runs * ((z + float(norm.ppf(POWER))) * error / gain) ** 2))


def describe_seeds(evidence: Evidence) -> str:
    """Say what training every mixture twice would be worth, from the replicates."""
    noise = measure_seed_sd(evidence)
    if noise is None or evidence.fitted is None or evidence.predicted is None:
        return "The table has no replicates, so what more seeds a mixture would bring is not known."
    left = evidence.fitted.residuals.outcomes @ evidence.roles.outcome_weights - evidence.predicted
    share = min(noise**2 / max(float(left.var()), 1e-300), 1.0)
    return (
        f"Seeds make {share:.0%} of the variance that the fit leaves: training each mixture twice is worth "
        f"{1 / (1 - share / 2):.2f} times as many runs, new mixtures are worth 2."
    )


def measure_robustness(t: float, df: int, alpha: float | None = None) -> float:
    """Return the robustness value of an estimate with t-value ``t``.

    The least share R2 that a confounder must explain of the residual treatment and, equally, of the residual
    outcome to bring the estimate to zero (or, with ``alpha``, to make it insignificant at that level):
    ``RV = (sqrt(f^4 + 4 f^2) - f^2) / 2`` with ``f = |t| / sqrt(df)``, less ``t* / sqrt(df - 1)`` with ``alpha``.

    Notes
    -----
    Cinelli and Hazlett, "Making sense of sensitivity", Journal of the Royal Statistical Society B 82 (2020),
    equations 18 and 19. For a contrast d of several coefficients the same algebra holds, as a change of basis
    makes d'theta the coefficient of one regressor. Beyond ``f > sqrt(df - 1) / t*`` the limit is the extreme
    value ``(f^2 - f*^2) / (1 + f^2)``, at which a confounder that explains all of the outcome would do.
    """
    from scipy.stats import t as student

    f = abs(t) / math.sqrt(df)
    critical = 0.0 if alpha is None else float(student.ppf(1 - alpha / 2, df - 1)) / math.sqrt(df - 1)
    left = f - critical
    if left <= 0:
        return 0.0
    if critical > 0 and f > 1 / critical:
        return (f**2 - critical**2) / (1 + f**2)
    return (math.sqrt(left**4 + 4 * left**2) - left**2) / 2


def benchmark_state(
    roles: Roles, effects: Effects, contrast: Contrast, error: float, df: int
) -> tuple[str | None, float]:
    """Return the state feature whose twin would bias the gain most, and that bias in points.

    ``|bias| = error sqrt(df) sqrt(R2_y R2_d / (1 - R2_d))`` with the partial R2 of the feature in the outcome
    (given direction and other features) and in the direction D (given other features): Cinelli and Hazlett,
    equation 12, for a confounder as strong as the feature.
    """
    embedded = effects.embed(roles.mixtures)
    d = effects.embed(contrast.mixture) - effects.embed(contrast.reference)
    varies = np.ptp(roles.X, axis=0) > 0
    names, X = [name for name, v in zip(roles.x_names, varies) if v], roles.X[:, varies]
    ones = np.ones((roles.n_runs, 1))
    left = _remove(embedded, np.hstack([ones, X]))
    # D = Z (Z'Z)^-1 d is the regressor whose coefficient the contrast is, up to scale.
    D = embedded @ np.linalg.pinv(left.T @ left, rcond=1e-10, hermitian=True) @ d
    worst, name = 0.0, None
    for j, feature in enumerate(names):
        rest = np.hstack([ones, np.delete(X, j, axis=1)])
        r2_d = _partial_r2(D, X[:, j], rest)
        r2_y = _partial_r2(roles.Y, X[:, j], np.hstack([rest, embedded]))
        bias = error * math.sqrt(df * r2_y * r2_d / max(1.0 - r2_d, 1e-12))
        if name is None or bias > worst:
            worst, name = bias, feature
    return name, worst


def _partial_r2(target: Floats, regressor: Floats, given: Floats) -> float:
    """Return the squared correlation of ``target`` and ``regressor`` once both are rid of ``given``."""
    a, b = _remove(target, given), _remove(regressor, given)
    scale = float((a @ a) * (b @ b))
    return float(a @ b) ** 2 / scale if scale > 1e-300 else 0.0


def _remove(target: Floats, given: Floats) -> Floats:
    return np.asarray(target - given @ np.linalg.lstsq(given, target, rcond=None)[0])


def _list_domains(effects: Effects, x: Floats, df: int) -> str:
    theta, covariance = effects.theta(x), effects.covariance(x)
    errors = np.sqrt(np.clip(np.diag(covariance), 1e-300, None))
    values = [measure_robustness(float(t / e), df) for t, e in zip(theta, errors)]
    return name_some(f"{domain} {value:.0%}" for domain, value in zip(effects.domains, values))
