from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.app import analyse_table
from analysis.estimators.effects import Effects
from analysis.estimators.fit import fit_effects
from analysis.estimators.linear import LinearEffects
from analysis.limits import read_constraints
from analysis.policies.constraints import read_limits, solve_constrained
from analysis.policies.propose import propose
from analysis.policies.regions.registry import REGIONS
from analysis.roles import assign_roles
from analysis.simulate.world import draw_table, make_world
from analysis.target import Target
from causalmix.config import DialsConfig, EstimatorConfig, OutcomeConfig, PolicyConfig, TargetConfig
from causalmix.errors import AnalysisError, CausalMixError
from causalmix.mixture.simplex import Box
from tests.analysis.problems import KnownEffects, draw_problem, find_best, limit_region, make_regions
from tests.analysis.synthetic import ABILITIES, DOMAINS, make_config, make_frame, make_runs
from tests.analysis.test_policies_regions import make_roles


def make_target(q, box, constraints):
    return Target(box.domains, np.empty(0), {}, q, q, box, None, None, 4.0, None, None, (), constraints)


def make_case(seed, n_constraints=1, n=None):
    """Effects on three abilities that disagree, and least gains of the first ones at or below zero."""
    rng, theta, q, box = draw_problem(seed, n)
    by_outcome = theta + np.abs(theta).max() * rng.normal(0, 0.7, (3, len(q)))
    effects = KnownEffects(by_outcome)
    if not np.any(effects.theta(np.empty(0)) > 0):
        effects.by_outcome = np.abs(by_outcome)
    roles = dataclasses.replace(make_roles(30), outcome_names=("a", "b", "c"))
    values = dict.fromkeys("abc"[:n_constraints], -float(rng.choice([0.0, 0.1])))
    return rng, effects, roles, make_target(q, box, values)


@pytest.mark.parametrize("n_constraints", [1, 2])
@pytest.mark.parametrize("name", ["box", "kl", "support"])
def test_the_lagrangian_agrees_with_slsqp(name, n_constraints):
    compared = 0
    for seed in range(25):
        rng, effects, roles, target = make_case(seed, n_constraints)
        q, box, theta = target.reference, target.box, effects.theta(target.x)
        region = make_regions(rng, q, box)[name]
        limits = read_limits(effects, roles, target)
        found = solve_constrained(region, theta, limits)
        assert region.contains(found.weights), seed
        assert limits.are_kept(found.weights), seed
        scores = theta + found.prices.get("kl", 0.0) * q if name == "kl" else theta
        scores = scores + sum(
            found.prices.get(f"constraint.{a}", 0.0) * limits.thetas[j] for j, a in enumerate(limits.names)
        )
        up = scores > 0
        if found.notes or (name != "support" and box.cap[up].sum() + box.floor[~up].sum() < 1):
            continue
        extra = [
            {
                "type": "ineq",
                "fun": lambda t, j=j: limits.gains(t)[j] - limits.values[j],
                "jac": lambda t, j=j: limits.thetas[j] / t,
            }
            for j in range(n_constraints)
        ]
        best = find_best(
            lambda t: float(theta @ np.log(t)), lambda t: theta / t, [*limit_region(region), *extra], q, box, n_starts=3
        )
        assert theta @ np.log(found.weights) >= best - 1e-6 * max(1.0, np.abs(theta).max()) - 1e-9 * sum(
            found.prices.values()
        ), seed
        compared += np.isfinite(best)
    assert compared >= 12


@pytest.mark.parametrize("kind", ["causalmix_a", "causalmix_s"])
@pytest.mark.parametrize("region", list(REGIONS))
def test_every_region_keeps_the_constraints(kind, region):
    roles = dataclasses.replace(make_roles(120), outcome_names=("a", "b", "c"))
    for seed in range(3):
        _, effects, _, target = make_case(seed, 2, n=5)
        target = dataclasses.replace(target, box=dataclasses.replace(target.box, domains=roles.domains))
        cfg = PolicyConfig(name="x", kind=kind, region=region, n_candidates=3_000)
        answer = propose(effects, roles, target, cfg)
        assert read_limits(effects, roles, target).are_kept(answer.weights), seed
        assert target.box.contains(answer.weights)
        assert "Predicted gain over the reference" in answer.notes[-1]


@pytest.mark.parametrize("region", ["box", "kl"])
def test_the_price_of_a_constraint_is_a_finite_difference(region):
    by_outcome = np.array([[2.0, 0.6, 0.4, 0.3], [0.1, 1.4, 0.3, 0.6], [1.8, 0.2, 0.9, 0.3]])
    effects, q = KnownEffects(by_outcome), np.full(4, 0.25)
    roles = dataclasses.replace(make_roles(30), outcome_names=("a", "b", "c"))
    box = Box(tuple("wxyz"), np.full(4, 0.02), np.ones(4))
    theta = effects.theta(np.empty(0))

    def answer(values, rho=0.3):
        target = make_target(q, box, values)
        return propose(effects, roles, target, PolicyConfig(name="a", kind="causalmix_a", region=region, rho=rho))

    def value(values, **changes):
        return float(theta @ np.log(answer(values, **changes).weights))

    step = 1e-5
    for values in ({"b": -0.1}, {"b": 0.05}, {"b": 0.02, "c": 0.04}):
        prices = answer(values).shadow_prices
        for name in values:
            up, down = ({**values, name: values[name] + by} for by in (-step, step))
            assert prices.get(f"constraint.{name}", 0.0) == pytest.approx(
                (value(up) - value(down)) / (2 * step), abs=1e-3
            )
        assert prices["constraint.b"] > 0
        if region == "kl" and "kl" in prices:
            wider = (value(values, rho=0.3 + step) - value(values, rho=0.3 - step)) / (2 * step)
            assert prices["kl"] == pytest.approx(wider, abs=1e-3)


def deal_bent_safety():
    """Two abilities: one gains by shares alike, the other loses on either side of the usual share of the first."""
    world = make_world(DialsConfig(n_runs=200, heterogeneity="none", noise=0.5), 2)
    table = draw_table(world, 2)
    logs = np.log(table.frame[[f"mixture.{name}" for name in table.domains]].to_numpy())
    off, rng = (logs - logs.mean(axis=0))[:, 0], np.random.default_rng(1)
    frame = table.frame.assign(**{"outcome.math": table.frame["outcome.avg_dev"] + 0.3 * rng.normal(size=len(off))})
    frame["outcome.safety"] = 50 + off - 2 * off**2 + 0.3 * rng.normal(size=len(off))
    frame["outcome.avg_dev"] = frame[["outcome.math", "outcome.safety"]].mean(axis=1)
    return dataclasses.replace(table, frame=frame, abilities=("math", "safety"))


@pytest.mark.parametrize(("kind", "curvature"), [("constant_dml", True), ("varying_coefficient_gp", False)])
@pytest.mark.parametrize("policy", ["causalmix_a", "causalmix_s"])
def test_what_bends_an_ability_counts_in_its_constraint(kind, curvature, policy):
    table = deal_bent_safety()
    cfg = EstimatorConfig(name=kind, kind=kind, curvature=curvature)
    roles = assign_roles(table, "signal", cfg, OutcomeConfig(constraints={"safety": 0.0}))
    effects = fit_effects(roles, cfg, 0).effects
    box, even = Box(table.domains, np.full(5, 0.02), np.ones(5)), np.full(5, 0.2)
    target = dataclasses.replace(make_target(even, box, {"safety": 0.0}), x=np.zeros(3))
    answer = propose(effects, roles, target, PolicyConfig(name=policy, kind=policy, region="box"))
    found = effects.predict_by_outcome(target.x, np.stack([answer.weights, even]))
    row = roles.outcome_names.index("safety")
    assert found[0, row] - found[1, row] >= -1e-8
    straight = effects.thetas_by_outcome(target.x[None])[0, row] @ np.log(answer.weights / even)
    assert abs(found[0, row] - found[1, row] - straight) > 0.02  # it does bend
    mean = effects.predict(target.x, np.stack([answer.weights, even]))
    assert np.allclose(np.diff(found @ roles.outcome_weights, axis=0), np.diff(mean))


def test_what_no_mixture_reaches_keeps_the_reference_and_says_how_far_it_gets():
    _, effects, roles, target = make_case(1)
    for kind in ("causalmix_a", "causalmix_s"):
        for region in ("kl", "off", "support", "l2"):
            impossible = dataclasses.replace(target, constraints={"a": 1e6})
            if region == "support":
                roles = dataclasses.replace(make_roles(120), outcome_names=("a", "b", "c"))
                _, effects, _, target = make_case(1, n=5)
                impossible = dataclasses.replace(target, constraints={"a": 1e6})
            answer = propose(
                effects, roles, impossible, PolicyConfig(name="x", kind=kind, region=region, n_candidates=500)
            )
            assert np.array_equal(answer.weights, target.reference)
            assert "reference is kept" in answer.notes[0]
            assert "NOT the +1000000" in answer.notes[-1]


def test_a_gain_that_only_some_mixtures_reach_is_reached():
    for seed in range(8):
        rng, effects, roles, target = make_case(seed)
        region = make_regions(rng, target.reference, target.box)["kl"]
        limits = read_limits(effects, roles, target)
        most = float(limits.gains(region.solve(limits.thetas[0]).weights)[0])
        if most <= 0:
            continue
        wanted = dataclasses.replace(limits, values=np.array([0.9 * most]))
        found = solve_constrained(region, effects.theta(target.x), wanted)
        assert wanted.are_kept(found.weights)
        assert region.contains(found.weights)


def test_baselines_say_which_constraints_they_break():
    box = Box(("x", "y"), np.full(2, 0.02), np.ones(2))
    effects = KnownEffects([[1.0, 0.0], [0.0, 1.0]])
    target = make_target(np.array([0.8, 0.2]), box, {"a": 0.0})
    roles = dataclasses.replace(make_roles(30), outcome_names=("a", "b"))
    answer = propose(effects, roles, target, PolicyConfig(name="equal", kind="equal"))
    assert "a -0.470 (NOT the +0.000 asked)" in answer.notes[-1]


def test_constraints_are_read_and_refused():
    roles = dataclasses.replace(make_roles(30), outcome_names=("coding", "safety"))
    assert read_constraints(OutcomeConfig(constraints={"safety": 0}), roles) == {"safety": 0.0}
    assert read_constraints(OutcomeConfig(), roles) == {}
    averaged = dataclasses.replace(roles, outcome_names=("avg_dev",))
    for cfg, given, message in [
        (
            OutcomeConfig(constraints={"safty": 0}),
            roles,
            r"unknown ability 'safty' \(did you mean 'safety'\?\); allowed: coding",
        ),
        (OutcomeConfig(constraints={"safety": "x"}), roles, r"safety='x'; finite numbers are wanted"),
        (OutcomeConfig(constraints=["safety"]), roles, r"a mapping is wanted"),
        (OutcomeConfig(constraints={"safety": 0}), averaged, r"estimator\.per_outcome=true"),
        (OutcomeConfig(constraints={"math": 0}, weights={"coding": 1, "safety": 1}), roles, r"weight of 0 \(math: 0\)"),
    ]:
        with pytest.raises(AnalysisError, match=message):
            read_constraints(cfg, given)


def test_an_estimator_that_keeps_no_outcomes_apart_is_refused():
    class Joint(KnownEffects):
        thetas_by_outcome = Effects.thetas_by_outcome  # the one of a family that fits a single outcome

    _, effects, roles, target = make_case(0)
    with pytest.raises(AnalysisError, match="need effects per ability, and Joint does not keep its outcomes apart"):
        propose(Joint(effects.by_outcome), roles, target, PolicyConfig(name="a", kind="causalmix_a"))


def analyse(**target):
    return analyse_table(make_config(target=TargetConfig(reference="equal", **target)), make_runs(make_frame(120)))[0]


def test_floors_and_caps_of_the_user_bind_and_are_priced():
    free = analyse().candidate.weights
    top, low = int(np.argmax(free)), int(np.argmin(free))
    held = analyse(floors={DOMAINS[low]: 0.18}, caps={DOMAINS[top]: 0.25})
    assert held.candidate.weights[top] == pytest.approx(0.25)
    assert held.candidate.weights[low] == pytest.approx(0.18)
    assert held.shadow_prices[f"cap.{DOMAINS[top]}"] > 0
    assert held.shadow_prices[f"floor.{DOMAINS[low]}"] > 0
    assert np.all(np.delete(held.target.box.floor, low) == 0.02)


def test_a_floor_of_one_domain_takes_the_place_of_the_general_one():
    pool = {"available": dict.fromkeys(DOMAINS, 1000) | {"code": 2}, "n_samples": 1000, "repeats_max": 4.0}
    with pytest.raises(AnalysisError, match=r"code.*floor"):
        analyse(**pool)
    box = analyse(**pool, floors={"code": 0.001}).target.box
    assert box.floor[DOMAINS.index("code")] == 0.001
    assert box.cap[DOMAINS.index("code")] == pytest.approx(0.008)


def test_repeats_bind_at_the_size_of_the_target():
    """The same pool caps nothing at 400 documents and binds at 1200."""
    available = dict.fromkeys(DOMAINS, 300)
    free = analyse(available=available, n_samples=400, repeats_max=2.0)
    top = DOMAINS[int(np.argmax(free.candidate.weights))]
    scarce = available | {top: 150}
    held = analyse(available=scarce, n_samples=1200, repeats_max=2.0)
    assert held.candidate.weights[DOMAINS.index(top)] == pytest.approx(0.25)
    assert held.shadow_prices[f"cap.{top}"] > 0
    assert held.counts[top]["repeats"] == 2.0 or held.advice == "withheld"
    tighter = analyse(available=scarce, n_samples=1200, repeats_max=2.0, caps={top: 0.22})
    assert tighter.target.box.cap[DOMAINS.index(top)] == pytest.approx(0.22)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"floors": {"maths": 0.1}}, r"target\.floors: unknown domain 'maths' \(did you mean 'math'\?\)"),
        ({"caps": {"math": 1.5, "code": -1}}, r"target\.caps\.math=1\.5, target\.caps\.code=-1: a limit is a share"),
        ({"caps": {"math": None}}, r"target\.caps: math=None; finite numbers"),
        ({"caps": 0.2}, r"target\.caps=0\.2: a mapping is wanted"),
        ({"floors": {"math": 0.5}, "caps": {"math": 0.2}}, r"the floor is above the cap of math \(0\.5 > 0\.2\)"),
        ({"floors": {"math": 0.6, "code": 0.6}}, r"the floors sum to 1\.26, above 1"),
        ({"caps": dict.fromkeys(DOMAINS, 0.1)}, r"the caps sum to 0\.5, below 1"),
    ],
)
def test_limits_that_no_mixture_keeps_are_named(target, message):
    with pytest.raises(CausalMixError, match=message):
        analyse(**target)


def test_constraints_from_the_config_to_the_answer(monkeypatch):
    """The way from the config to a note: here every ability has the effects of the mean."""
    monkeypatch.setattr(
        LinearEffects, "thetas_by_outcome", lambda self, X: np.repeat(self.thetas(X)[:, None], len(ABILITIES), axis=1)
    )
    cfg = make_config(outcome=OutcomeConfig(constraints={ABILITIES[0]: 0.0}))
    analysis = analyse_table(cfg, make_runs(make_frame(120)))[0]
    gain = analysis.gain.estimate
    assert any(f"{ABILITIES[0]} {gain:+.3f} (at least +0.000 asked)" in note for note in analysis.candidate.notes)
