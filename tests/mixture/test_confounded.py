"""A design that follows the state on purpose: its dial, its law given the state, its mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.config import MixtureConfig
from causalmix.errors import MixtureError
from causalmix.mixture.designs.build import build_design

AVAILABLE = {"coding": 300, "knowledge": 300, "math": 300}
STATE = {"hes": {"coding": 0.5, "knowledge": 0.0, "math": -0.5}, "loss": {"coding": 0.1, "knowledge": 0.1, "math": 0.1}}


def build(state=STATE, available=AVAILABLE, **values):
    cfg = MixtureConfig(name="dirichlet_confounded", kind="dirichlet_confounded", **values)
    natural = {name: count / sum(available.values()) for name, count in available.items()}
    return build_design(cfg, domains=list(available), natural=natural, available=available, n_samples=100, state=state)


def test_the_centre_follows_the_state_as_far_as_the_dial_says():
    centres = {}
    for strength in (0.0, 1.0, 2.0):
        design = build(confounding=strength, confounding_feature="hes")
        draw = design.sample(np.random.default_rng(0), 0)
        q = np.array([draw.parameters[f"reference.{name}"] for name in AVAILABLE])
        centres[strength] = np.log(q[0] / q[2])
        assert draw.parameters["confounding"] == strength
    assert centres == pytest.approx({0.0: 0.0, 1.0: 1.0, 2.0: 2.0})
    halved = build(confounding=2.0).sample(np.random.default_rng(0), 0).parameters  # the mean of both scores
    assert np.log(halved["reference.coding"] / halved["reference.math"]) == pytest.approx(1.0)


def test_without_confounding_it_is_the_dirichlet_design():
    plain = MixtureConfig(name="dirichlet", kind="dirichlet")
    natural = dict.fromkeys(AVAILABLE, 1 / 3)
    other = build_design(plain, domains=list(AVAILABLE), natural=natural, available=AVAILABLE, n_samples=100)
    one = build(confounding=0.0).sample(np.random.default_rng(5), 0).weights
    np.testing.assert_allclose(one, other.sample(np.random.default_rng(5), 0).weights, rtol=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.floats(-3, 3))
def test_draws_stay_feasible_and_moments_are_those_given_the_state(scores, strength):
    state = {"hes": dict(zip(AVAILABLE, scores))}
    design = build(state, confounding=strength)
    rng = np.random.default_rng(1)
    logs = np.log([design.sample(rng, index).weights for index in range(400)])
    np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1.0)
    assert np.exp(logs).min() >= 0.02 - 1e-12
    moments = design.moments(seed=2, n_draws=4000)
    error = np.hypot(logs.std(axis=0) / 20, moments.mean_error)
    assert np.all(np.abs(logs.mean(axis=0) - moments.mean_log) < 5 * error)


def test_the_order_of_domains_does_not_matter():
    first = build().sample(np.random.default_rng(3), 0).weights
    second = build(available=dict(reversed(AVAILABLE.items()))).sample(np.random.default_rng(3), 0).weights
    np.testing.assert_allclose(first, second[::-1], rtol=1e-12)


@pytest.mark.parametrize(
    ("state", "values", "message"),
    [
        (None, {}, "draws a mixture from the state"),
        ({}, {}, "at least one score"),
        (STATE, {"confounding": float("nan")}, "mixture.confounding=nan"),
        (STATE, {"confounding_feature": "hse"}, "did you mean 'hes'?"),
        ({"hes": {"math": 0.0}}, {}, "the state has no hes.coding, hes.knowledge"),
        (STATE, {"prior": "x"}, "mixture.prior=x"),
    ],
)
def test_what_is_refused(state, values, message):
    with pytest.raises(MixtureError) as caught:
        build(state, **values).sample(np.random.default_rng(0), 0)
    assert message in str(caught.value)


def test_submission_checks_it_without_a_state():
    assert build(None).is_random
    with pytest.raises(MixtureError, match="draws a mixture from the state"):
        build(None).moments(0)
