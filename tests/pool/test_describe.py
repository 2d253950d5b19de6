"""What a pool is said to hold: on the terminal, as JSON, as a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from causalmix.cli import app, main
from causalmix.config import CandidateConfig
from causalmix.pool.describe import describe_pool
from causalmix.pool.pictures import table_of, write_page
from causalmix.pool.store import Pool
from tests.tiny import POOL


class Page(HTMLParser):
    """Tags that are open, and whatever would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [
            str(value) for name, value in attrs if name in ("src", "href") and not str(value).startswith("#")
        ]


@pytest.fixture(scope="module")
def page(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "pool.html"
    facts = describe_pool(pool, CandidateConfig(), n_samples=1000)
    facts["name"] = "<script>alert(1)</script>"
    facts["left_out"] = {"exact_duplicates": {"math": 3}}
    facts["languages"] = {"n_documents": 10, "shares": {"math": {"en": 0.75, "de": 0.25}}}
    write_page(path, facts)
    return path.read_text(encoding="utf-8")


def test_page_stands_by_itself_and_runs_nothing(page: str) -> None:
    parser = Page()
    parser.feed(page)
    assert parser.loads == []
    assert "script" not in parser.tags
    assert "&lt;script&gt;alert(1)" in page


def test_every_picture_is_drawn_and_named(page: str, pool: Pool) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) == 3 + len(pool.features)
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        said = " ".join(root.itertext())
        assert all(domain in said for domain in pool.domains)
    assert "Repeats at 1,000 documents" in page
    assert "exact_duplicates" in page
    assert "0.75" in page


def test_page_without_a_target_size_has_no_repeats(pool: Pool, tmp_path: Path) -> None:
    write_page(tmp_path / "pool.html", describe_pool(pool, CandidateConfig()))
    assert "Repeats at" not in (tmp_path / "pool.html").read_text()


def test_tables_keep_rows_that_lack_a_value() -> None:
    assert table_of({"a": {"x": 1}, "b": {"y": 2.5}}).count("<td></td>") == 2


def test_commands_describe_and_verify(tmp_path: Path) -> None:
    run = CliRunner().invoke
    overrides = [*POOL, f"outputs={tmp_path}", "pool.dedup.kind=exact", "pool.language_sample=20"]
    page = tmp_path / "pool.html"
    told = run(app, ["pool", "describe", *overrides, "--json", "--n-samples", "500", "--html", str(page)])
    assert told.exit_code == 0, told.output
    facts = json.loads(told.stdout)
    assert facts["n_samples"] == 500
    assert facts["domains"]["math"]["repeats_equal"] == pytest.approx(100 / facts["domains"]["math"]["in_a_run"])
    assert facts["languages"]["n_documents"] == 20
    assert set(facts["left_out"]) == {"exact_duplicates"}
    assert set(facts["state"]["quantiles"]["hes.math"]) == {"0.05", "0.25", "0.5", "0.75", "0.95"}
    assert "Repeats at 500 documents" in page.read_text()
    narrow = run(app, ["pool", "describe", *overrides], env={"COLUMNS": "80"}).output
    assert "…" not in narrow  # no heading and no number is cut
    assert max(map(len, narrow.splitlines()[1:12])) <= 80
    shown = run(app, ["pool", "describe", *overrides], env={"COLUMNS": "300"})
    assert "q0.95" in shown.output
    assert "left out as exact_duplicates: " in shown.output
    assert "all as they were written" in run(app, ["pool", "verify", facts["path"]]).output


def test_stopping_by_hand_says_that_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("causalmix.pool.prepare.prepare", stop)
    monkeypatch.setattr("sys.argv", ["causalmix", "pool", "prepare"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == "stopped; what is complete stays. The same command goes on from here."
