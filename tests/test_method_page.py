"""Every claim of docs/method.md names the tests that hold it, and they exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "method.md"


def test_every_claim_is_held_by_tests_that_exist():
    written = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    claims = [block for block in PAGE.read_text().split("\n\n") if block.startswith("**")]
    assert len(claims) > 8
    for claim in claims:
        named = re.findall(r"`(test_\w+)`", claim)
        assert named, claim.splitlines()[0]
        assert not set(named) - written, f"{sorted(set(named) - written)} of {claim.splitlines()[0]}"
