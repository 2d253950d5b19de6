"""The page about scorers: its twenty lines run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from causalmix.cli import app
from causalmix.pool.store import open_pool
from tests.tiny import POOL, ROOT

PAGE = (ROOT / "docs" / "scorers.md").read_text()


def test_the_example_scores_a_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (override,) = re.findall(r"'(pool\.scores\.extra=\{sureness.*?)'\n", PAGE)
    (tmp_path / "my_scores.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["pool", "prepare", "pool=demo", *POOL, override, f"outputs={tmp_path}"]
    ended = CliRunner().invoke(app, arguments, catch_exceptions=False)
    pool = open_pool(ended.stdout.strip().splitlines()[-1])
    assert pool.features[-1] == "sureness"
    sure = pool.raw_scores[:, -1]
    assert 0 <= sure.min() < sure.max() == 1


def test_the_cheap_ones_compose_as_they_stand_there() -> None:
    from causalmix.cli import compose_config
    from causalmix.pool.scores.extra import make_scorers

    (override,) = re.findall(r"'(pool\.scores\.extra=\{compression.*?)'\n", PAGE)
    scorers = make_scorers(compose_config(["pool=demo", override])["pool"]["scores"]["extra"])
    assert list(scorers) == ["compression", "variety"]
