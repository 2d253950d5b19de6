from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from analysis.coordinates import make_coordinates
from analysis.policies.box_rule import fill_greedily, fill_logs
from analysis.policies.causalmix_a import allocate_by_effects
from analysis.policies.propose import propose
from analysis.policies.regions.__main__ import main
from analysis.policies.regions.aitchison import AitchisonRegion
from analysis.policies.regions.box import BoxRegion, solve_box
from analysis.policies.regions.kl import KLRegion
from analysis.policies.regions.l2 import L2Region, project_euclidean
from analysis.policies.regions.registry import REGIONS, build_region
from analysis.policies.regions.reverse_kl import ReverseKLRegion
from analysis.roles import assign_roles
from analysis.target import Target
from causalmix.config import EstimatorConfig, OutcomeConfig, PolicyConfig
from causalmix.errors import AnalysisError
from causalmix.mixture.simplex import Box
from tests.analysis.problems import KnownEffects, draw_leverage, draw_problem, find_best, limit_region, make_regions
from tests.analysis.synthetic import make_frame, make_runs
from tests.analysis.test_policies import PUBLISHED

SEEDED = range(320)
LINEAR = ("reverse_kl", "l2")  # their objective is the first-order gain at the reference


def make_target(q, box, constraints=None):
    return Target(box.domains, np.empty(0), {}, q, q, box, None, None, 4.0, None, None, (), constraints or {})


def make_roles(n=120, domains=("a", "b", "c", "d", "e")):
    cfg = EstimatorConfig(name="x", kind="no_covariates")
    return assign_roles(make_runs(make_frame(n, domains=domains)), "signal", cfg, OutcomeConfig())


def describe_objective(name, theta, q):
    """Value and gradient of what a region's rule maximises."""
    if name in LINEAR:
        return lambda t: float(theta / q @ (t - q)), lambda t: theta / q
    return lambda t: float(theta @ np.log(np.maximum(t, 1e-12))), lambda t: theta / np.maximum(t, 1e-12)


@pytest.mark.parametrize("name", ["box", "kl", "reverse_kl", "l2"])
def test_closed_forms_agree_with_slsqp(name):
    """320 problems, K from 2 to 17, effects of both signs, tight floors and caps: the same optimum to 1e-6."""
    compared = 0
    for seed in SEEDED:
        rng, theta, q, box = draw_problem(seed)
        region = make_regions(rng, q, box)[name]
        found = region.solve(theta)
        assert region.contains(found.weights), seed
        scores = theta + found.prices.get("kl", 0.0) * q if name == "kl" else theta
        up = scores > 0
        if name in ("box", "kl") and box.cap[up].sum() + box.floor[~up].sum() < 1:
            continue  # what the caps leave over goes out like the reference: not the optimum, and documented so
        value, gradient = describe_objective(name, theta, q)
        best = find_best(value, gradient, limit_region(region), q, box, n_starts=3)
        # SLSQP may break a limit by 1e-9; what that is worth to it is no advantage.
        allowance = 1e-9 * sum(found.prices.values()) / (region.radius if name == "l2" else 1.0)
        assert value(found.weights) >= best - 1e-6 * max(1.0, np.abs(theta).max()) - allowance, seed
        compared += np.isfinite(best)
    assert compared >= 200  # the others: leftovers of caps, or no start of SLSQP that ends inside


def test_the_support_rule_agrees_with_slsqp_in_shares():
    for seed in range(25):
        rng, theta, q, box = draw_problem(seed)
        region = make_regions(rng, q, box)["support"]
        value, gradient = describe_objective("support", theta, q)
        found = region.solve(theta)
        assert region.contains(found.weights)
        best = find_best(value, gradient, limit_region(region), q, box)
        assert value(found.weights) >= best - 1e-6 * max(1.0, np.abs(theta).max()), seed


def test_the_aitchison_rule_is_the_best_of_its_ray():
    for seed in range(60):
        rng, theta, q, _ = draw_problem(seed)
        box = Box(tuple(f"d{k}" for k in range(len(q))), np.zeros(len(q)), np.ones(len(q)))
        region = AitchisonRegion(q, box, float(rng.choice([0.1, 1.0, 4.0])))
        ray = (theta - theta.mean()) / np.linalg.norm(theta - theta.mean())

        def value(t):
            weights = q * np.exp(t * ray)
            return float(theta @ np.log(weights / weights.sum()))

        tried = [value(t) for t in np.linspace(0, region.radius, 400)]
        inner = minimize_scalar(lambda t: -value(t), bounds=(0, region.radius), method="bounded")
        found = region.solve(theta).weights
        assert theta @ np.log(found) >= max(*tried, -inner.fun) - 1e-7
        assert region.contains(found)


def test_the_end_of_the_ray_is_the_farthest_along_the_effects():
    """In the ball, no mixture has a larger c' clr(T) than the end of the ray."""
    rng, theta, q, _ = draw_problem(3, n=5)
    centred = theta - theta.mean()
    best = centred @ np.log(q) + 0.7 * np.linalg.norm(centred)
    steps = rng.normal(size=(2000, 5))
    steps -= steps.mean(axis=1, keepdims=True)
    steps *= 0.7 / np.linalg.norm(steps, axis=1, keepdims=True)
    assert np.all((np.log(q) + steps) @ centred <= best + 1e-12)


@pytest.mark.parametrize("n", [2, 5, 39])
@pytest.mark.parametrize("kind", ["causalmix_a", "causalmix_s"])
def test_every_answer_stays_in_its_set(kind, n):
    roles = make_roles(160, tuple(f"d{k:02d}" for k in range(n)))
    for seed in range(3):
        _, theta, q, box = draw_problem(seed, n)
        target = make_target(q, dataclasses.replace(box, domains=roles.domains))
        for name in REGIONS:
            cfg = PolicyConfig(name="x", kind=kind, region=name, n_candidates=4_000)
            answer = propose(KnownEffects(theta), roles, target, cfg).weights
            assert box.contains(answer, 1e-9), (name, seed)
            region = build_region(cfg, roles, target)
            assert region.contains(answer) or np.allclose(answer, q), (name, seed)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "aitchison", "l2"])
def test_no_radius_keeps_the_reference(name):
    for seed in range(20):
        rng, theta, q, box = draw_problem(seed)
        region = dataclasses.replace(make_regions(rng, q, box)[name], radius=1e-10)
        assert np.abs(region.solve(theta).weights - q).max() < 3e-5  # KL is quadratic: sqrt(2e-10)


def test_a_wide_region_is_none():
    for seed in range(40):
        rng, theta, q, box = draw_problem(seed)
        free = solve_box(theta, q, box)
        for name, region in make_regions(rng, q, box).items():
            if name in ("off", "box"):
                continue
            wide = dataclasses.replace(region, radius=1e6)
            if name == "support":
                wide = dataclasses.replace(wide, leverage=dataclasses.replace(region.leverage, limit=1e6))
                up = theta > 0
                if box.cap[up].sum() + box.floor[~up].sum() < 1:
                    continue
            found = wide.solve(theta)
            if name in LINEAR:  # the linear programme's vertex
                assert theta / q @ (found.weights - fill_greedily(theta / q, box)) == pytest.approx(0, abs=1e-9)
            elif name == "aitchison":
                assert theta @ np.log(found.weights / q) >= 0
            else:
                assert np.abs(found.weights - free).max() < 1e-6, (seed, name)
            assert name not in found.prices


@pytest.mark.parametrize("name", REGIONS)
def test_no_positive_effect_gives_the_reference(name):
    for seed in range(10):
        rng, theta, q, box = draw_problem(seed)
        assert np.array_equal(make_regions(rng, q, box)[name].solve(-np.abs(theta)).weights, q)


@pytest.mark.parametrize("name", ["off", "box"])
@pytest.mark.parametrize(("theta", "shares"), PUBLISHED)
def test_published_leaves_through_the_policy(name, theta, shares):
    box = Box(("code", "if", "knowledge", "math", "safety"), np.full(5, 1e-9), np.ones(5))
    target = make_target(np.full(5, 0.2), box)
    answer = propose(KnownEffects(theta), None, target, PolicyConfig(name="a", kind="causalmix_a", region=name))
    code, following, knowledge, math, safety = answer.weights
    assert np.allclose([code, following, math, knowledge, safety], shares, atol=6e-4)
    assert np.allclose(answer.weights, allocate_by_effects(np.array(theta)), atol=1e-7)


@pytest.mark.parametrize(("theta", "shares"), PUBLISHED)
def test_a_wide_kl_region_gives_the_published_leaves_too(theta, shares):
    box = Box(tuple("abcde"), np.full(5, 1e-9), np.ones(5))
    code, following, knowledge, math, safety = KLRegion(np.full(5, 0.2), box, 1e3).solve(np.array(theta)).weights
    assert np.allclose([code, following, math, knowledge, safety], shares, atol=6e-4)


PRICED = {
    "kl": (0.05, 1e-6),
    "reverse_kl": (0.05, 1e-6),
    "aitchison": (0.3, 1e-6),
    "l2": (0.08, 1e-6),
    "support": (None, 1e-5),
    "box": (None, 1e-6),
}


@pytest.mark.parametrize("name", PRICED)
@pytest.mark.parametrize("case", ["free", "cap", "floor"])
def test_prices_are_finite_differences_of_the_optimum(name, case):
    """A price is what the optimum gains for one unit more room at its limit."""
    radius, step = PRICED[name]
    theta, q = np.array([2.0, 1.2, 0.9, -0.3]), np.array([0.2, 0.25, 0.25, 0.3])
    floor, cap = np.full(4, 0.02), np.ones(4)
    if case == "cap":
        cap[0] = 0.22
    if case == "floor":
        floor[3] = 0.29
    box = Box(tuple("abcd"), floor, cap)
    leverage, runs = draw_leverage(np.random.default_rng(0), q, Box(box.domains, np.full(4, 0.02), np.ones(4)))
    regions = make_regions(np.random.default_rng(0), q, box)
    region = regions[name]
    if name == "support":
        region = dataclasses.replace(region, leverage=leverage, radius=leverage.limit, runs=runs)
    elif radius is not None:
        region = dataclasses.replace(region, radius=radius)
    value, _ = describe_objective(name, theta, q)

    def widen(by):
        wide = dataclasses.replace(region, radius=region.radius + by)
        if name == "support":
            wide = dataclasses.replace(wide, leverage=dataclasses.replace(leverage, limit=leverage.limit + by))
        return wide

    def move(which, k, by):
        limits = {"floor": floor.copy(), "cap": cap.copy()}
        limits[which][k] += by
        return dataclasses.replace(region, box=Box(box.domains, **limits))

    def differ(make):
        return (value(make(step).solve(theta).weights) - value(make(-step).solve(theta).weights)) / (2 * step)

    prices = region.solve(theta).prices
    assert all(price > 0 for price in prices.values())
    if np.isfinite(region.radius):
        assert prices.get(name, 0.0) == pytest.approx(differ(widen), rel=1e-3, abs=1e-4)
        assert name in prices
    for k, domain in enumerate(box.domains):
        if cap[k] < 1:
            up = differ(lambda by, k=k: move("cap", k, by))
            assert prices.get(f"cap.{domain}", 0.0) == pytest.approx(up, rel=1e-3, abs=1e-4)
        down = differ(lambda by, k=k: move("floor", k, -by))
        assert prices.get(f"floor.{domain}", 0.0) == pytest.approx(down, rel=1e-3, abs=1e-4)
    if case != "free":
        assert any(key.startswith(case) for key in prices)


def test_a_cap_that_leaves_no_domain_free_is_priced_by_what_gives_way():
    box = Box(tuple("abc"), np.array([0.1, 0.1, 0.1]), np.array([0.6, 0.3, 1.0]))
    prices = BoxRegion(np.full(3, 1 / 3), box, np.inf).solve(np.array([5.0, 2.0, 0.1])).prices
    # One share more of a is taken from b, the only one above its floor; b's own cap is priced the other way round.
    assert prices["cap.a"] == pytest.approx(5.0 / 0.6 - 2.0 / 0.3)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 39), st.integers(0, 100_000), st.floats(-2, 6))
def test_projections_stay_in_the_box_and_are_nearest(n, seed, log_scale):
    rng, _, q, box = draw_problem(seed, n)
    point = q + 10**log_scale * rng.normal(size=n)
    nearest = project_euclidean(point, box)
    assert box.contains(nearest, 1e-9)
    for other in (q, fill_greedily(point, box)):  # no mixture of the box lies in the direction of the point
        assert (point - nearest) @ (other - nearest) <= 1e-7 * (1 + np.abs(point).max())
    tilted = fill_logs(np.log(q) + 10**log_scale * rng.normal(size=n), box)
    assert box.contains(tilted, 1e-9)


def test_zero_floors_and_far_slopes_are_no_trouble():
    box = Box(tuple("abc"), np.zeros(3), np.ones(3))
    q, theta = np.array([0.2, 0.3, 0.5]), np.array([900.0, -800.0, 1.0])
    for region in (ReverseKLRegion(q, box, 1.0), L2Region(q, box, 0.9), KLRegion(q, box, 3.0)):
        found = region.solve(theta)
        assert box.contains(found.weights, 1e-9)
        assert region.contains(found.weights)


def test_equal_slopes_at_the_reference_keep_it():
    q = np.array([0.2, 0.3, 0.5])
    box = Box(tuple("abc"), np.zeros(3), np.ones(3))
    for region in (ReverseKLRegion(q, box, 0.5), L2Region(q, box, 0.5)):
        assert np.allclose(region.solve(2.0 * q).weights, q)
    assert np.allclose(AitchisonRegion(q, box, 0.5).solve(np.ones(3)).weights, q)


@pytest.mark.parametrize("region", ["box", "kl", "reverse_kl", "aitchison", "l2", "support"])
def test_s_comes_near_the_best_of_its_region(region):
    roles = make_roles()
    effects = KnownEffects([1.0, 2.0, 0.4, 0.1, -0.2])
    box = Box(roles.domains, np.full(5, 0.02), np.ones(5))
    target = make_target(np.full(5, 0.2), box)
    gains = {}
    for kind in ("causalmix_a", "causalmix_s"):
        cfg = PolicyConfig(name=kind, kind=kind, region=region, radius=0.2)
        gains[kind] = effects.gain(target.x, propose(effects, roles, target, cfg).weights, target.reference)[0]
    assert gains["causalmix_s"] >= 0.97 * gains["causalmix_a"]


def test_s_fills_a_region_that_chance_would_miss():
    _, theta, q, box = draw_problem(4, n=39)
    target = make_target(q, box)
    for region, changes in (("kl", {"rho": 1e-6}), ("l2", {"radius": 1e-5}), ("off", {})):
        cfg = PolicyConfig(name="s", kind="causalmix_s", region=region, n_candidates=1_000, **changes)
        proposal = propose(KnownEffects(theta), None, target, cfg)
        assert proposal.notes == ()
        assert box.contains(proposal.weights, 1e-9)
        assert theta @ np.log(proposal.weights / q) > 0 or region == "off"


def test_a_reference_outside_the_support_starts_from_the_runs():
    roles = make_roles()
    q = np.array([0.92, 0.02, 0.02, 0.02, 0.02])
    target = make_target(q, Box(roles.domains, np.full(5, 0.02), np.ones(5)))
    cfg = PolicyConfig(name="a", kind="causalmix_a", region="support")
    region = build_region(cfg, roles, target)
    answer = propose(KnownEffects([1.0, 2.0, 0.4, 0.1, 0.3]), roles, target, cfg)
    assert not region.contains(q)
    assert region.contains(answer.weights)
    narrow = make_target(q, Box(roles.domains, np.array([0.9, *[0.02] * 4]), np.ones(5)))
    kept = propose(KnownEffects([1.0, 2.0, 0.4, 0.1, 0.3]), roles, narrow, cfg)
    assert np.array_equal(kept.weights, q)
    assert "lies in the support" in kept.notes[0]


def test_overshooting_is_said():
    box = Box(("a", "b"), np.full(2, 0.02), np.ones(2))
    target = make_target(np.array([0.5, 0.5]), box)
    cfg = PolicyConfig(name="a", kind="causalmix_a", region="l2", radius=0.6)
    proposal = propose(KnownEffects([1.1, 1.0]), None, target, cfg)
    assert any("overshoots" in note and "smaller radius" in note for note in proposal.notes)


def test_wrong_regions_and_radii_name_the_right_ones():
    box = Box(("a", "b"), np.full(2, 0.02), np.ones(2))
    target = make_target(np.array([0.5, 0.5]), box)
    for changes, message in [
        ({"region": "aitchisn"}, r"policy\.region=aitchisn \(did you mean 'aitchison'\?\); allowed: off, box, kl, rev"),
        ({"region": "reverse_kl", "rho": 0.0}, r"policy\.rho=0\.0: a radius in nats above 0"),
        ({"region": "l2", "radius": -1.0}, r"policy\.radius=-1\.0: a radius in shares above 0"),
        ({"region": "aitchison", "radius": float("nan")}, r"policy\.radius=nan: a radius of log-ratios above 0"),
    ]:
        for kind in ("causalmix_a", "causalmix_s"):
            with pytest.raises(AnalysisError, match=message):
                propose(KnownEffects([1.0, 2.0]), None, target, PolicyConfig(name="x", kind=kind, **changes))


def test_the_page_shows_what_its_command_prints(capsys):
    page = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text()
    command = next(line for line in page.splitlines() if line.startswith("python -m analysis.policies.regions"))
    assert main(command.split()[3:]) == 0
    assert capsys.readouterr().out in page
    assert all(f"- **{name}**" in page for name in REGIONS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["math", "code=x"], "error: math, code=x: domain=number is wanted"),
        (["math=1"], "error: math: a mixture needs at least two domains"),
        (["math=1", "code=2", "--reference", "math=.5"], "no share given for code"),
        (["math=1", "code=2", "--rho", "0"], "a radius in nats above 0"),
    ],
)
def test_the_command_says_what_it_wants(capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_refuses_coordinates_that_its_rule_does_not_speak_of():
    box = Box(("a", "b"), np.full(2, 0.02), np.ones(2))
    target = make_target(np.array([0.5, 0.5]), box)
    effects = KnownEffects([1.0, -1.0])
    for name, region, message in (("tangent", "kl", "effects of log shares"), ("ilr", "off", "sum to zero")):
        effects.coordinates = make_coordinates(name, 2)
        with pytest.raises(AnalysisError, match=message):
            propose(effects, None, target, PolicyConfig(name="a", kind="causalmix_a", region=region))
    effects.coordinates = make_coordinates("ilr", 2)
    answer = propose(effects, None, target, PolicyConfig(name="a", kind="causalmix_a"))
    assert answer.weights[0] > 0.5


@pytest.mark.parametrize("coordinates", ["ilr", "ilr_even", "alr", "tangent"])
def test_the_support_is_measured_in_the_coordinates_of_the_fit(coordinates):
    cfg = EstimatorConfig(name="x", kind="no_covariates", coordinates=coordinates)
    roles = assign_roles(make_runs(make_frame(120)), "signal", cfg, OutcomeConfig())
    target = make_target(np.full(5, 0.2), Box(roles.domains, np.full(5, 0.02), np.ones(5)))
    effects = KnownEffects([1.0, 2.0, 0.4, 0.1, -0.3])
    effects.coordinates = roles.coordinates
    for kind in ("causalmix_a", "causalmix_s"):
        cfg = PolicyConfig(name="x", kind=kind, region="support", n_candidates=3_000)
        if (kind, coordinates) == ("causalmix_a", "tangent"):
            continue
        answer = propose(effects, roles, target, cfg)
        assert build_region(cfg, roles, target).contains(answer.weights)
        assert effects.gain(target.x, answer.weights, target.reference)[0] > 0
