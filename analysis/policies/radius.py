"""``policy.rho=auto``: how far to go, read off the fit."""

from __future__ import annotations

import dataclasses

import numpy as np

from analysis.estimators.effects import Effects
from analysis.policies.causalmix_a import propose_a
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError

LADDER = tuple(2.0**step for step in range(-5, 3))  # nats
DEFAULT = 0.5  # where a region or a policy does not look at it
WITH_RHO = ("kl", "reverse_kl")


def settle_radius(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> PolicyConfig:
    """Put a number of nats in the place of ``policy.rho=auto``.

    Of CausalMix-A's answers at a ladder of radii, from 1/32 to 4 nats, the radius whose answer has the highest
    predicted gain less ``policy.kappa`` standard errors,

    ``rho = argmax_r  gain(T_r) - kappa sd(gain(T_r))``.

    What is known well is followed to the end, what is not is left near the reference. With ``kappa=0`` it is the
    radius with the highest predicted gain, and where effects do not bend that is the largest. CausalMix-S takes
    A's radius. Nothing but the fit is asked: the interval of the answer is that of any other mixture, and the
    fail-safe stands behind it.

    Raises
    ------
    AnalysisError
        A radius that is neither a number nor ``auto``, or a standard error of a family without one.
    """
    if isinstance(cfg.rho, int | float) and not isinstance(cfg.rho, bool):
        return cfg
    if cfg.rho != "auto":
        raise AnalysisError(f"policy.rho={cfg.rho}: a radius in nats above 0, or auto.")
    if not (np.isfinite(cfg.kappa) and cfg.kappa >= 0):
        raise AnalysisError(f"policy.kappa={cfg.kappa}: standard errors, 0 or more.")
    if cfg.region not in WITH_RHO or cfg.kind not in ("causalmix_a", "causalmix_s"):
        return dataclasses.replace(cfg, rho=DEFAULT)
    bounds = {}
    for rho in LADDER:
        settled = dataclasses.replace(cfg, rho=rho)
        mixture = propose_a(effects, roles, target, settled).weights
        gain, variance = effects.gain(target.x, mixture, target.reference)
        bounds[rho] = gain - cfg.kappa * float(np.sqrt(variance))
    # Radii that bind nothing give one answer: the smallest of them is the one that says what was done.
    top = max(bounds.values())
    return dataclasses.replace(cfg, rho=min(rho for rho, bound in bounds.items() if bound >= top - 1e-9))
