"""Checks that try to break the fit: effects where there are none, and causes that are none."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.checks.check import FAILED, PASSED, WARNING, Check, CheckResult, Evidence, begin
from analysis.checks.identification import P_REFUSED, test_dependence
from analysis.checks.refits import Contrast, Refitter, find_contrast, make_refitter
from analysis.estimators.effects import Effects
from analysis.estimators.fit import FAMILIES
from analysis.estimators.nuisances import residualise
from analysis.roles import select_cohort
from causalmix.errors import name_some

Floats = NDArray[np.float64]

N_CLOSED_FORM = 811  # at 5%: a binomial interval of +- 1.5
N_SLOW = 24  # forests and other families that take a tenth of a second
LEAST_CONTROLS = 20  # runs with a negative-control outcome


class Placebo(Check):
    """With the mixtures shuffled there is no effect; intervals that find one too often are too narrow for advice."""

    code, title = "CM011", "Intervals hold zero where there is no effect"
    refits = True

    def run(self, evidence: Evidence) -> CheckResult:
        """Count the shuffles whose interval of the answer's gain leaves out zero."""
        contrast = find_contrast(evidence)
        if contrast is None:
            return self.skip("Nothing was fitted.")
        refitter = make_refitter(evidence)
        default = N_CLOSED_FORM if refitter.is_closed_form(contrast.effects) else N_SLOW
        n = default if evidence.cfg.n_placebo is None else evidence.cfg.n_placebo
        if n < 1:
            return self.skip("n_placebo=0: no shuffle was asked for.")
        level = 1.0 - evidence.cfg.confidence
        alarms = count_false_alarms(refitter, contrast, n, level)
        least, most = find_binomial_range(n, level)
        rate, error = alarms / n, math.sqrt(level * (1 - level) / n)
        found = (
            f"{alarms} of {n} shuffles ({rate:.1%}) gave an interval without zero; {level:.0%} are wanted, "
            f"{least} to {most} by chance (Monte-Carlo error {error:.1%})"
        )
        if alarms > most:
            action = "Read the intervals as narrower than they should be; run more of the sweep, or compare estimators."
            return self.say(WARNING, rate, f"Too many false alarms: {found}.", action)
        wide = " Intervals are wider than they need be." if alarms < least else ""
        return self.say(PASSED, rate, f"{found}.{wide}")


class NegativeControl(Check):
    """A mixture cannot move what was measured before training; where it seems to, something else moved both."""

    code, title, must = "CM012", "The mixture does not move a negative-control outcome", True
    refits = True

    def run(self, evidence: Evidence) -> CheckResult:
        """Test every column ``control.<name>`` for dependence on the residual mixture, by permutation."""
        if evidence.fitted is None:
            return self.skip("Nothing was fitted.")
        frame = select_cohort(evidence.frame, evidence.cfg.cohort)
        names = [str(column) for column in frame if str(column).startswith("control.")]
        if not names:
            return self.skip(
                "The table has no negative-control outcome (a column control.<name>, for example the base "
                "model's score before training)."
            )
        values = frame[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        varies = [_varies(column) for column in values.T]
        rows = np.flatnonzero(np.isfinite(values[:, varies]).all(axis=1))
        if not any(varies) or len(rows) < LEAST_CONTROLS:
            return self.skip(
                f"{name_some(names)}: {len(rows) if any(varies) else 0} runs have a value, and values that vary, in "
                f"all of them; at least {LEAST_CONTROLS} are needed."
            )
        named = name_some(name for name, v in zip(names, varies) if v)
        r2, p = self._test(evidence, values[np.ix_(rows, np.flatnonzero(varies))], rows)
        found = (
            f"the residual mixture explains {named} with R2 {r2:.2f} over {len(rows)} runs (permutation p = {p:.4f})"
        )
        action = (
            "Find what moved both the mixture and the score before training, and add it to the state; or fit "
            "runs whose mixture was drawn at random."
        )
        if p < P_REFUSED:
            return self.say(FAILED, p, f"The mixture seems to move what came before it: {found}.", action)
        if p < 0.05:
            return self.say(WARNING, p, f"The mixture may move what came before it: {found}.", action)
        return self.say(PASSED, p, f"{begin(found)}: no more than chance.")

    def _test(self, evidence: Evidence, values: Floats, rows: NDArray[np.int64]) -> tuple[float, float]:
        """Test all controls (m, c) of the ``rows`` (m,) as one: the permutations judge the largest R2 of them."""
        assert evidence.fitted is not None, "asked above"
        cfg = evidence.cfg.estimator
        seen = evidence.roles if FAMILIES[cfg.kind].uses_state else evidence.roles.forget_state()
        weights = np.full(values.shape[1], 1.0 / values.shape[1])
        names = tuple(f"control {j}" for j in range(values.shape[1]))
        part = dataclasses.replace(seen.take(rows), outcome_names=names, outcomes=values, outcome_weights=weights)
        # The treatment's residuals are those of the fit: the mean spares a second fit of them.
        light = dataclasses.replace(cfg.nuisance, treatment="mean")
        residual = residualise(part, light, evidence.cfg.seed + cfg.seed).outcomes
        return test_dependence(residual, evidence.fitted.residuals.Z[rows], evidence.cfg.seed + 59)


class RandomCause(Check):
    """A covariate of pure noise explains nothing; effects that move when it is added hang on chance."""

    code, title = "CM013", "A random common cause leaves the effects where they are"
    refits = True

    def run(self, evidence: Evidence) -> CheckResult:
        """Add noise to W, fit again, and compare the shift of the effects with their standard errors."""
        contrast = find_contrast(evidence)
        if contrast is None:
            return self.skip("Nothing was fitted.")
        refitter = make_refitter(evidence)
        before, after = refit_with_noise(evidence, refitter)
        effects, x = contrast.effects, contrast.x
        errors = np.sqrt(np.clip(np.diag(effects.covariance(x)), 1e-300, None))
        shifts = dict(zip(effects.domains, np.abs(after.theta(x) - before.theta(x)) / errors))
        variance = contrast.read(effects)[1]
        moved = abs(contrast.read(after)[0] - contrast.read(before)[0])
        shifts["the gain"] = moved / math.sqrt(max(variance, 1e-300))
        worst = max(shifts, key=lambda name: shifts[name])
        found = f"{worst} most, by {shifts[worst]:.2f} of its standard error"
        if shifts[worst] > 1.0:
            return self.say(
                WARNING,
                shifts[worst],
                f"Noise moves the effects: {found}.",
                "The nuisances overfit: take estimator.nuisance.outcome=ridge, or run more of the sweep.",
            )
        return self.say(PASSED, shifts[worst], f"Noise moves {found}.")  # a name such as d00 is never capitalised


def _varies(column: Floats) -> bool:
    """Say whether enough runs have a value, and not all the same."""
    known = column[np.isfinite(column)]
    return len(known) >= LEAST_CONTROLS and float(np.ptp(known)) > 1e-10 * max(1.0, float(np.abs(known).max()))


def count_false_alarms(refitter: Refitter, contrast: Contrast, n: int, level: float) -> int:
    """Shuffle the (residual) mixtures over runs ``n`` times, refit, and count intervals that leave out zero.

    One joint contrast a shuffle: the K effects of one fit are correlated, and counting them as K trials would
    claim more than was seen.
    """
    from scipy.stats import norm

    rng = np.random.default_rng([refitter.seed, 41])
    limit = float(norm.ppf(1.0 - level / 2.0))
    alarms = 0
    for _ in range(n):
        gain, variance = contrast.read(refitter.permute(rng.permutation(refitter.roles.n_runs)).fit())
        alarms += int(abs(gain) > limit * math.sqrt(variance))
    return alarms


def find_binomial_range(n: int, level: float) -> tuple[int, int]:
    """Return the least and the most of ``n`` alarms that chance gives, 95% of it, at a rate of ``level``."""
    from scipy.stats import binom

    return int(binom.ppf(0.025, n, level)), int(binom.ppf(0.975, n, level))


def refit_with_noise(evidence: Evidence, refitter: Refitter) -> tuple[Effects, Effects]:
    """Return quick refits without and with one standard normal covariate in W, alike in all else."""
    assert evidence.fitted is not None, "checks that refit come after the fit"
    nuisance, seed, roles = refitter.cfg.nuisance, refitter.seed, refitter.roles
    noise = np.random.default_rng([seed, 43]).standard_normal((roles.n_runs, 1))
    noisy = dataclasses.replace(roles, W=np.hstack([roles.W, noise]), w_names=(*roles.w_names, "noise"))
    # One outcome's nuisance anew, as the mean of the abilities' nuisances is not the mean's nuisance.
    plain = residualise(roles, dataclasses.replace(nuisance, treatment="mean"), seed)  # its Z gives way to the fit's
    plain = dataclasses.replace(plain, Z=refitter.residuals.Z, Z_hat=refitter.residuals.Z_hat)
    before = dataclasses.replace(refitter, residuals=plain)
    after = dataclasses.replace(refitter, roles=noisy, residuals=residualise(noisy, nuisance, seed))
    return before.fit(), after.fit()
