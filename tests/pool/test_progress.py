from __future__ import annotations

import pytest

from causalmix.pool import progress
from causalmix.pool.progress import Progress


def test_a_log_has_whole_lines_and_a_last_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("quick", 10, show=True) as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""  # over before there was anything to say
    monkeypatch.setattr(progress, "SAY_EVERY_S", 0.0)
    with Progress("read", 12, show=True, done=4) as bar:
        bar.update(2)
        monkeypatch.setattr(progress, "SAY_EVERY_S", 99.0)
        bar.update(5)  # the total was an estimate
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("read: 6 of 12 documents, ")
    assert last.startswith("read: 11 of 11 documents, ")
    assert last.endswith(" a second, 0.0 min left")


def test_silence_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "SAY_EVERY_S", 0.0)
    with Progress("read", 2, show=False) as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""
