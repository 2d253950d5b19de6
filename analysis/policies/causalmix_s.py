"""CausalMix-S: many candidate mixtures, scored by the fit; the mean of the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.estimators.effects import Effects
from analysis.policies.constraints import Constraints, pull_back, read_limits, solve_constrained
from analysis.policies.proposal import Proposal
from analysis.policies.regions.box import solve_box
from analysis.policies.regions.region import Region
from analysis.policies.regions.registry import build_region
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError
from causalmix.mixture.simplex import Box

Floats = NDArray[np.float64]

_HALVINGS = 40  # of the way to the reference: after them a candidate is the reference to rounding


def propose_s(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the mean of the ``n_best`` of ``n_candidates`` mixtures, by predicted gain at the target.

    With ``region=off`` candidates are uniform on the feasible simplex. With a region they are drawn around
    {q, uniform, A}, and kept where they lie inside. Candidates that break ``outcome.constraints`` are dropped. The
    score is the predicted gain less ``kappa sqrt(d' V d)``, ``d = z(T) - z(q)`` and V the covariance of theta: the
    gain holds a curve or surface, its error here that of the slopes alone. Regions that are not
    convex in T, and constraints, may lose the mean of the best: it is then pulled back towards the best one.
    A search by chance: near the optimum, never exactly on it.
    """
    region = build_region(cfg, roles, target)
    if not 1 <= cfg.n_best <= cfg.n_candidates:
        raise AnalysisError(f"policy.n_best={cfg.n_best}: from 1 to policy.n_candidates ({cfg.n_candidates}).")
    theta, q = effects.theta(target.x), target.reference
    limits = read_limits(effects, roles, target)
    candidates = draw_candidates(seed_candidates(cfg.seed), region, limits, theta, cfg)
    if not len(candidates):
        what = "region" if limits is None else "region and keeps outcome.constraints"
        return Proposal(q.copy(), notes=(f"No candidate mixture lies in the {what}: the reference is kept.",))
    scores = effects.predict(target.x, candidates)
    if cfg.kappa > 0:
        d = effects.embed(candidates) - effects.embed(q)
        variance = np.einsum("mk,kj,mj->m", d, effects.covariance(target.x), d)
        scores = scores - cfg.kappa * np.sqrt(np.clip(variance, 0.0, None))
    # A stable sort: candidates that a step-wise surface cannot tell apart keep the order of their draw.
    best = candidates[np.argsort(-scores, kind="stable")[: cfg.n_best]]
    few = f"Only {len(best)} candidates are left to choose from (policy.n_best={cfg.n_best})."
    return Proposal(_average(best, region, limits), notes=(few,) if len(best) < cfg.n_best else ())


def draw_candidates(
    rng: np.random.Generator, region: Region, limits: Constraints | None, theta: Floats, cfg: PolicyConfig
) -> Floats:
    """Draw mixtures (m, K) of a region that keep the constraints, m at most ``n_candidates``.

    A draw outside goes half the way to the reference (or to A's answer where the reference lies outside) until it
    is inside: a region so small that chance would miss it is still searched to its edge. ``off`` does so only where
    fewer than ``n_best`` of the uniform draws keep the caps.
    """
    q = region.reference
    anchors = [q]
    if region.name != "off" or limits is not None:
        aim = (region.solve(theta) if limits is None else solve_constrained(region, theta, limits)).weights
        anchors.append(aim)
    if region.name == "off":
        room = 1.0 - float(region.box.floor.sum())
        drawn: Floats = region.box.floor + room * draw_dirichlet(rng, np.ones(len(q)), cfg.n_candidates)
    else:
        centres = [q, np.full(len(q), 1.0 / len(q)), 0.5 * (aim + solve_box(theta, q, region.box)), aim]
        concentrations = np.exp(rng.uniform(np.log(len(q)), np.log(100.0 * len(q)), size=8))
        drawn = _draw(rng, centres, list(concentrations), cfg.n_candidates, region.box)
    anchors = [mixture for mixture in anchors if _holds(mixture, region, limits)]
    kept = _holds(drawn, region, limits)
    inside, drawn = drawn[kept], drawn[~kept]
    enough = cfg.n_best if region.name == "off" else cfg.n_candidates
    for _ in range(_HALVINGS if anchors else 0):
        if not len(drawn) or len(inside) >= enough:
            break
        drawn = 0.5 * (drawn + anchors[0])
        kept = _holds(drawn, region, limits)
        inside, drawn = np.concatenate([inside, drawn[kept]]), drawn[~kept]
    return inside


def seed_candidates(seed: int) -> np.random.Generator:
    """Return the stream that candidates are drawn from."""
    return np.random.default_rng([seed, 23])


def draw_dirichlet(rng: np.random.Generator, shape: Floats, n: int) -> Floats:
    """Draw ``n`` Dirichlet mixtures (n, K), never with a share of exactly zero."""
    drawn = rng.dirichlet(np.clip(shape, 1e-3, None), size=n)
    drawn = np.clip(drawn, 1e-12, None)
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))


def _average(best: Floats, region: Region, limits: Constraints | None) -> Floats:
    """Return the mean of the best candidates, pulled back towards the first where it left the region."""
    mean = best.mean(axis=0)
    return pull_back(np.asarray(mean / mean.sum()), best[0], lambda mixture: bool(_holds(mixture, region, limits)))


def _holds(mixtures: Floats, region: Region, limits: Constraints | None) -> NDArray[np.bool_]:
    inside = region.contains(mixtures)
    return inside if limits is None else np.asarray(inside & limits.are_kept(mixtures))


def _draw(rng: np.random.Generator, centres: list[Floats], concentrations: list[float], n: int, box: Box) -> Floats:
    """Draw ``n`` floored mixtures, split over centres and concentrations; caps are not looked at."""
    parts = []
    n_each = -(-n // (len(centres) * len(concentrations)))
    room = 1.0 - box.floor.sum()
    for centre in centres:
        # Floors are added after the draw, so the centre is moved back by them first.
        shape = np.clip(centre - box.floor * centre.sum(), 1e-4, None) / room
        for concentration in concentrations:
            parts.append(box.floor + room * draw_dirichlet(rng, concentration * shape, n_each))
    return np.concatenate(parts)[:n]
