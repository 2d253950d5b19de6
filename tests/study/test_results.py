"""Means, standard errors and spreads, against known truths and a second way of computing them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from causalmix.errors import SweepError
from causalmix.study.results import mean_and_se, measure_spread, summarise_confirmation


def make_anchors(
    between: float, seed_sd: float, n_mixtures: int, n_replicates: int, rng: np.random.Generator
) -> pd.DataFrame:
    effects = between * rng.standard_normal(n_mixtures)
    return pd.DataFrame(
        [
            {"seed": mixture, "replicate": replicate, "outcome.avg_dev": 30 + effects[mixture] + noise}
            for mixture in range(n_mixtures)
            for replicate, noise in enumerate(seed_sd * rng.standard_normal(n_replicates))
        ]
    )


SIGNAL = pd.DataFrame({"outcome.avg_dev": [28.0, 30.0, 32.0]})


def test_mean_and_se_by_hand() -> None:
    mean, se = mean_and_se(pd.Series([1.0, 2.0, 6.0]))
    assert mean == 3.0
    assert se == pytest.approx(math.sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2 / 3))


def test_se_is_the_spread_of_means() -> None:
    """Over many samples the mean of se^2 is the variance of the means (2,000 samples: standard error 3%)."""
    rng = np.random.default_rng(0)
    found = [mean_and_se(pd.Series(row)) for row in 2.0 * rng.standard_normal((2000, 3))]
    means, errors = np.array(found).T
    assert np.mean(errors**2) == pytest.approx(np.var(means), rel=0.12)


def test_an_unpaired_seed_is_no_zero() -> None:
    with pytest.raises(AssertionError, match="every arm has every seed"):
        mean_and_se(pd.Series([1.0, float("nan")]))


@pytest.mark.parametrize(("between", "seed_sd"), [(1.0, 0.3), (0.5, 0.5), (0.0, 0.4)])
def test_the_parts_of_the_variance_are_unbiased(between: float, seed_sd: float) -> None:
    """Known truth: over repeated anchors the estimated variances average to the true ones, within 4 standard errors."""
    rng = np.random.default_rng(1)
    spreads = [measure_spread(make_anchors(between, seed_sd, 6, 3, rng), SIGNAL) for _ in range(400)]
    within = np.array([spread.seed_sd**2 for spread in spreads])
    assert abs(within.mean() - seed_sd**2) < 4 * within.std(ddof=1) / 20
    if between > seed_sd:  # far from zero, where the truncation at zero biases nothing
        found = np.array([spread.between_sd**2 for spread in spreads])
        assert abs(found.mean() - between**2) < 4 * found.std(ddof=1) / 20


def test_the_spread_agrees_with_sums_over_pairs() -> None:
    """A second way: variances as half mean squared differences of pairs."""
    frame = make_anchors(0.8, 0.2, 5, 4, np.random.default_rng(2))
    spread = measure_spread(frame, SIGNAL)
    groups = [part["outcome.avg_dev"].tolist() for _, part in frame.groupby("seed")]
    inside = [(a - b) ** 2 / 2 for group in groups for a, b in itertools.combinations(group, 2)]
    within = sum(inside) / len(inside)
    means = [sum(group) / len(group) for group in groups]
    across = [(a - b) ** 2 / 2 for a, b in itertools.combinations(means, 2)]
    between = sum(across) / len(across) - within / 4
    assert spread.seed_sd == pytest.approx(math.sqrt(within))
    assert spread.between_sd == pytest.approx(math.sqrt(between))
    assert spread.ratio == pytest.approx(math.sqrt(between / within))
    assert (spread.n_mixtures, spread.n_replicates) == (5, 4)
    assert spread.signal_sd == pytest.approx(2.0)


def test_the_order_of_rows_does_not_matter() -> None:
    frame = make_anchors(0.8, 0.2, 5, 3, np.random.default_rng(3))
    assert measure_spread(frame.sample(frac=1, random_state=0), SIGNAL) == measure_spread(frame, SIGNAL)


def test_noise_that_is_larger_than_the_differences_gives_no_negative_spread() -> None:
    frame = pd.DataFrame({"seed": [0, 0, 1, 1], "replicate": [0, 1, 0, 1], "outcome.avg_dev": [1.0, 3.0, 3.0, 1.0]})
    spread = measure_spread(frame, SIGNAL)
    assert (spread.between_sd, spread.ratio) == (0.0, 0.0)


def test_trainings_without_any_noise_are_refused() -> None:
    frame = pd.DataFrame({"seed": [0, 0, 1, 1], "replicate": [0, 1, 0, 1], "outcome.avg_dev": [1.0, 1.0, 2.0, 2.0]})
    with pytest.raises(SweepError, match="to the last bit: the training seed changes nothing"):
        measure_spread(frame, SIGNAL)


def make_confirmation_frame() -> pd.DataFrame:
    noise = {0: 0.0, 1: 5.0, 2: -2.0}  # large between seeds, common to all mixtures
    gains = {"equal": 0.0, "natural": 1.0, "causalmix_a for swap": 3.0}
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "target": target,
                "size": size,
                "seed": seed,
                "outcome": 30 + gain * (1 if target == "swap" else -1) + common + (0.1 * seed if "mix" in arm else 0),
                "unseen": 20 + gain,
            }
            for target in ("swap", "back")
            for size in (2, 8)
            for arm, gain in gains.items()
            for seed, common in noise.items()
        ]
    )


def test_gains_are_paired_over_seeds() -> None:
    rows = summarise_confirmation(make_confirmation_frame())
    assert len(rows) == 2 * 2 * 3
    by_name = {(row.arm, row.target, row.size): row for row in rows}
    row = by_name["causalmix_a for swap", "swap", 2]
    assert row.gain_natural == pytest.approx(2.1)
    assert row.gain_natural_se == pytest.approx(0.1 / math.sqrt(3))  # the seeds' own noise is gone
    assert row.se > 1  # and is there in the mean
    assert by_name["causalmix_a for swap", "back", 8].gain_equal == pytest.approx(-2.9)
    assert (row.unseen_mean, row.unseen_se, row.n_seeds) == (23.0, 0.0, 3)
    equal = by_name["equal", "swap", 2]
    assert (equal.gain_equal, equal.gain_equal_se) == (0.0, 0.0)


def test_pairs_are_found_by_seed_not_by_place() -> None:
    frame = make_confirmation_frame()
    by_name = {(row.arm, row.target, row.size): row for row in summarise_confirmation(frame)}
    for row in summarise_confirmation(frame.sample(frac=1, random_state=1)):
        known = by_name[row.arm, row.target, row.size]
        assert row.gain_natural == pytest.approx(known.gain_natural)
        assert row.gain_natural_se == pytest.approx(known.gain_natural_se)
