"""CausalMix-S: many candidate mixtures, scored by the fit; the mean of the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.policies.box_rule import divergence
from analysis.policies.causalmix_a import check_region, solve_kl, solve_off
from analysis.policies.proposal import Proposal
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]


def propose_s(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the mean of the ``n_best`` of ``n_candidates`` mixtures, by predicted gain at the target.

    With ``region=off`` candidates are uniform on the feasible simplex. With ``region=kl`` they are drawn
    around {q, uniform, A} and those outside ``KL(q || T) <= rho`` are dropped; the region is convex, so the
    mean stays inside. The score is the predicted gain minus ``kappa`` of its standard errors.
    """
    check_region(cfg)
    if not 1 <= cfg.n_best <= cfg.n_candidates:
        raise AnalysisError(f"policy.n_best={cfg.n_best}: from 1 to policy.n_candidates ({cfg.n_candidates}).")
    rng = np.random.default_rng([cfg.seed, 23])
    theta, q, box = effects.theta(target.x), target.reference, target.box
    if cfg.region == "off":
        candidates = _draw(rng, [np.ones(len(q))], [1.0], cfg.n_candidates, box)
    else:
        aim = solve_kl(theta, q, box, cfg.rho)[0]
        centres = [q, np.full(len(q), 1.0 / len(q)), 0.5 * (aim + solve_off(theta, q, box))]
        concentrations = np.exp(rng.uniform(np.log(len(q)), np.log(100.0 * len(q)), size=8))
        candidates = _draw(rng, [*centres, aim], list(concentrations), cfg.n_candidates, box)
        candidates = candidates[divergence(q, candidates) <= cfg.rho]
    if not len(candidates):
        return Proposal(q.copy(), notes=("No candidate mixture lies in the region: the reference is kept.",))
    scores = effects.predict(target.x, candidates)
    if cfg.kappa > 0:
        d = effects.embed(candidates) - effects.embed(q)
        variance = np.einsum("mk,kj,mj->m", d, effects.covariance(target.x), d)
        scores = scores - cfg.kappa * np.sqrt(np.clip(variance, 0.0, None))
    # A stable sort: candidates that a step-wise surface cannot tell apart keep the order of their draw.
    best = candidates[np.argsort(-scores, kind="stable")[: cfg.n_best]]
    weights = best.mean(axis=0)
    notes = (
        (f"Only {len(best)} candidates lie in the region (policy.n_best={cfg.n_best}).",)
        if len(best) < cfg.n_best
        else ()
    )
    return Proposal(np.asarray(weights / weights.sum()), notes=notes)


def draw_dirichlet(rng: np.random.Generator, shape: Floats, n: int) -> Floats:
    """Draw ``n`` Dirichlet mixtures (n, K), never with a share of exactly zero."""
    drawn = rng.dirichlet(np.clip(shape, 1e-3, None), size=n)
    drawn = np.clip(drawn, 1e-12, None)
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))


def _draw(rng: np.random.Generator, centres: list[Floats], concentrations: list[float], n: int, box: Box) -> Floats:
    """Draw ``n`` floored mixtures, split over centres and concentrations; those above a cap are dropped."""
    parts = []
    n_each = -(-n // (len(centres) * len(concentrations)))
    room = 1.0 - box.floor.sum()
    for centre in centres:
        # Floors are added after the draw, so the centre is moved back by them first.
        shape = np.clip(centre - box.floor * centre.sum(), 1e-4, None) / room
        for concentration in concentrations:
            parts.append(box.floor + room * draw_dirichlet(rng, concentration * shape, n_each))
    drawn = np.concatenate(parts)[:n]
    return np.asarray(drawn[np.all(drawn <= box.cap + 1e-12, axis=1)])
