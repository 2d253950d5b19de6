"""From a runs table to a mixture: ``python -m analysis``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class NuisanceConfig:
    """First-stage regressions."""

    outcome: str = "lightgbm"  # E[Y | X, W]: lightgbm | ridge | auto (the better on held-out runs)
    treatment: str = "auto"  # E[Z | X, W]: design (the sampler's) | mean (randomised) | lightgbm | ridge | auto
    n_folds: int = 5


@dataclass
class EstimatorConfig:
    """How theta(x), the marginal effect of log shares, is estimated."""

    name: str = MISSING
    kind: str = (
        MISSING  # causal_forest | linear_dml | constant_dml | own_state | gp | auto | no_orthogonalisation | ...
    )
    state: str = "pool"  # covariates X: pool (one mean a feature) | domain (one a feature and domain)
    coordinates: str = "log"  # log | ilr | ilr_even | alr | tangent
    log_offset: float = 0.0  # eps in log(T + eps); 0 refuses runs with a share of zero
    interval: str = "own"  # own | gp: judged by the posterior of varying_coefficient_gp, whose intervals cover
    per_outcome: bool = True  # fit each ability, then average
    curvature: bool = False  # also a parabola in the log of each share; its size is learnt, and may be 0
    degree: int = 1  # linear_dml: 1 linear in the state, 2 with squares and products
    smoothness: str = "matern52"  # varying_coefficient_gp: matern52 | matern32 | matern12, of g(x) and theta(x)
    steps: bool = True  # varying_coefficient_gp: average over jumps that theta(x) may have
    surface: bool = True  # varying_coefficient_gp: also what is not linear in the coordinates, h(Z)
    max_search: int = 60  # varying_coefficient_gp: steps of the search for its hyper-parameters
    n_trees: int = 1000
    min_samples_leaf: int = 10
    max_samples: float = 0.45
    nuisance: NuisanceConfig = field(default_factory=NuisanceConfig)
    seed: int = 0


@dataclass
class PolicyConfig:
    """How an estimate becomes a mixture."""

    name: str = MISSING
    # causalmix_a | causalmix_s | regmix | dmo | mixing_law | mixture_gp | grid | best_observed | own_share | equal |
    # natural | fixed
    kind: str = MISSING
    region: str = "kl"  # off | box | kl | reverse_kl | aitchison | l2 | support: docs/policies.md
    rho: Any = 0.5  # kl (KL(q||T) <= rho), reverse_kl (KL(T||q) <= rho): nats; auto: read off the fit
    radius: float | None = None  # aitchison (log-ratios; null: sqrt(K)), l2 (shares; null: .75 / sqrt(K))
    kappa: float = 0.0  # causalmix_s, rho=auto: standard errors subtracted from the predicted gain
    n_candidates: int = 100_000
    n_best: int = 100
    weights: Any = None  # fixed: {domain: share}
    kl_penalty: float = 0.5  # mixing_law: standard deviations of the outcome that a nat of KL(T||q) costs
    unit: str = "tokens"  # dmo: what its curves count, tokens | documents
    own_domains: Any = None  # own_share: {outcome: domain}; null: the domain of the outcome's name
    seed: int = 0


@dataclass
class TargetConfig:
    """The pool, size and limits the mixture is wanted for."""

    state: Any = None  # {feature: number} by hand, in the table's units: {hes: .3, hes.math: .1}
    pool: str | None = None  # a prepared pool by name (below pools_dir) or its folder: its state.json
    pools_dir: str = "outputs/pools"
    state_file: str | None = None  # a state.json written by `causalmix pool state`
    n_samples: int | None = None  # documents the target run trains on; null: as the sweep's runs
    available: Any = None  # {domain: documents} in the target pool
    repeats_max: float = 4.0
    floor: float | None = None  # least share a domain; null: min(.02, .2 / K)
    floors: Any = None  # {domain: least share}, in the place of `floor`: {math: .1}
    caps: Any = None  # {domain: largest share}, beside what the pool's documents allow: {safety: .2}
    reference: str = "natural"  # natural | equal | fixed; what a gain is measured against
    reference_weights: Any = None  # reference=fixed: {domain: share}


@dataclass
class OutcomeConfig:
    """What is to be raised."""

    name: str = "avg_dev"
    weights: Any = None  # {ability: weight}; null: the unweighted mean of AvgDev
    constraints: Any = None  # {ability: least predicted gain over the reference, points}: {safety: 0}


@dataclass
class AnalysisConfig:
    """``python -m analysis``: from a runs table to a mixture."""

    estimator: EstimatorConfig = MISSING
    policy: PolicyConfig = MISSING
    runs: str | None = (
        None  # a sweep folder, .csv, .parquet, .wandb or wandb:entity/project?group=...; joined by commas
    )
    cohort: str = "signal"  # which runs the fit may see
    output_dir: str = "outputs/analysis"
    target: TargetConfig = field(default_factory=TargetConfig)
    targets: Any = None  # {name: {state: ..., n_samples: ...}}: one fit, an answer in output_dir/<name> for each
    outcome: OutcomeConfig = field(default_factory=OutcomeConfig)
    baselines: list[str] = field(default_factory=lambda: ["equal", "natural", "regmix"])
    confidence: float = 0.95
    n_refits: int = 20  # half-sample refits behind the spread of the mixture
    n_placebo: int | None = None  # shuffles behind CM011; null: 811 where a refit is closed-form, 24 elsewhere; 0: none
    allow_failed_checks: list[str] = field(default_factory=list)
    n_threads: int = 2
    seed: int = 0
    as_json: bool = False  # print JSON instead of the tables; --json says the same
    report: bool = True
