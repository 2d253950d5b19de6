"""A study's figures as tables of text and as sentences: one source for terminal and page."""

from __future__ import annotations

import itertools
from typing import Any

from causalmix.study.loop import StudyResult
from causalmix.study.results import ConfirmationRow

TWINS_L1 = 0.01
Rows = list[list[str]]


def list_mixtures(result: StudyResult) -> Rows:
    """Tabulate every arm's own answer, its predicted gain and whether advice was given; header first."""
    domains = sorted(next(iter(result.mixtures.values()))["candidate"])
    rows: Rows = [["mixture", *domains, "predicted gain", "interval", "advice"]]
    for arm, mixture in result.mixtures.items():
        gain = mixture["gain"]
        shares = [f"{mixture['candidate'][domain]:.3f}" for domain in domains]
        interval = f"{gain['low']:+.2f} to {gain['high']:+.2f}"
        rows.append([arm, *shares, f"{gain['estimate']:+.2f}", interval, mixture["advice"]])
    return rows


def list_confirmation(result: StudyResult) -> Rows:
    """Tabulate what training on each mixture gave; header first."""
    rows: Rows = [["trained on", "documents", "mixture", "dev", "over equal", "over natural", "unseen", "seeds"]]
    for row in result.confirmation:
        rows.append(
            [
                row.target,
                f"x{row.size}",
                row.arm.removesuffix(f" for {row.target}"),
                f"{row.mean:.2f} ± {row.se:.2f}",
                f"{row.gain_equal:+.2f} ± {row.gain_equal_se:.2f}",
                f"{row.gain_natural:+.2f} ± {row.gain_natural_se:.2f}",
                f"{row.unseen_mean:.2f} ± {row.unseen_se:.2f}",
                str(row.n_seeds),
            ]
        )
    return rows


def describe_spread(result: StudyResult) -> str:
    """Say how far mixtures stand out of the noise of training seeds."""
    spread = result.spread
    assert spread is not None
    return (
        f"Spread between mixtures on one pool {spread.between_sd:.2f} points, between training seeds "
        f"{spread.seed_sd:.2f} ({spread.n_mixtures} mixtures x {spread.n_replicates} seeds): "
        f"ratio {spread.ratio:.1f}, aim 3 or more. Spread of all proxies, pools differing too: {spread.signal_sd:.2f}."
    )


def describe_seconds(result: StudyResult) -> str:
    """Say what each stage took."""
    return "Seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in result.seconds.items()) + "."


def describe_verdicts(result: StudyResult) -> list[str]:
    """Hold every mixture's predicted gain against what training on it gave, on the pool it was made for.

    A measured difference is called one where it exceeds two standard errors of the paired difference.
    """
    sentences = []
    for row in result.confirmation:
        mixture = _find_mixture(result, row)
        if mixture is None or not row.arm.endswith(f" for {row.target}"):
            continue
        gain = mixture["gain"]
        sentences.append(
            f"{row.arm}, x{row.size} documents: predicted {gain['estimate']:+.2f} over the reference "
            f"({gain['low']:+.2f} to {gain['high']:+.2f}, on the proxies' scale), advice {mixture['advice']}; "
            f"measured {_weigh(row.gain_natural, row.gain_natural_se)} natural shares and "
            f"{_weigh(row.gain_equal, row.gain_equal_se)} Equal."
        )
    return sentences


def describe_twins(result: StudyResult) -> list[str]:
    """Name mixtures that are all but equal and what they measured: how far a difference can be noise.

    Two mixtures count as equal below an L1 distance of .01, a few documents in a thousand.
    """
    sentences = []
    for first, second in itertools.combinations(result.confirmation, 2):
        if (first.target, first.size) != (second.target, second.size):
            continue
        one, other = _find_mixture(result, first), _find_mixture(result, second)
        if one is None or other is None:
            continue
        distance = sum(abs(share - other["candidate"][name]) for name, share in one["candidate"].items())
        if distance < TWINS_L1:
            sentences.append(
                f"{first.arm} and {second.arm} are all but one mixture (L1 {distance:.3f}) and measured "
                f"{first.mean:.2f} ± {first.se:.2f} and {second.mean:.2f} ± {second.se:.2f} on {first.target}, "
                f"x{first.size}: differences of {abs(first.mean - second.mean):.2f} are noise here."
            )
    return sentences


def _find_mixture(result: StudyResult, row: ConfirmationRow) -> dict[str, Any] | None:
    """Find the mixture that a row was trained on; None for Equal and natural shares."""
    asked = (result.mixtures.get(key) for key in (row.arm, f"{row.arm}, x{row.size}"))
    return next((mixture for mixture in asked if mixture and mixture["size"] == row.size), None)


def _weigh(gain: float, se: float) -> str:
    relation = "not distinguishable from" if abs(gain) <= 2 * se else "above" if gain > 0 else "below"
    return f"{gain:+.2f} ± {se:.2f}, {relation}"
