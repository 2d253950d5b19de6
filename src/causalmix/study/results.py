"""What the confirmation runs say: means with standard errors, differences paired over seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from causalmix.errors import SweepError
from causalmix.table.paired import mean_and_se


@dataclass(frozen=True)
class ConfirmationRow:
    """One mixture on one target pool at one size.

    Attributes
    ----------
    arm : str
        What chose the mixture, for example ``causalmix_a for junk_in_math``.
    target : str
        Pool it was trained on.
    size : int
        Documents, as a multiple of the proxies'.
    mean, se : float
        AvgDev in points over seeds, and its standard error.
    unseen_mean, unseen_se : float
        The same on the unseen split.
    gain_equal, gain_equal_se : float
        Difference to Equal, paired over seeds.
    gain_natural, gain_natural_se : float
        Difference to natural shares, paired over seeds.
    n_seeds : int
        Trainings behind each figure.
    """

    arm: str
    target: str
    size: int
    mean: float
    se: float
    unseen_mean: float
    unseen_se: float
    gain_equal: float
    gain_equal_se: float
    gain_natural: float
    gain_natural_se: float
    n_seeds: int


def summarise_confirmation(frame: pd.DataFrame) -> list[ConfirmationRow]:
    """Summarise confirmation runs.

    Parameters
    ----------
    frame : DataFrame
        One row a run: ``arm, target, size, seed, outcome, unseen``.

    Returns
    -------
    list of ConfirmationRow
        One a target, size and arm, in the order in which they first stand in the frame.
    """
    rows = []
    for (target, size), group in frame.groupby(["target", "size"], sort=False):
        by_arm = {str(arm): part.set_index("seed").sort_index() for arm, part in group.groupby("arm", sort=False)}
        for arm, part in by_arm.items():
            gains = [mean_and_se(part["outcome"] - by_arm[name]["outcome"]) for name in ("equal", "natural")]
            rows.append(
                ConfirmationRow(
                    arm,
                    str(target),
                    int(str(size)),
                    *mean_and_se(part["outcome"]),
                    *mean_and_se(part["unseen"]),
                    *gains[0],
                    *gains[1],
                    n_seeds=len(part),
                )
            )
    return rows


@dataclass(frozen=True)
class Spread:
    """How much of an outcome is mixture, and how much is the training seed.

    Attributes
    ----------
    between_sd : float
        Standard deviation between mixtures on one pool, points; seed noise taken out.
    seed_sd : float
        Pooled standard deviation of one mixture trained again.
    ratio : float
        ``between_sd / seed_sd``; 3 or more means that effects stand out of the noise.
    signal_sd : float
        Standard deviation over the signal runs, whose pools differ too.
    n_mixtures, n_replicates : int
    """

    between_sd: float
    seed_sd: float
    ratio: float
    signal_sd: float
    n_mixtures: int
    n_replicates: int

    def to_dict(self) -> dict[str, float]:
        """Return plain values for JSON."""
        return asdict(self)


def measure_spread(anchors: pd.DataFrame, signal: pd.DataFrame, outcome: str = "outcome.avg_dev") -> Spread:
    """Split the anchors' variance into mixture and seed by one-way analysis of variance.

    Parameters
    ----------
    anchors : DataFrame
        Runs table of the anchor cohort: ``seed`` names the mixture, ``replicate`` the training.
    signal : DataFrame
        Runs table of the signal cohort.
    outcome : str
        Column to split.

    Raises
    ------
    SweepError
        Where trainings of one mixture do not differ at all.
    """
    wide = anchors.pivot(index="seed", columns="replicate", values=outcome).to_numpy(dtype=np.float64)
    n_mixtures, n_replicates = wide.shape
    within = float(wide.var(axis=1, ddof=1).mean())
    if within == 0:
        raise SweepError(
            f"training {n_mixtures} mixtures {n_replicates} times each gave the same {outcome} to the last bit: "
            f"the training seed changes nothing, so there is no noise to compare with. Train for longer."
        )
    between = max(float(wide.mean(axis=1).var(ddof=1)) - within / n_replicates, 0.0)
    return Spread(
        between_sd=between**0.5,
        seed_sd=within**0.5,
        ratio=(between / within) ** 0.5,
        signal_sd=float(signal[outcome].std(ddof=1)),
        n_mixtures=n_mixtures,
        n_replicates=n_replicates,
    )
