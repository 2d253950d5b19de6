"""The report in a real browser: its explorer answers as Python does, alone, for everyone."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from analysis.answer import estimate_gain, measure_support
from analysis.app import analyse_table
from analysis.policies.causalmix_a import propose_a
from analysis.policies.causalmix_s import propose_s
from analysis.policies.regions.registry import REGIONS
from analysis.report import write_report
from analysis.report.explorer import build_explorer
from analysis.report.page import hash_script
from causalmix.config import AnalysisConfig, EstimatorConfig, NuisanceConfig, PolicyConfig, TargetConfig
from causalmix.mixture.simplex import Box, project_to_box
from tests.analysis.synthetic import DOMAINS, make_config, make_frame, make_runs
from tests.browser.session import find_violations, keep_screenshot, open_page, start_browser

FAMILIES = {
    "own_state": {"state": "domain"},
    "own_state judged": {"kind": "own_state", "state": "domain", "interval": "gp", "surface": True},
    "linear_dml": {"degree": 2, "coordinates": "ilr"},
    "no_covariates": {},
    "varying_coefficient_gp": {"smoothness": "matern12"},
    "process by domain": {"kind": "varying_coefficient_gp", "state": "domain", "surface": False},
    "causal_forest": {"interval": "gp"},
}
SLOW = ("varying_coefficient_gp", "process by domain")  # "own_state judged" has a process too
RADII = ("rho", "aitchison", "l2")
SETTINGS = """sets => { for (const [id, value] of sets) { const e = document.getElementById(id);
    e.value = value; e.dispatchEvent(new Event('input')); } }"""


@pytest.fixture(scope="module")
def browser():
    with start_browser() as browser:
        yield browser


def analyse(name, **target):
    settings = {"kind": name, "max_search": 10, "n_trees": 60, "min_samples_leaf": 8, "per_outcome": False}
    cfg = AnalysisConfig(
        estimator=EstimatorConfig(
            nuisance=NuisanceConfig(outcome="ridge", treatment="auto"), name="f", **(settings | FAMILIES[name])
        ),
        policy=PolicyConfig(name="causalmix_a", kind="causalmix_a"),
        target=TargetConfig(available=dict.fromkeys(DOMAINS, 1500), n_samples=2000, **target),
        baselines=["equal"],
        n_refits=0,
        n_placebo=0,
        n_threads=1,
    )
    return analyse_table(cfg, make_runs(make_frame(120, noise=0.3)), progress=False)


@pytest.fixture(scope="module")
def answered():
    return analyse("own_state")


@pytest.fixture(scope="module")
def report(answered, tmp_path_factory):
    return write_report(*answered, tmp_path_factory.mktemp("explorer") / "report.html")


def ask_python(analysis, roles, settings, x):
    """Answer the page's settings the way `python -m analysis` does."""
    target = analysis.target
    box = Box(target.domains, np.array(settings["floor"]), np.array(settings["cap"]))
    asked = dataclasses.replace(target, x=x, box=box, reference=project_to_box(target.asked, box))
    region = settings["region"]
    policy = dataclasses.replace(analysis.policy, region=region, rho=settings["rho"], radius=settings.get(region))
    if settings["policy"] == "s":
        n = settings["n_candidates"]
        policy = dataclasses.replace(policy, kind="causalmix_s", n_candidates=n, n_best=n // 1000, kappa=0.0)
        mixture = propose_s(analysis.effects, roles, asked, policy).weights
    else:
        mixture = propose_a(analysis.effects, roles, asked, policy).weights
    gain = estimate_gain(analysis.effects, asked, mixture, analysis.confidence)
    return asked, mixture, gain


def leaves_mass_over(analysis, settings):
    """Whether the caps of the positive effects leave shares to the others: what the page's support rule is not for."""
    up = analysis.effects.theta(np.array(settings["state"])) > 0
    cap, floor = np.array(settings["cap"]), np.array(settings["floor"])
    return settings["region"] == "support" and cap[up].sum() + floor[~up].sum() < 1


def draw_sliders(page, rng):
    """Put every slider somewhere on its way; floors below caps, and room for a mixture."""
    sliders = page.eval_on_selector_all(
        "#explore input[type=range]", "all => all.map(e => [e.id, e.dataset.kind, +e.min, +e.max])"
    )
    part = {"state": (0.1, 0.9), "floor": (0.01, 0.12), "cap": (0.3, 1.0)} | dict.fromkeys(RADII, (0.01, 0.9))
    return [[name, low + rng.uniform(*part[kind]) * (high - low)] for name, kind, low, high in sliders]


def list_choices(has_level):
    """Every policy in every region; without their level effects name no mixture by themselves."""
    by_effects = [name for name in REGIONS if has_level or name not in ("off", "box")]
    return [("a", name) for name in by_effects] + [("s", name) for name in REGIONS]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FAMILIES]
)
def test_the_page_and_python_agree_at_random_settings(name, browser, tmp_path):
    analysis, roles = analyse(name)
    path = write_report(analysis, roles, tmp_path / "report.html")
    rng = np.random.default_rng(len(name))
    choices = list_choices(analysis.effects.coordinates.has_level)
    with open_page(browser, path.as_uri()) as page:
        for turn in range(len(choices) + 1):
            if turn:  # the first is the report's own answer
                page.evaluate(SETTINGS, draw_sliders(page, rng))
                policy, region = choices[turn - 1]
                page.check(f"input[value={policy}]")
                page.select_option("#x-region", region)
            settings, found = page.evaluate("[explorer.settings(), explorer.answer()]")
            settings["n_candidates"] = page.evaluate("explorer.content.search.n_candidates")
            if "no rule in this page" in found.get("problem", ""):
                assert leaves_mass_over(analysis, settings)
                continue
            assert "problem" not in found, found["problem"]
            x = np.array(found["placed"]["x"], dtype=np.float64)
            target, mixture, gain = ask_python(analysis, roles, settings, x)
            assert found["mixture"] == pytest.approx(mixture.tolist(), abs=1e-6)
            assert found["reference"] == pytest.approx(target.reference.tolist(), abs=1e-6)
            pairs = zip(found["effects"], analysis.effects.theta(x))
            assert all(effect["estimate"] == pytest.approx(theta, abs=1e-6) for effect, theta in pairs)
            assert found["gain"] == pytest.approx(dataclasses.asdict(gain), abs=1e-6)
            support = measure_support(roles, dataclasses.replace(target, x=np.array(settings["state"])), mixture)
            assert found["support"]["distance"] == pytest.approx(support.distance, abs=1e-6)
            assert found["support"]["outside"] == list(support.outside)
            supported = measure_support(roles, target, mixture)
            assert found["leverage"]["value"] == pytest.approx(supported.leverage, abs=1e-6)
            assert found["leverage"]["holds"] == supported.mixture_is_supported
            if not turn:
                assert mixture == pytest.approx(analysis.candidate.weights, abs=1e-9)
                assert found["advice"] == analysis.advice
            elif name != "causal_forest":
                assert x.tolist() == settings["state"]
        names = page.evaluate("explorer.answer().placed.name")
        assert (names is not None) == (name == "causal_forest")


def test_the_page_draws_what_numpy_draws(browser, report):
    shapes = [0.001, 0.3, 0.9, 1.0, 1.7, 40.0]
    generator = np.random.default_rng([0, 23])
    expected = [generator.random(), *generator.standard_normal(4000), *generator.standard_gamma(np.tile(shapes, 2000))]
    drawn = """shapes => { const g = explorer.generator();
        const list = (n, draw) => Array.from({ length: n }, (_, i) => draw(i));
        const [first, normals] = [g.uniform(), list(4000, () => g.normal())];
        const gammas = list(12000, i => g.gamma(shapes[i % shapes.length]));
        return [first, ...normals, ...gammas]; }"""
    with open_page(browser, report.as_uri()) as page:
        assert page.evaluate(drawn, shapes) == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_keys_move_sliders_and_numbers_and_a_button_brings_them_back(browser, report, answered):
    from playwright.sync_api import expect

    analysis, _ = answered
    with open_page(browser, report.as_uri()) as page:
        shares = page.locator("[data-cell=share]")
        gain = page.locator("[data-show=gain]")
        before = (shares.all_inner_texts(), gain.inner_text())
        assert before[0] == [f"{100 * share:.1f} %" for share in analysis.candidate.weights]
        page.focus("#x-state-0")
        for _ in range(12):
            page.keyboard.press("ArrowRight")
        expect(gain).not_to_have_text(before[1])
        assert shares.all_inner_texts() != before[0]
        page.get_by_text("The same from the command line").click()
        command = page.locator("[data-show=overrides]").inner_text()
        assert re.fullmatch(r"'target\.state=\{hes\.code: .*\}'", command)
        page.get_by_role("button", name="Back to the answer above").press("Enter")
        assert (shares.all_inner_texts(), gain.inner_text()) == before
        assert not page.locator("[data-show=command]").is_visible()
        expect(page.get_by_role("status")).to_have_text(re.compile("^Advice given. Gain .* points, from .* code .* %"))


def test_a_state_that_breaks_what_holds_in_all_runs_gets_no_advice(browser, tmp_path):
    frame = make_frame(60, noise=0.3)
    frame["state.again"] = frame["state.hes"]
    cfg = make_config("constant_dml", n_placebo=0)
    path = write_report(*analyse_table(cfg, make_runs(frame), progress=False), tmp_path / "report.html")
    with open_page(browser, path.as_uri()) as page:
        assert page.evaluate("explorer.answer().support.unrelated") == []
        page.evaluate(SETTINGS, [["x-state-0", 0.3]])
        support = page.evaluate("explorer.answer().support")
        assert support["unrelated"] == ["again", "hes"]
        assert support["isFar"]
        assert "breaks a relation of again, hes" in page.evaluate("explorer.answer().reason")


def test_warnings_and_withheld_advice(browser, report):
    with open_page(browser, report.as_uri()) as page:
        assert not page.locator("[data-show=warnings]").is_visible()
        page.evaluate(SETTINGS, [[f"x-state-{j}", 99] for j in range(15)])
        page.wait_for_selector("[data-show=warnings]:not([hidden])")
        warned = page.locator("[data-show=warnings]").inner_text()
        assert "Outside the range of the runs, so extrapolated: hes.code" in warned
        assert "95 % of the runs lie within" in warned
        assert page.locator("[data-show=advice]").inner_text() == "advice withheld"
        assert "[CM005]" in page.locator("[data-show=reason]").inner_text()
        page.get_by_role("button", name="Back").click()
        page.get_by_text("Floors and caps").click()
        page.evaluate(SETTINGS, [["x-floor-0", 0.9], ["x-floor-1", 0.5]])
        page.wait_for_selector("text=No mixture keeps")
        assert "floors sum to" in page.locator("[data-show=reason]").inner_text()
        assert not page.locator("[data-show=result]").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 420])
def test_nothing_stands_in_anyone_s_way(scheme, width, browser, report):
    with open_page(browser, report.as_uri(), color_scheme=scheme, viewport={"width": width, "height": 900}) as page:
        page.get_by_text("Floors and caps").click()
        assert find_violations(page) == []
        keep_screenshot(page, f"report_{scheme}_{width}", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_prints(browser, report):
    with open_page(browser, report.as_uri()) as page:
        page.emulate_media(media="print")
        assert not page.locator("#explore").is_visible()
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_the_policy_lets_this_script_alone_run(report):
    html = report.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", html, re.S).group(1)
    assert f"script-src '{hash_script(script)}'" in html
    assert "unsafe-eval" not in html
    assert html.count("<script") == 2


def test_what_a_page_cannot_answer_is_said(answered, tmp_path):
    analysis, roles = answered
    limited = dataclasses.replace(analysis, target=dataclasses.replace(analysis.target, constraints={"safety": 0.0}))
    assert "outcome.constraints" in build_explorer(limited, roles).reason
    html = write_report(limited, roles, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "There is no explorer in this report." in html
    assert html.count("<script") == 1
