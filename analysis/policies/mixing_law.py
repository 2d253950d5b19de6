"""The data mixing law with a proposer that pays for leaving the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.policies.plain import fit_to_box
from analysis.policies.proposal import Proposal
from analysis.regressors.mixing_law import MixingLaw
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError
from causalmix.mixture.simplex import project_to_box

Floats = NDArray[np.float64]

_STARTS = 6  # besides the reference: the objective is concave only where every k is negative
_TINY = 1e-12


def propose_mixing_law(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with ``argmax_T sum_a v_a f_a(T) - lam KL(T || q)`` over the box.

    ``f_a`` is the :class:`~analysis.regressors.mixing_law.MixingLaw` of outcome a on all fitted runs (no state is
    seen), ``v_a`` its weight, q the reference, and lam is ``policy.kl_penalty`` standard deviations of the outcome
    a nat.

    Raises
    ------
    AnalysisError
        Too few runs, or a penalty below 0.
    """
    if not (np.isfinite(cfg.kl_penalty) and cfg.kl_penalty >= 0):
        raise AnalysisError(f"policy.kl_penalty={cfg.kl_penalty}: 0 or more, in standard deviations a nat.")
    laws = [MixingLaw(seed=cfg.seed).fit(roles.mixtures, outcome) for outcome in roles.outcomes.T]
    penalty = cfg.kl_penalty * float(roles.Y.std())
    weights = maximise_penalised(laws, roles.outcome_weights, penalty, target, cfg.seed)
    distance = _diverge(weights, target.reference)
    proposal = fit_to_box(weights, target)
    note = f"KL(T || q) of the answer is {distance:.3f} nats, at {penalty:.3g} points a nat."
    return Proposal(proposal.weights, notes=(note, *proposal.notes))


def maximise_penalised(
    laws: Sequence[MixingLaw], outcome_weights: Floats, penalty: float, target: Target, seed: int
) -> Floats:
    """Solve ``max_T sum_a v_a f_a(T) - penalty KL(T || q)`` over the target's box.

    Parameters
    ----------
    laws : sequence of MixingLaw
        f_a, higher is better.
    outcome_weights : ndarray (A,)
        v_a.
    penalty : float
        Points a nat.
    target : Target
        q and the box.
    seed : int
        Of the starts besides q.

    Returns
    -------
    ndarray (K,)
        The best of SLSQP's answers from all starts.
    """
    from scipy.optimize import minimize

    q, box = target.reference, target.box
    scale = max(float(np.ptp([_score(laws, outcome_weights, row) for row in (q, *np.eye(len(q)))])), penalty, _TINY)

    def measure(weights: Floats) -> tuple[float, Floats]:
        inside = np.clip(weights, _TINY, None)
        ratio = np.log(inside / q)
        slope = sum(v * law.differentiate(inside[None, :])[0] for v, law in zip(outcome_weights, laws))
        value = _score(laws, outcome_weights, inside) - penalty * float(inside @ ratio)
        return -value / scale, np.asarray(-(slope - penalty * (ratio + 1.0)) / scale)

    to_one: Any = {"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones_like(w)}
    rng = np.random.default_rng([seed, 43])
    starts = [q, *(project_to_box(row, box) for row in rng.dirichlet(np.ones(len(q)), size=_STARTS))]
    found = [
        minimize(
            measure,
            start,
            jac=True,
            method="SLSQP",
            bounds=list(zip(box.floor, box.cap)),
            constraints=to_one,
            options={"ftol": 1e-12, "maxiter": 500},
        ).x
        for start in starts
    ]
    # SLSQP keeps the sum and the limits to about 1e-9.
    answers = [project_to_box(np.clip(x, 0.0, None), box) for x in found]
    return min(answers, key=lambda x: measure(x)[0])


def _score(laws: Sequence[MixingLaw], outcome_weights: Floats, weights: Floats) -> float:
    return float(sum(v * law.predict(weights[None, :])[0] for v, law in zip(outcome_weights, laws)))


def _diverge(weights: Floats, q: Floats) -> float:
    held = weights > 0
    return float((weights[held] * np.log(weights[held] / q[held])).sum())
