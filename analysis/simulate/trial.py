"""One simulated sweep, fitted and asked: errors of theta, coverage, regret and advice against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.answer import make_interval
from analysis.estimators.effects import Effects
from analysis.estimators.fit import check_estimator, fit_effects
from analysis.estimators.select import select_estimator
from analysis.policies.propose import propose
from analysis.roles import Roles, assign_roles
from analysis.simulate.ideal import ideal_regret
from analysis.simulate.oracle import attain
from analysis.simulate.world import World, draw_table
from analysis.target import Target
from causalmix.config import EstimatorConfig, OutcomeConfig, PolicyConfig
from causalmix.table.runs import RunsTable

Floats = NDArray[np.float64]

STATE_AWARE = ("causalmix_a", "causalmix_s")


@dataclass(frozen=True)
class Arm:
    """An estimator with a policy that reads a mixture off it."""

    estimator: EstimatorConfig
    policy: PolicyConfig


@dataclass(frozen=True)
class EffectScore:
    """How theta of one fit compares with the truth, over the target states and domains.

    Attributes
    ----------
    rmse : float
        Points per unit of log share.
    coverage, width : float
        Share of intervals that hold the truth, and their mean width.
    """

    rmse: float
    coverage: float
    width: float


@dataclass(frozen=True)
class PolicyScore:
    """How a policy's mixtures compare with the best ones, over the target states.

    Attributes
    ----------
    regret : float
        Mean points below the best feasible mixture.
    gain : float
        Mean true gain over the reference.
    coverage, width : float
        Of the interval of the predicted gain.
    advised : float
        Share of targets with a lower bound above zero.
    misled : float
        Share of targets where that advice was worse than the reference in truth.
    """

    regret: float
    gain: float
    coverage: float
    width: float
    advised: float
    misled: float


@dataclass(frozen=True)
class Trial:
    """Scores of one simulated sweep, by name of estimator and of arm.

    Attributes
    ----------
    effects : mapping of str to EffectScore
    policies : mapping of str to PolicyScore
    attained, ideal : float
        Regret, points, of two who are told more on the same runs: the form of the effects, all but their sizes
        (:func:`analysis.simulate.oracle.attain`), or their kind (:func:`analysis.simulate.ideal.ideal_regret`).
    """

    effects: Mapping[str, EffectScore]
    policies: Mapping[str, PolicyScore]
    attained: float
    ideal: float

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON-like content."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Trial:
        """Read what :meth:`to_json` wrote."""
        effects = {name: EffectScore(**row) for name, row in content["effects"].items()}
        policies = {name: PolicyScore(**row) for name, row in content["policies"].items()}
        return cls(effects, policies, content["attained"], content["ideal"])


def draw_targets(world: World, n_targets: int, seed: int) -> Floats:
    """Draw target states (n_targets, d) as the runs' own are drawn."""
    return np.random.default_rng([seed, 13]).normal(size=(n_targets, world.dials.n_features))


def run_trial(world: World, seed: int, arms: Mapping[str, Arm], *, n_targets: int, confidence: float = 0.95) -> Trial:
    """Deal a table from the world, fit every estimator once and ask every arm at every target state.

    Parameters
    ----------
    world : World
    seed : int
        Of the table, the targets and the fits.
    arms : mapping of str to Arm
        Estimators of the same name are fitted once.
    n_targets : int
    confidence : float
        Of the intervals.
    """
    table = draw_table(world, seed)
    states = draw_targets(world, n_targets, seed)
    best = np.stack([world.best(x) for x in states])
    top = world.outcome(states, best)
    estimators = {arm.estimator.name: arm.estimator for arm in arms.values()}
    assert all(arm.estimator == estimators[arm.estimator.name] for arm in arms.values()), "a name is one estimator"
    fits = {name: _fit(table, estimator, seed) for name, estimator in estimators.items()}
    effects = {name: score_effects(world, fit[1], states, confidence) for name, fit in fits.items()}
    policies = {}
    for name, arm in arms.items():
        roles, fitted = fits[arm.estimator.name]
        targets = [make_target(world, roles, x) for x in states]
        # Only the policies of the method look at the state: the others answer every target alike.
        asked = targets if arm.policy.kind in STATE_AWARE else targets[:1]
        answers = [propose(fitted, roles, target, arm.policy).weights for target in asked]
        mixtures = np.stack(answers if len(answers) == len(targets) else answers * len(targets))
        policies[name] = _score_policy(world, fitted, targets, mixtures, top, confidence)
    return Trial(effects, policies, attain(world, seed, states), ideal_regret(world, seed, states))


def _fit(table: RunsTable, cfg: EstimatorConfig, seed: int) -> tuple[Roles, Effects]:
    if cfg.kind == "auto":
        cfg = select_estimator(table, "signal", cfg, OutcomeConfig(), seed).chosen
    roles = assign_roles(table, "signal", cfg, OutcomeConfig())
    check_estimator(roles, cfg)
    return roles, fit_effects(roles, cfg, seed).effects


def make_target(world: World, roles: Roles, x: Floats) -> Target:
    """Return the question "what would be best at state x", with equal shares as the reference."""
    n_domains = len(world.domains)
    even = np.full(n_domains, 1.0 / n_domains)
    state = dict(zip(roles.x_names, x.tolist()))
    seen = x if roles.x_names else x[:0]
    return Target(world.domains, seen, state, even, even, world.box, None, None, 1.0, None, None, ())


def score_effects(world: World, effects: Effects, states: Floats, confidence: float) -> EffectScore:
    """Compare theta and its intervals with the true slopes at some states."""
    seen = states if effects.x_names else states[:, :0]
    theta, truth = effects.thetas(seen), world.slopes(states)
    sd = np.sqrt(np.clip(np.einsum("mkk->mk", effects.covariances(seen)), 0.0, None))
    half = sd * (make_interval(0.0, 1.0, confidence).high)
    error = theta - truth
    return EffectScore(float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error) <= half)), float(2 * half.mean()))


def _score_policy(
    world: World, effects: Effects, targets: list[Target], mixtures: Floats, top: Floats, confidence: float
) -> PolicyScore:
    states = np.array([list(target.state.values()) for target in targets])
    reference = np.stack([target.reference for target in targets])
    reached = world.outcome(states, mixtures)
    gains = reached - world.outcome(states, reference)
    answers = [effects.gain(target.x, mixture, target.reference) for target, mixture in zip(targets, mixtures)]
    intervals = [make_interval(estimate, variance, confidence) for estimate, variance in answers]
    covered = [i.low - 1e-9 <= gain <= i.high + 1e-9 for i, gain in zip(intervals, gains)]
    advised = np.array([interval.is_positive for interval in intervals])
    return PolicyScore(
        regret=float(np.mean(top - reached)),
        gain=float(np.mean(gains)),
        coverage=float(np.mean(covered)),
        width=float(np.mean([i.high - i.low for i in intervals])),
        advised=float(advised.mean()),
        misled=float(np.mean(advised & (gains < 0))),
    )
