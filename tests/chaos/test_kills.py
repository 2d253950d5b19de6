"""Five hundred kills; `make chaos` does ten thousand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.tiny import ROOT, make_environment


@pytest.mark.slow
def test_five_hundred_kills_lose_double_and_corrupt_nothing() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos.kills", "500"],
        cwd=ROOT,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = json.loads(ended.stdout)
    assert counts["kills"] == 500
    assert counts["complete"] == 64 * counts["sweeps"]
    assert (counts["lost"], counts["twice"], counts["corrupt"]) == (0, 0, 0)
