from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from analysis.estimators.effects import Effects
from analysis.policies import candidates
from analysis.policies.box_rule import divergence, fill_box
from analysis.policies.causalmix_a import allocate_by_effects, propose_a
from analysis.policies.propose import baseline_config, propose
from analysis.policies.regions.box import solve_box
from analysis.policies.regions.kl import solve_kl
from analysis.regressors.boosted_trees import BoostedTrees
from analysis.roles import assign_roles
from analysis.target import Target
from causalmix.config import EstimatorConfig, OutcomeConfig, PolicyConfig
from causalmix.errors import AnalysisError
from causalmix.mixture.simplex import Box
from tests.analysis.synthetic import make_frame, make_runs

# theta as (code, IF, knowledge, math, safety) -> CausalMix-A as (code, IF, math, knowledge, safety).
PUBLISHED = [
    ((1.38, 12.40, -1.49, 1.96, 2.41), (0.076, 0.683, 0.108, 0, 0.133)),
    ((-0.12, 10.43, 0.40, 0.11, 0.33), (0, 0.925, 0.010, 0.035, 0.029)),
    ((2.40, 13.73, -2.76, 3.21, 3.82), (0.104, 0.593, 0.139, 0, 0.165)),
    ((-2.02, 12.69, -4.64, -0.87, -4.42), (0, 1, 0, 0, 0)),
    ((0.58, 9.59, 2.28, 0.47, 2.10), (0.039, 0.638, 0.031, 0.152, 0.140)),
    ((3.65, 17.36, 1.39, 4.64, 4.52), (0.116, 0.550, 0.147, 0.044, 0.143)),
]


class KnownEffects(Effects):
    def __init__(self, theta, covariance=None):
        super().__init__(tuple(f"d{k}" for k in range(len(theta))), ())
        self.known = np.asarray(theta, dtype=float)
        self.spread = np.zeros((len(theta),) * 2) if covariance is None else covariance

    def thetas(self, X):
        return np.tile(self.known, (len(X), 1))

    def covariances(self, X):
        return np.tile(self.spread, (len(X), 1, 1))


def make_box(n, floor=0.0, cap=1.0):
    return Box(tuple(f"d{k}" for k in range(n)), np.full(n, floor), np.full(n, cap))


def make_target(reference, box=None):
    q = np.asarray(reference, dtype=float)
    box = box or make_box(len(q))
    return Target(box.domains, np.empty(0), {}, q, q, box, None, None, 4.0, None, None, ())


@pytest.mark.parametrize(("theta", "shares"), PUBLISHED)
def test_the_published_leaves_give_the_published_shares(theta, shares):
    code, following, knowledge, math, safety = allocate_by_effects(np.array(theta))
    assert np.allclose([code, following, math, knowledge, safety], shares, atol=6e-4)


def test_no_positive_effect_has_no_closed_form():
    with pytest.raises(AnalysisError, match="no domain has a positive effect"):
        allocate_by_effects(np.array([-1.0, 0.0]))


def test_without_limits_the_policy_is_the_closed_form():
    theta = np.array(PUBLISHED[0][0])
    weights = solve_box(theta, np.full(5, 0.2), make_box(5))
    assert np.allclose(weights, allocate_by_effects(theta))


PROBLEMS = st.tuples(
    st.integers(2, 7),
    st.integers(0, 10_000),
    st.sampled_from([0.05, 0.2, 0.5, 1.5]),
    st.sampled_from([0.0, 0.02]),
    st.sampled_from([1.0, 0.6]),
)


def make_problem(n, seed, floor, cap):
    rng = np.random.default_rng(seed)
    theta = rng.normal(0.3, 1.0, n)
    q = floor + (1 - n * floor) * rng.dirichlet(np.full(n, 5.0))
    return theta, q, make_box(n, floor, max(cap, float(q.max()) + 0.01))


@settings(max_examples=60, deadline=None)
@given(PROBLEMS)
@example((5, 4965, 1.5, 0.0, 1.0))  # a share of 1e-17
def test_the_kl_policy_agrees_with_slsqp(problem):
    n, seed, rho, floor, cap = problem
    theta, q, box = make_problem(n, seed, floor, cap)
    weights, lam = solve_kl(theta, q, box, rho)
    assert box.contains(weights, 1e-9)
    assert divergence(q, weights) <= rho + 1e-9
    if not np.any(theta > 0):
        assert np.allclose(weights, q)
        return
    up = theta > 0
    if box.cap[up].sum() + box.floor[~up].sum() < 1:
        # What the caps leave over goes out like the reference, where the problem is not concave: never worse.
        assert theta @ (np.log(weights) - np.log(q)) >= -1e-9
        return
    best = find_best(theta, q, box, rho)
    value = float(theta @ np.log(np.maximum(weights, 1e-300)))
    assert value >= best - 1e-6
    if lam > 0:  # the region binds: it is used up
        assert divergence(q, weights) == pytest.approx(rho, abs=1e-8)


def find_best(theta, q, box, rho):
    """Best objective of SLSQP over several starts that end inside the region."""
    rng = np.random.default_rng(0)
    low = np.maximum(box.floor, 1e-9)
    best = -np.inf
    for start in [q, *rng.dirichlet(np.full(len(q), 3.0), size=6)]:
        found = minimize(
            lambda t: -theta @ np.log(t),
            np.clip(0.5 * start + 0.5 * q, low, box.cap),
            jac=lambda t: -theta / t,
            bounds=list(zip(low, box.cap)),
            constraints=[
                {"type": "eq", "fun": lambda t: t.sum() - 1, "jac": np.ones_like},
                {"type": "ineq", "fun": lambda t: rho - divergence(q, t), "jac": lambda t: q / t},
            ],
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 500},
        )
        t = np.clip(found.x, low, box.cap)
        if abs(t.sum() - 1) < 1e-7 and divergence(q, t) <= rho + 1e-7:
            best = max(best, float(theta @ np.log(t)))
    # What a violation of 1e-7 of the limits can be worth is no advantage.
    return best - 1e-6 * (1 + np.abs(theta).max() / low.max())


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10_000))
def test_the_box_rule_stays_in_its_box(n, seed):
    rng = np.random.default_rng(seed)
    floor = rng.uniform(0, 0.5 / n, n)
    cap = np.clip(rng.uniform(1.0 / n, 1.0, n), floor, 1.0)
    cap *= max(1.0, 1.01 / cap.sum())
    box = Box(tuple(map(str, range(n))), floor, np.minimum(cap, 1.0))
    scores = rng.normal(size=n)
    scores[0] = 1.0
    weights = fill_box(scores, rng.dirichlet(np.ones(n)), box)
    assert box.contains(weights, 1e-9)


def test_what_the_caps_leave_over_goes_out_like_the_reference():
    box = Box(("a", "b", "c"), np.zeros(3), np.array([0.4, 1.0, 1.0]))
    weights = fill_box(np.array([1.0, -1.0, -2.0]), np.array([0.2, 0.6, 0.2]), box)
    assert np.allclose(weights, [0.4, 0.45, 0.15])


def test_shadow_prices_are_the_gain_of_a_looser_limit():
    theta, q = np.array([2.0, 1.0, 0.5]), np.array([0.3, 0.3, 0.4])
    step = 1e-5

    def value(cap, rho):
        box = Box(("a", "b", "c"), np.full(3, 0.02), np.array([cap, 1.0, 1.0]))
        return float(theta @ np.log(solve_kl(theta, q, box, rho)[0]))

    box = Box(("a", "b", "c"), np.full(3, 0.02), np.array([0.4, 1.0, 1.0]))
    for rho in (0.02, 0.5):
        target = dataclasses.replace(make_target(q), box=box, domains=box.domains)
        cfg = PolicyConfig(name="a", kind="causalmix_a", rho=rho)
        prices = propose_a(KnownEffects(theta), None, target, cfg).shadow_prices
        cap_price = (value(0.4 + step, rho) - value(0.4 - step, rho)) / (2 * step)
        kl_price = (value(0.4, rho + step) - value(0.4, rho - step)) / (2 * step)
        assert prices.get("cap.a", 0.0) == pytest.approx(cap_price, abs=1e-3)
        assert prices.get("kl", 0.0) == pytest.approx(kl_price, abs=1e-3)


@pytest.mark.parametrize("region", ["off", "kl"])
def test_s_finds_what_a_finds_when_effects_are_linear(region):
    effects = KnownEffects([1.0, 2.0, 0.4, 0.1])
    target = make_target([0.25] * 4, make_box(4, 0.02))
    answers = [
        propose(effects, None, target, PolicyConfig(name=kind, kind=kind, region=region, rho=0.2)).weights
        for kind in ("causalmix_a", "causalmix_s")
    ]
    gains = [effects.gain(target.x, weights, target.reference)[0] for weights in answers]
    assert gains[1] <= gains[0] + 1e-9
    assert gains[1] >= 0.98 * gains[0]
    if region == "kl":
        assert divergence(target.reference, answers[1]) <= 0.2 + 1e-9


def test_kappa_pulls_s_towards_the_reference():
    noisy = KnownEffects([1.0, 2.0, 0.4], np.eye(3))
    target = make_target([1 / 3] * 3, make_box(3, 0.02))
    plain, wary = (
        propose(noisy, None, target, PolicyConfig(name="s", kind="causalmix_s", kappa=kappa)).weights
        for kappa in (0.0, 1.0)
    )
    assert np.abs(wary - target.reference).sum() < np.abs(plain - target.reference).sum()


def test_all_effects_negative_keeps_the_reference_and_says_so():
    target = make_target([0.5, 0.5])
    answer = propose(KnownEffects([-1.0, -2.0]), None, target, PolicyConfig(name="a", kind="causalmix_a"))
    assert np.array_equal(answer.weights, target.reference)
    assert "No domain has a positive effect" in answer.notes[0]


def test_wrong_settings_name_the_right_ones():
    target = make_target([0.5, 0.5])
    effects = KnownEffects([1.0, 2.0])
    for changes, message in [
        ({"kind": "causalmix_b"}, r"policy\.kind=causalmix_b \(did you mean 'causalmix_[as]'\?\); allowed:"),
        ({"region": "kll"}, r"policy\.region=kll \(did you mean 'kl'\?\)"),
        ({"rho": -1.0}, r"policy\.rho=-1\.0: a radius in nats above 0"),
        ({"kind": "fixed"}, r"policy=fixed needs policy\.weights"),
        ({"kind": "causalmix_s", "n_best": 0}, r"policy\.n_best=0"),
    ]:
        cfg = PolicyConfig(**{"name": "x", "kind": "causalmix_a", **changes})
        with pytest.raises(AnalysisError, match=message):
            propose(effects, None, target, cfg)


def make_roles(n):
    return assign_roles(
        make_runs(make_frame(n)), "signal", EstimatorConfig(name="x", kind="no_covariates"), OutcomeConfig()
    )


def test_regmix_refuses_forty_rows_with_the_reason():
    target = make_target([0.2] * 5)
    with pytest.raises(AnalysisError, match="40 runs; with 40 or fewer LightGBM's min_data_in_leaf=20"):
        propose(KnownEffects([1.0] * 5), make_roles(40), target, baseline_config("regmix", PolicyConfig()))


def test_regmix_moves_towards_the_better_domain_and_repeats_itself():
    roles = make_roles(200)
    outcomes = 10 * roles.mixtures[:, [1]] + 0 * roles.outcomes
    roles = dataclasses.replace(roles, outcomes=outcomes)
    target = make_target([0.2] * 5, make_box(5, 0.02))
    cfg = dataclasses.replace(baseline_config("regmix", PolicyConfig()), n_candidates=5_000)
    first = propose(KnownEffects([1.0] * 5), roles, target, cfg).weights
    candidates._found.clear()  # what is remembered repeats itself anyway
    assert np.array_equal(first, propose(KnownEffects([1.0] * 5), roles, target, cfg).weights)
    assert first[1] > 0.5
    assert target.box.contains(first, 1e-9)


def test_targets_that_differ_in_what_regmix_does_not_see_share_its_search(monkeypatch):
    roles, target = make_roles(60), make_target([0.2] * 5, make_box(5, 0.02))
    cfg = dataclasses.replace(baseline_config("regmix", PolicyConfig()), n_candidates=2_000)
    first = propose(KnownEffects([1.0] * 5), roles, target, cfg).weights
    fits = []
    fit = BoostedTrees.fit
    monkeypatch.setattr(BoostedTrees, "fit", lambda self, *given: fits.append(1) or fit(self, *given))
    tighter = dataclasses.replace(target, box=make_box(5, 0.1), state={"hes": 9.0})
    assert propose(KnownEffects([1.0] * 5), roles, tighter, cfg).weights.min() >= 0.1 - 1e-9
    assert np.array_equal(propose(KnownEffects([2.0] * 5), roles, target, cfg).weights, first)
    assert not fits
    other = dataclasses.replace(target, natural=np.array([0.6, 0.1, 0.1, 0.1, 0.1]))
    propose(KnownEffects([1.0] * 5), roles, other, cfg)
    assert len(fits) == len(roles.outcome_names)


def test_the_best_run_is_named():
    roles = make_roles(30)
    target = make_target([0.2] * 5)
    answer = propose(KnownEffects([1.0] * 5), roles, target, baseline_config("best_observed", PolicyConfig()))
    best = int(np.argmax(roles.Y))
    assert np.allclose(answer.weights, roles.mixtures[best])
    assert roles.run_ids[best] in answer.notes[0]


def test_a_baseline_outside_the_box_is_moved_and_says_so():
    box = Box(("d0", "d1"), np.zeros(2), np.array([0.3, 1.0]))
    target = dataclasses.replace(make_target([0.3, 0.7]), box=box)
    answer = propose(KnownEffects([1.0, 1.0]), None, target, PolicyConfig(name="equal", kind="equal"))
    assert np.allclose(answer.weights, [0.3, 0.7])
    assert "moved to the nearest mixture" in answer.notes[0]
