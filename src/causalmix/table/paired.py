"""Means over seeds, with standard errors and t intervals; differences are taken pair by pair before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

AUTOMATIC = ("pool.fingerprint", "model.name", "train.n_samples")  # what may differ between comparisons


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes
    ----------
    mean : float
    se : float or None
        Standard error of the mean; None with a single seed, which says nothing about its own noise.
    low, high : float or None
        Two-sided t interval with ``n - 1`` degrees of freedom.
    n : int
    """

    mean: float
    se: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def estimate_mean(values: pd.Series[float], confidence: float) -> Estimate:
    """Estimate a mean with its interval, ``mean -+ t_{n-1} s / sqrt(n)``.

    Parameters
    ----------
    values : Series
        One number a seed, all finite.
    confidence : float
    """
    mean, se = mean_and_se(values)
    if len(values) < 2:
        return Estimate(mean, None, None, None, len(values))
    from scipy.stats import t

    half = float(t.ppf(0.5 + confidence / 2, len(values) - 1)) * se
    return Estimate(mean, se, mean - half, mean + half, len(values))


def mean_and_se(values: pd.Series[float]) -> tuple[float, float]:
    """Mean and standard error of the mean; values must be complete, so an unpaired seed is an error."""
    numbers = values.to_numpy(dtype=np.float64)
    assert np.isfinite(numbers).all(), "every arm has every seed"
    if len(numbers) < 2:
        return float(numbers.mean()), math.nan
    return float(numbers.mean()), float(numbers.std(ddof=1) / np.sqrt(len(numbers)))


def find_groups(runs: pd.DataFrame, arms: pd.Series[str]) -> tuple[str, ...]:
    """Find the columns that comparisons must not mix: those that vary.

    A pool that differs with the seed is a draw of that seed, which pairing takes care of; a pool that an arm
    was trained on with several seeds is a target.

    Parameters
    ----------
    runs : DataFrame
        A runs table.
    arms : Series of str
        What chose each run's mixture.
    """
    by = [name for name in AUTOMATIC if name in runs and runs[name].nunique() > 1]
    if "pool.fingerprint" in by and "seed" in runs:
        seeds = runs.groupby([arms.rename("arm"), runs["pool.fingerprint"]])["seed"].nunique()
        if int(seeds.max()) < 2:
            by.remove("pool.fingerprint")
    return tuple(by)
