"""The result of an analysis, and the JSON that others read."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.answer import Interval, Spread, Support
from analysis.checks.check import CheckResult
from analysis.curves import Curve
from analysis.estimators.effects import Effects
from analysis.interpreter import Node
from analysis.target import Target
from causalmix.config import EstimatorConfig, PolicyConfig

Floats = NDArray[np.float64]

GIVEN, WITHHELD = "given", "withheld"
MOVE_DELTA = 0.05  # share moved in the exchange table


@dataclass(frozen=True)
class Answer:
    """A policy's or baseline's mixture with its predicted gain over the reference."""

    name: str
    weights: Floats
    gain: Interval
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Analysis:
    """Everything an analysis found; arrays run over ``domains``.

    Attributes
    ----------
    domains : tuple of str
        The K domains.
    weights : ndarray (K,)
        What to train on: the candidate where advice is given, the reference where it is withheld.
    candidate : Answer
        The policy's own answer, always.
    advice, reason : str
        given | withheld, and why.
    target : Target
        State, reference, floors and caps.
    theta : tuple of Interval
        Marginal effects at the target's state, points per unit of log share.
    moves : ndarray (K, K)
        Points gained by moving .05 of share from row to column at the reference; NaN where it is not there.
    spread : Spread or None
        Over half-sample refits.
    support : Support
    shadow_prices : dict of str to float
        Points for one unit more of a binding limit.
    baselines : tuple of Answer
    checks : tuple of CheckResult
    overruled : tuple of str
        Codes of the checks that failed and were allowed to.
    curves : tuple of Curve
        Effects along each state feature.
    tree : tuple of Node
        Groups of runs with alike effects, the root first.
    importances : dict of str to float
        Share of the variance of theta over the runs that each state feature explains alone.
    counts : dict
        {domain: {"n": documents, "repeats": mean times each is seen}} at the target's size, if known.
    effects : Effects
        The fit itself, for more questions.
    estimator, policy : configs
    fingerprints : dict of str to str or None
        Of the runs table and of the pool.
    n_runs, n_skipped : int
        Runs fitted, and runs the table had to leave out.
    confidence : float
    randomised : bool
        T was drawn independently of X.
    notes : tuple of str
        What the reader must know.
    """

    domains: tuple[str, ...]
    weights: Floats
    candidate: Answer
    advice: str
    reason: str
    target: Target
    theta: tuple[Interval, ...]
    moves: Floats
    spread: Spread | None
    support: Support
    shadow_prices: dict[str, float]
    baselines: tuple[Answer, ...]
    checks: tuple[CheckResult, ...]
    curves: tuple[Curve, ...]
    tree: tuple[Node, ...]
    importances: dict[str, float]
    counts: dict[str, dict[str, float | int | None]]
    effects: Effects
    estimator: EstimatorConfig
    policy: PolicyConfig
    fingerprints: dict[str, str | None]
    n_runs: int
    n_skipped: int
    confidence: float
    randomised: bool
    notes: tuple[str, ...]
    overruled: tuple[str, ...] = ()

    @property
    def gain(self) -> Interval:
        """Predicted gain of the candidate over the reference, points."""
        return self.candidate.gain

    def to_json(self) -> dict[str, Any]:
        """Return the content of mixture.json."""
        by_domain = self._by_domain
        return {
            "format": 1,
            "advice": self.advice,
            "reason": self.reason,
            "weights": by_domain(self.weights),
            "candidate": by_domain(self.candidate.weights),
            "reference": by_domain(self.target.reference),
            "gain": {**asdict(self.gain), "confidence": self.confidence},
            "spread": None if self.spread is None else by_domain(self.spread.sd),
            "spread_l1": None if self.spread is None else self.spread.l1,
            "counts": self.counts,
            "theta": {name: asdict(interval) for name, interval in zip(self.domains, self.theta)},
            "exchange": {
                source: {name: _number(self.moves[j, k]) for k, name in enumerate(self.domains) if name != source}
                for j, source in enumerate(self.domains)
            },
            "baselines": {
                answer.name: {
                    "weights": by_domain(answer.weights),
                    "gain": asdict(answer.gain),
                    "notes": list(answer.notes),
                }
                for answer in self.baselines
            },
            "shadow_prices": self.shadow_prices,
            "support": {
                **asdict(self.support),
                "outside": list(self.support.outside),
                "unrelated": list(self.support.unrelated),
                "mixture_is_supported": self.support.mixture_is_supported,
                "state_is_supported": self.support.state_is_supported,
            },
            "state": self.target.state,
            "floor": by_domain(self.target.box.floor),
            "cap": by_domain(self.target.box.cap),
            "policy": asdict(self.policy),
            "estimator": asdict(self.estimator),
            "summary": [
                {"rule": node.path, "n_runs": node.n_runs, "theta": by_domain(node.theta)}
                for node in self.tree
                if node.is_leaf
            ],
            "tree": [self._spell_node(node) for node in self.tree],
            "importances": self.importances,
            "checks": [check.to_json() for check in self.checks],
            "allowed_failed_checks": list(self.overruled),
            "fingerprints": self.fingerprints,
            "n_runs": self.n_runs,
            "n_skipped": self.n_skipped,
            "randomised": self.randomised,
            "notes": list(self.notes),
        }

    def _spell_node(self, node: Node) -> dict[str, Any]:
        return {
            "rule": node.rule,
            "n_runs": node.n_runs,
            "depth": node.depth,
            "children": list(node.children),
            "theta": self._by_domain(node.theta),
            "sd": self._by_domain(node.sd),
            "mixture": None if node.mixture is None else self._by_domain(node.mixture),
        }

    def _by_domain(self, values: Floats) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.domains, values)}


def _number(value: float) -> float | None:
    """Return a JSON number, or null for what is not there."""
    return float(value) if math.isfinite(value) else None
