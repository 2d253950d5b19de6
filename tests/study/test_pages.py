"""Terminal and page: every figure comes from the result, and every figure of the result arrives."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from causalmix.study.loop import StudyResult
from causalmix.study.page import spell_command, write_page
from causalmix.study.results import ConfirmationRow, Spread
from causalmix.study.summary import present
from causalmix.study.tables import describe_twins, describe_verdicts, list_confirmation, list_mixtures
from causalmix.table.layout import to_markdown
from tests.plain import make_plain

DOMAINS = ("coding", "math")
ARMS = ("causalmix_a for swap", "causalmix_a for back")


def make_result(seed: int) -> StudyResult:
    """A study of random figures: whatever a page shows and is not among them was typed in."""
    rng = np.random.default_rng(seed)

    def number() -> float:
        return float(rng.uniform(10, 99))

    def mixture(arm: str) -> dict[str, Any]:
        share = float(rng.uniform(0.1, 0.9))
        return {
            "candidate": {"coding": share, "math": 1 - share},
            "gain": {"estimate": number(), "low": -number(), "high": number(), "confidence": 0.9},
            "advice": "withheld" if "back" in arm else "given",
            "size": 2,
            "reason": "not above zero" if "back" in arm else "above zero",
            "file": f"{arm.split()[-1]}/mixture.json",
        }

    confirmation = [
        ConfirmationRow(arm, target, 2, *(number() for _ in range(8)), n_seeds=int(rng.integers(2, 9)))
        for target in ("swap", "back")
        for arm in ("equal", "natural", *ARMS)
    ]
    spread = Spread(number(), number(), number(), number(), int(rng.integers(2, 99)), int(rng.integers(2, 99)))
    return StudyResult(
        "demo",
        Path("studies/demo"),
        seconds={"pool": number(), "proxies": 10 * number()},
        mixtures={arm: mixture(arm) for arm in ARMS},
        confirmation=confirmation,
        spread=spread,
        n_runs={"proxies": 101, "anchors": 18, "confirmation": 37},
        main_arm=ARMS[0],
        report=Path("studies/demo/report.html"),
    )


def make_study_plain() -> dict[str, Any]:
    plain = make_plain()
    plain["study"].update(name="demo", n_seeds=3)
    return plain


def list_figures(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+", text))


def list_allowed(result: StudyResult, *roundings: str) -> set[str]:
    """Every figure that a result holds, as the page rounds it."""
    figures = [*vars(result.spread).values(), *result.seconds.values()]
    for row in result.confirmation:
        figures += [value for value in vars(row).values() if isinstance(value, float)]
    for mixture in result.mixtures.values():
        figures += [*mixture["candidate"].values(), *mixture["gain"].values()]
    return {format(abs(figure), rounding) for figure in figures for rounding in roundings}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_figure_of_the_page_is_typed_in(seed: int) -> None:
    result = make_result(seed)
    page = write_page(result, make_study_plain(), ["experiment=demo"])
    assert list_figures(page) <= list_allowed(result, ".2f", ".3f", ".1f", ".0f")
    for row in result.confirmation:
        for figure in (
            row.mean,
            row.se,
            row.gain_equal,
            row.gain_equal_se,
            row.gain_natural,
            row.gain_natural_se,
        ):
            assert f"{figure:.2f}" in page
    for count in ("101 proxies", "18 anchor runs", "37 confirmation runs"):
        assert count in page


def test_two_results_share_no_figure() -> None:
    one, two = (write_page(make_result(seed), make_study_plain(), []) for seed in (4, 5))
    assert len(list_figures(one) & list_figures(two)) <= 3  # by chance; none is a constant of the page


def test_the_page_says_where_advice_was_withheld() -> None:
    page = write_page(make_result(1), make_study_plain(), [])
    assert "withheld for: causalmix_a for back" in page


def test_the_page_shows_the_command_without_folders() -> None:
    arguments = ["experiment=study", "outputs=/a/b", "pool.path=/home/x/y", "sweep_dir=/c", "seed=range(3)"]
    said = spell_command(arguments)
    assert said == "python launch.py experiment=study pool.path=FOLDER 'seed=range(3)'"
    assert "/a/b" not in write_page(make_result(1), make_study_plain(), arguments)


def test_a_verdict_holds_a_size_against_its_own_prediction() -> None:
    result = make_result(6)
    arm = ARMS[0]
    larger = replace(next(row for row in result.confirmation if row.arm == arm and row.target == "swap"), size=8)
    result.confirmation.append(larger)
    assert len(describe_verdicts(result)) == 2  # nothing was predicted at the larger size
    other = make_result(7).mixtures[arm]
    result.mixtures[f"{arm}, x8"] = {**other, "size": 8}
    said = describe_verdicts(result)[-1]
    assert f"{arm}, x8 documents: predicted {other['gain']['estimate']:+.2f}" in said
    assert f"measured {larger.gain_natural:+.2f} ± {larger.gain_natural_se:.2f}" in said


def test_tables_are_whole() -> None:
    result = make_result(2)
    for rows in (list_mixtures(result), list_confirmation(result)):
        assert len({len(row) for row in rows}) == 1
        lines = to_markdown(rows)
        assert len({line.count("|") for line in lines}) == 1
    assert len(list_mixtures(result)) == 1 + len(ARMS)
    assert len(list_confirmation(result)) == 1 + len(result.confirmation)


def test_the_terminal_ends_with_mixture_gain_table_and_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = make_result(3)
    plain = make_study_plain()
    plain["study"]["docs_file"] = str(tmp_path / "docs" / "page.md")
    present(result, plain, ["experiment=demo"])
    said = capsys.readouterr().out
    gain = result.mixtures[result.main_arm]["gain"]
    for part in (
        f"{gain['estimate']:+.2f} points (90% interval {gain['low']:+.2f} to {gain['high']:+.2f})",
        "swap/mixture.json",
        "studies/demo/report.html",
        "studies/demo/study.json",
        "Confirmation",
        f"{result.confirmation[2].mean:.2f} ± {result.confirmation[2].se:.2f}",
    ):
        assert part in said
    assert (tmp_path / "docs" / "page.md").read_text().startswith("# Study: demo")
    assert list_figures(said) <= list_allowed(result, ".2f", ".3f", ".1f", ".0f")


def test_mixtures_that_are_all_but_equal_show_the_noise() -> None:
    result = make_result(3)
    assert describe_twins(result) == []
    result.mixtures[ARMS[1]] = {**result.mixtures[ARMS[0]]}
    sentences = describe_twins(result)
    assert len(sentences) == 2  # one a target
    rows = [row for row in result.confirmation if row.target == "swap" and row.arm in ARMS]
    assert f"differences of {abs(rows[0].mean - rows[1].mean):.2f} are noise" in sentences[0]
    assert sentences[0] in write_page(result, make_plain(), ["experiment=demo"])
