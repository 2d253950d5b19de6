import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from analysis.answer import Interval, Spread
from analysis.app import analyse_table
from analysis.checks.check import FAILED, PASSED, SKIPPED, WARNING, CheckResult
from analysis.report import render_report, write_report
from analysis.report.words import choose_ticks, spell_interval, spell_points, spell_share, spell_tick
from analysis.result import GIVEN, WITHHELD
from analysis.summary import print_answer
from causalmix.config import AnalysisConfig, EstimatorConfig, NuisanceConfig, PolicyConfig, TargetConfig
from causalmix.errors import AnalysisError
from tests.analysis.synthetic import DOMAINS, make_frame, make_runs

HOSTILE = '<script>alert("x")</script>&{{ 7*7 }}\'"'
VOID = {"meta", "link", "br", "hr", "img", "input", "col"}
CONFIRMATION = [
    {"target": "swap", "policy": "causalmix_a", "mean": 41.325, "se": 0.11, "n_seeds": 3, "gain": 1.22},
    {"target": "swap", "policy": HOSTILE, "mean": 40.1, "se": 0.09, "n_seeds": 3, "gain": 0.0},
]


class Page(HTMLParser):
    """A strict reader: tags must nest, ids must be unique."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.ids, self.words = [], [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def analyse(domains=DOMAINS, **estimator):
    cfg = AnalysisConfig(
        estimator=EstimatorConfig(
            nuisance=NuisanceConfig(outcome="ridge", treatment="ridge"),
            **{"name": "f", "kind": "own_state", "state": "domain", "per_outcome": False, **estimator},
        ),
        policy=PolicyConfig(name="causalmix_a", kind="causalmix_a"),
        target=TargetConfig(available=dict.fromkeys(domains, 900), n_samples=2000),
        baselines=["equal", "natural"],
        n_refits=3,
        n_threads=1,
    )
    return analyse_table(cfg, make_runs(make_frame(96, domains=domains)), progress=False)


@pytest.fixture(scope="module")
def answered():
    return analyse()


@pytest.fixture(scope="module")
def html(answered, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    return write_report(*answered, path, CONFIRMATION).read_text(encoding="utf-8")


def test_the_page_is_whole_and_stands_alone(html):
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert {"main", "h1", "h2", "table", "caption", "figure", "figcaption", "svg"} <= set(page.tags)
    assert page.tags.count("script") == 2  # the explorer's data, and one script; tests/report/test_explorer.py runs it
    assert not {"link", "img", "iframe", "object", "form", "base"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name in ("src", "srcset") or name.startswith("on")]
    links = [value for _, name, value in page.attributes if name == "href"]
    assert len(links) > 6
    assert all(link.startswith("#") and link[1:] in page.ids for link in links)
    assert not re.search(r"https?:|@import|url\(|\bsrc\s*=|fetch\(|XMLHttp|import\(|eval\(", html)


def test_every_plot_speaks_and_every_heading_is_named(html):
    page = Page(html)
    labels = [value for tag, name, value in page.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == page.tags.count("svg") > 3
    assert all(len(label) > 20 for label in labels)
    named = [value for _, name, value in page.attributes if name == "aria-labelledby"]
    assert set(named) <= set(page.ids)
    assert page.tags.count("h1") == 1
    scopes = [value for tag, name, value in page.attributes if tag == "th" and name == "scope"]
    assert len(scopes) == page.tags.count("th")


def test_light_dark_and_paper(html):
    for rule in ("prefers-color-scheme: dark", "@media print", "color-scheme: light dark"):
        assert rule in html


def test_the_numbers_are_there(answered, html):
    analysis, _ = answered
    text = Page(html).text
    for k, domain in enumerate(analysis.domains):
        assert domain in text
        assert spell_share(analysis.weights[k]) in text
        assert spell_share(analysis.target.reference[k]) in text
        effect = analysis.theta[k]
        assert f"{spell_points(effect.estimate)} ({spell_interval(effect.low, effect.high)})" in text
        assert str(analysis.counts[domain]["n"]) in text.replace("\N{NARROW NO-BREAK SPACE}", "")
    for answer in (analysis.candidate, *analysis.baselines):
        assert spell_interval(answer.gain.low, answer.gain.high) in text
    for check in analysis.checks:
        assert check.code in text
        assert " ".join(check.message.split()) in text
    for value in (*analysis.fingerprints.values(), "+1.22", "41.33", "40.85 to 41.80", str(analysis.n_runs)):
        assert value is None or value in text
    moved = analysis.moves[0, 1]
    assert spell_points(moved) in text


def test_the_answer_comes_first(html):
    sections = "answer mixture gains confirmation explorer effects curves checks state notes provenance"
    assert [name for name in Page(html).ids if not re.match("x-|explore$|explorer-data$", name)] == sections.split()


def test_withheld_advice_says_why_and_what_to_do(answered):
    analysis, roles = answered
    candidate = dataclasses.replace(analysis.candidate, gain=Interval(0.6, -0.4, 1.6))
    withheld = dataclasses.replace(
        analysis, advice=WITHHELD, reason="The gain is not above zero for sure.", candidate=candidate
    )
    text = Page(render_report(withheld.to_json(), roles, withheld.curves, folder="out")).text
    assert "Advice withheld: keep the reference mixture" in text
    assert "Why: The gain is not above zero for sure." in " ".join(text.replace(" :", ":").split())
    assert "mixture.use_candidate=true" in text
    given = dataclasses.replace(analysis, advice=GIVEN)
    text = Page(render_report(given.to_json(), roles, given.curves, folder="out")).text
    assert "Train on this mixture" in text
    assert "mixture.file=out/mixture.json" in text
    assert "Confirmation" not in text


def test_failed_checks_come_first_with_their_action(answered):
    analysis, roles = answered
    checks = tuple(
        CheckResult(f"CM{i}", f"title {status}", status, 1.5, f"found {status}", f"do {status}")
        for i, status in enumerate([PASSED, SKIPPED, WARNING, FAILED])
    )
    changed = dataclasses.replace(analysis, checks=checks)
    text = Page(render_report(changed.to_json(), roles, changed.curves, folder="out")).text
    section = text[text.index("1 failed, 1 warning, 1 passed, 1 not applicable.") :]
    places = [section.index(f"found {status}") for status in (FAILED, WARNING, PASSED, SKIPPED)]
    assert places == sorted(places)
    assert "do failed" in section
    assert "do passed" not in section


def test_an_allowed_failure_stands_above_everything(answered):
    analysis, roles = answered
    failed = CheckResult(
        "CM012", "No effect on the past", FAILED, 0.0005, "It has one.", "Do not.", "Why so.", "docs/x.md"
    )
    changed = dataclasses.replace(analysis, checks=(analysis.checks[0], failed), overruled=("CM012",))
    text = Page(render_report(changed.to_json(), roles, changed.curves, folder="out")).text
    first = text.index("Allowed although it failed: No effect on the past CM012 It has one.")
    assert first < text.index("predicted")
    assert "Why so. docs/x.md" in text
    console = Console(width=200, file=io.StringIO())
    print_answer(changed, {}, console)
    said = console.file.getvalue()
    assert said.startswith("ALLOWED ALTHOUGH IT FAILED: CM012 No effect on the past. It has one.")
    assert "Allowed although" not in Page(render_report(analysis.to_json(), roles, (), folder="out")).text


def test_the_tree_and_the_importances_are_drawn(answered):
    analysis, roles = answered
    page = Page(render_report(analysis.to_json(), roles, analysis.curves, folder="out"))
    assert "In a few rules" in page.text
    assert "Which features of the pool matter" in page.text
    assert len([value for _, name, value in page.attributes if name == "class" and value in ("node", "leaf")]) == len(
        analysis.tree
    )
    agnostic = dataclasses.replace(analysis, tree=(), importances={}, curves=())
    text = Page(render_report(agnostic.to_json(), roles, (), folder="out")).text
    assert "In a few rules" not in text
    assert "Where it lies among the runs" in text


def test_hostile_text_is_escaped_everywhere(answered):
    analysis, roles = answered
    domains = (HOSTILE, *analysis.domains[1:])
    check = CheckResult(HOSTILE, HOSTILE, WARNING, None, HOSTILE, HOSTILE)
    changed = dataclasses.replace(
        analysis,
        domains=domains,
        advice=WITHHELD,
        reason=HOSTILE,
        notes=(HOSTILE,),
        checks=(check,),
        fingerprints={"runs": HOSTILE, "pool": None},
        counts={(HOSTILE if name == DOMAINS[0] else name): value for name, value in analysis.counts.items()},
        shadow_prices={f"cap.{HOSTILE}": 1.0},
        baselines=tuple(dataclasses.replace(answer, name=HOSTILE) for answer in analysis.baselines[:1]),
    )
    page = render_report(
        changed.to_json(),
        dataclasses.replace(roles, domains=domains),
        changed.curves,
        folder=HOSTILE,
        confirmation=CONFIRMATION,
    )
    assert page.lower().count("<script") == 1
    assert "{{ 7*7 }}" in page
    read = Page(page)
    assert 'alert("x")' in read.text
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]


def test_a_domain_with_a_dot_and_seventeen_domains(tmp_path):
    domains = ("v1.5", *(f"a rather long domain name {i}" for i in range(16)))
    analysis, roles = analyse(domains)
    page = Page(write_report(analysis, roles, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "hes of the domain itself" in page.text
    assert page.text.count("v1.5") > 3


def test_a_fit_without_state_has_no_curves(tmp_path):
    analysis, roles = analyse(kind="no_covariates")
    bare = dataclasses.replace(analysis, spread=None, shadow_prices={}, counts={})
    text = Page(write_report(bare, roles, tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "effects move" not in text
    assert "The state the answer is for" not in text
    assert "Documents" not in text


def test_a_mixture_that_stays_at_the_reference(answered):
    analysis, roles = answered
    q = analysis.target.reference
    still = dataclasses.replace(
        analysis,
        weights=q,
        candidate=dataclasses.replace(analysis.candidate, weights=q, gain=Interval(0.0, 0.0, 0.0)),
        spread=Spread(np.stack([q, q]), np.zeros(len(q)), 0.0),
        moves=np.full_like(analysis.moves, np.nan),
    )
    text = Page(render_report(still.to_json(), roles, still.curves, folder="out")).text
    assert "no share moves" in text
    assert "\N{EM DASH}" in text


def test_a_disk_that_refuses_is_named(answered, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnalysisError, match="the report cannot be written"):
        write_report(*answered, tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-1.3, 2.1, [-1, 0, 1, 2]),
        (0.31, 0.39, [0.32, 0.34, 0.36, 0.38]),
        (2, 2, [2]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert choose_ticks(low, high) == pytest.approx(expected)


def test_numbers_are_spelled_for_people():
    assert spell_points(-1.234) == "\N{MINUS SIGN}1.23"
    assert spell_points(-0.001) == "0.00"
    assert spell_points(float("nan")) == spell_points(None) == "\N{EM DASH}"
    assert spell_interval(None, 1.0) == "\N{EM DASH}"
    assert spell_tick(0.1 + 0.2) == "0.3"
    assert spell_share(0.1234) == "12.3 %"
