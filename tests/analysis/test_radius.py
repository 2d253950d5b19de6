"""The radius that is read off the fit."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.policies.box_rule import divergence
from analysis.policies.propose import propose
from analysis.policies.radius import LADDER, settle_radius
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError
from tests.analysis.test_policies import KnownEffects, make_box, make_target

Q = np.full(4, 0.25)
THETA = np.array([2.0, 1.0, 0.5, -1.0])


def ask(sd, kappa=1.0, **changes):
    effects = KnownEffects(THETA, sd**2 * np.eye(4))
    cfg = PolicyConfig(**{"name": "a", "kind": "causalmix_a", "rho": "auto", "kappa": kappa} | changes)
    target = make_target(Q, make_box(4, 0.02))
    return settle_radius(effects, None, target, cfg), propose(effects, None, target, cfg).weights


def test_the_less_is_known_the_nearer_the_answer_stays():
    radii = [ask(sd)[0].rho for sd in (0.0, 0.5, 1.0, 2.0, 8.0)]
    assert radii == sorted(radii, reverse=True)
    assert radii[0] >= 0.5
    assert radii[-1] == LADDER[0]
    assert divergence(Q, ask(8.0)[1]) <= LADDER[0] + 1e-9


def test_effects_known_for_sure_are_followed_to_the_end():
    free = ask(0.0, rho=50.0)[1]
    assert np.allclose(ask(0.0)[1], free, atol=1e-9)
    assert np.allclose(ask(5.0, kappa=0.0)[1], free, atol=1e-9)


def test_no_rung_has_a_higher_bound():
    sd, kappa = 0.7, 1.3
    effects, target = KnownEffects(THETA, sd**2 * np.eye(4)), make_target(Q, make_box(4, 0.02))

    def bound(weights):
        gain, variance = effects.gain(target.x, weights, Q)
        return gain - kappa * np.sqrt(variance)

    taken = bound(ask(sd, kappa)[1])
    for rho in LADDER:
        other = propose(effects, None, target, PolicyConfig(name="a", kind="causalmix_a", rho=rho)).weights
        assert taken >= bound(other) - 1e-9


def test_search_takes_the_radius_of_a_and_others_do_not_look():
    settled = ask(1.0)[0]
    assert ask(1.0, kind="causalmix_s")[0].rho == settled.rho
    assert ask(1.0, region="aitchison")[0].rho == 0.5
    assert ask(1.0, kind="equal")[0].rho == 0.5
    number = PolicyConfig(name="a", kind="causalmix_a", rho=0.7)
    assert settle_radius(KnownEffects(THETA), None, make_target(Q), number) is number


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"rho": "wide"}, r"policy\.rho=wide: a radius in nats above 0, or auto"), ({"kappa": -1.0}, r"policy\.kappa=-1")],
)
def test_what_is_no_radius_is_refused(changes, message):
    with pytest.raises(AnalysisError, match=message):
        ask(1.0, **changes)
