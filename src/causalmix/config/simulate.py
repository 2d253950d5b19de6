"""Simulated sweeps with a known truth: ``python -m analysis.simulate``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class DialsConfig:
    """What a simulated sweep is like."""

    n_runs: int = 256
    n_domains: int = 5
    n_features: int = 3  # of the state: independent, standard normal
    heterogeneity: str = "linear"  # none | linear | smooth | step (a threshold a domain) | tree (three leaves)
    strength: float = 1.0  # sd of theta over states, points per unit of log share; its mean is 1 with sd .7
    confounding: float = 0.0  # how far the state moves the sampler's centre, in log shares; 0 is randomised
    concentration_min: float = 0.5  # of the Dirichlet, over K; large values leave little overlap
    concentration_max: float = 5.0
    curvature: float = 0.0  # points that half of the domains lose per squared log share from the mean: not log-linear
    noise: float = 1.0  # sd of a run's outcome, points
    knows_design: bool = True  # the table has the sampler's own mean of log T


@dataclass
class SimulateConfig:
    """Which estimators and policies to try on which simulated sweeps, and how often."""

    dials: DialsConfig = field(default_factory=DialsConfig)
    estimators: list[str] = field(default_factory=lambda: ["causal_forest", "varying_coefficient_gp"])  # conf/estimator
    policies: list[str] = field(
        default_factory=lambda: ["equal", "regmix", "causalmix_a", "causalmix_s"]
    )  # conf/policy
    n_repetitions: int = 20  # sweeps, each of another world
    n_targets: int = 10  # states that each fit is asked at
    confidence: float = 0.95
    n_workers: int = 2
    json: str | None = None  # write the table here too
    as_json: bool = False  # print JSON instead of the tables; --json says the same
    seed: int = 0
