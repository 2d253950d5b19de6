from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.checks.check import FAILED, Check, explain
from analysis.checks.run import CHECKS

PAGES = Path(__file__).resolve().parents[2] / "docs" / "checks"
HEADINGS = ["What is asked", "Why it matters", "How it is computed", "How to read it", "What to do"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_check_has_a_page_that_agrees(check):
    page = (PAGES / f"{check.code}.md").read_text(encoding="utf-8")
    assert page.splitlines()[0] == f"# {check.code}: {check.title}"
    assert re.findall(r"^## (.*)$", page, re.M) == HEADINGS
    assert ("It may fail" in page) == check.must
    assert ("stops the analysis before the fit, unless" in page) == check.before_fit
    linked = re.findall(r"\((CM\d+\.md)\)", page)
    assert all((PAGES / name).is_file() for name in linked)


def test_no_page_is_left_over_and_the_list_names_them_all():
    codes = [check.code for check in CHECKS]
    assert sorted(path.stem for path in PAGES.glob("CM*.md")) == sorted(codes)
    listed = (PAGES / "README.md").read_text(encoding="utf-8")
    for check in CHECKS:
        worst = "fails" if check.must else "warns"
        when = "before the fit" if check.before_fit else "after it"
        assert f"| [{check.code}]({check.code}.md) | {check.title} | {when} | {worst} |" in listed


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_check_says_why_in_a_sentence_or_two(check):
    why = explain(check)
    assert 30 < len(why) < 250
    assert "\n" not in why
    result = check().skip("for no reason")
    assert result.to_json()["page"] == f"docs/checks/{check.code}.md"
    assert result.why == why


def test_only_must_checks_can_fail():
    class Mild(Check):
        """It only warns."""

        code, title = "CM999", "mild"

        def run(self, evidence):
            return self.say(FAILED, None, "no")

    with pytest.raises(AssertionError, match="no must-check"):
        Mild().run(None)
