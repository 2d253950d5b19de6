"""The bandit of online data mixing against closed forms and simulated domains."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalmix.errors import MixtureError
from causalmix.mixture.odm import LOSS_SCALE, RULES, Bandit, explore

PARTS = (slice(2000), slice(2000, 4000))


def play(rule: str, losses: np.ndarray, n_steps: int, seed: int, noise: float = 0.5, rows: int = 1) -> np.ndarray:
    """Weights of every step (n_steps, K) where domain i has the mean loss ``losses[i]`` for ever."""
    bandit, rng = Bandit(len(losses), rule), np.random.default_rng(seed)
    path = np.empty((n_steps, len(losses)))
    for step in range(n_steps):
        path[step] = weights = bandit.weigh()
        n_rows = rng.multinomial(rows, weights)
        seen = np.clip(losses + noise * rng.standard_normal(len(losses)), 0, LOSS_SCALE)
        bandit.update(weights, n_rows, seen)
    return path


def test_exploration_is_the_papers_schedule() -> None:
    assert explore(5, 0) == explore(5, 1) == explore(5, 8) == 0.2  # uniform up to K ln K steps
    assert explore(5, 100) == pytest.approx(math.sqrt(math.log(5) / 500))
    assert explore(1, 7) == 0


def test_two_steps_by_hand() -> None:
    # K = 2 is uniform at t = 1; then e_1 = 1/2 and e_2 = min(1/2, sqrt(ln 2 / 4)) = .41627.
    bandit = Bandit(2, "average", memory=0.9)
    weights = bandit.weigh()
    assert weights.tolist() == [0.5, 0.5]
    bandit.update(weights, np.array([0, 1]), np.array([99.0, 3.0]))
    assert bandit.reward.tolist() == pytest.approx([0.0, 0.1 * 3.0 / 0.5])
    e2 = math.sqrt(math.log(2) / 4)
    share = math.exp(0.5 * 0.6) / (1 + math.exp(0.5 * 0.6))
    assert bandit.weigh()[1] == pytest.approx((1 - 2 * e2) * share + e2)
    code = Bandit(2, "perplexity", memory=0.9)
    code.update(weights, np.array([1, 1]), np.array([1.0, 2.0]))
    share = math.exp(2) / (math.exp(1) + math.exp(2))
    assert code.weigh()[1] == pytest.approx((1 - 2 * e2) * share + e2)
    total = Bandit(2, "sum")
    total.update(weights, np.array([3, 1]), np.array([1.0, 2.0]))  # three rows of one domain, one of the other
    assert total.reward.tolist() == pytest.approx([0.75 * 0.1 / 0.5, 0.25 * 0.2 / 0.5])


@pytest.mark.parametrize("rule", RULES)
@given(data=st.data(), n_domains=st.integers(1, 6))
def test_weights_stay_on_the_simplex_above_the_exploration(rule: str, data: st.DataObject, n_domains: int) -> None:
    bandit = Bandit(n_domains, rule)
    for step in range(1, data.draw(st.integers(1, 30)) + 1):
        allowed = np.array(data.draw(st.lists(st.booleans(), min_size=n_domains, max_size=n_domains)))
        allowed[data.draw(st.integers(0, n_domains - 1))] = True
        weights = bandit.weigh(allowed)
        assert weights.sum() == pytest.approx(1)
        assert (weights[~allowed] == 0).all()
        assert (weights[allowed] >= explore(int(allowed.sum()), step) - 1e-12).all()
        losses = np.array(data.draw(st.lists(st.floats(0, 1000), min_size=n_domains, max_size=n_domains)))
        bandit.update(weights, np.where(allowed, 2, 0), losses)
        assert np.isfinite(bandit.reward).all()


@pytest.mark.parametrize("rule", RULES)
def test_it_finds_the_domain_with_the_highest_loss(rule: str) -> None:
    losses = np.array([1.0, 2.0, 4.0, 1.5, 2.5])
    late = np.mean([play(rule, losses, 600, seed)[100:].mean(axis=0) for seed in range(8)], axis=0)
    assert late.argmax() == 2
    assert late[2] > 0.22  # uniform: .2
    assert np.argsort(late).tolist() == np.argsort(losses).tolist() or rule == "sum"


def test_exp3_keeps_its_bound_and_beats_uniform() -> None:
    # Auer et al. 2002: in units of LOSS_SCALE, regret <= 2.63 sqrt(T K ln K) at the rate that suits T. The schedule
    # does not know T: twice that is allowed.
    losses, n_steps = np.array([1.0, 3.0, 8.0, 2.0]), 4000
    paths = [play("sum", losses, n_steps, seed) for seed in range(6)]
    regret = np.mean([(losses.max() - path @ losses).sum() for path in paths]) / LOSS_SCALE
    uniform = n_steps * (losses.max() - losses.mean()) / LOSS_SCALE
    assert regret < 2 * 2.63 * math.sqrt(n_steps * 4 * math.log(4))
    assert regret < uniform / 2
    early, late = (np.mean([(losses.max() - path[part] @ losses) for path in paths]) for part in PARTS)
    assert late < early / 2


def test_what_was_learned_is_forgotten_when_losses_change() -> None:
    bandit, rng = Bandit(3, "perplexity"), np.random.default_rng(0)
    for losses in ([3.0, 1.0, 1.0], [1.0, 1.0, 3.0]):
        for _ in range(300):
            weights = bandit.weigh()
            bandit.update(weights, rng.multinomial(2, weights), np.array(losses))
        assert bandit.weigh().argmax() == np.argmax(losses)


@pytest.mark.parametrize("rule", RULES)
def test_a_restored_bandit_goes_on_bit_by_bit(rule: str) -> None:
    import json

    bandit, rng = Bandit(3, rule), np.random.default_rng(0)
    for _ in range(20):
        weights = bandit.weigh()
        bandit.update(weights, rng.multinomial(2, weights), rng.random(3))
    other = Bandit(3, rule)
    other.restore(json.loads(json.dumps(bandit.state())))
    assert other.weigh().tolist() == bandit.weigh().tolist()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(MixtureError, match=r"mixture.odm_rule=avrage.*average.*allowed: average, sum, perplexity"):
        Bandit(3, "avrage")
    with pytest.raises(MixtureError, match=r"mixture.odm_memory=1.0: from 0 to below 1"):
        Bandit(3, memory=1.0)
