"""The typed schema of every config group: each key, its type, its unit and what it is for.

Hydra merges each YAML file of ``conf/`` into one of these dataclasses, so a key that is not here is
refused (:func:`explain_hydra_error` adds the nearest right name). Units stand in the names.

A mapping that a user gives whole on the command line (``target.state={hes: .3}``) is typed ``Any`` and
checked where it is read: OmegaConf merges no mapping into a typed one that is null or empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf


@dataclass
class BaseConfig:
    """The shared starting point of a model built from a config: trained once, cached by fingerprint."""

    n_steps: int = 700  # optimiser steps on the pool's reference slice; 0 = random weights
    batch_rows: int = 8  # packed rows a step
    max_length: int = 256  # tokens a row
    lr_peak: float = 4e-3
    warmup_fraction: float = 0.05
    seed: int = 0


@dataclass
class ModelConfig:
    """Proxy or target model."""

    name: str = MISSING
    source: str = "config"  # config (Qwen2 architecture, below) | pretrained (Hugging Face name or folder)
    path: str | None = None  # pretrained: Hugging Face name or a local folder
    revision: str | None = None  # pretrained: commit of the Hub repository; required for a Hub name
    hidden_size: int = 64
    n_layers: int = 2
    n_heads: int = 4
    n_kv_heads: int = 2
    intermediate_size: int = 176
    max_position: int = 1024
    dtype: str = "float32"  # float32 | bfloat16
    base: BaseConfig = field(default_factory=BaseConfig)


@dataclass
class TokenizerConfig:
    """Tokenizer and chat template of the pool."""

    kind: str = "bpe"  # bpe (trained on the reference slice) | pretrained
    vocab_size: int = 1024
    path: str | None = None  # pretrained: Hugging Face name or folder
    revision: str | None = None
    n_documents: int = 4000  # documents the BPE is trained on


@dataclass
class ReferenceLMConfig:
    """Reference language model behind Normalized_Loss and HES (METHOD: fixed weights, one forward pass)."""

    path: str | None = None  # a pretrained model; null trains a small one on the reference slice
    revision: str | None = None
    hidden_size: int = 64
    n_layers: int = 2
    n_steps: int = 400
    batch_rows: int = 8
    max_length: int = 256
    lr_peak: float = 4e-3
    seed: int = 0


@dataclass
class RaterConfig:
    """Writing-style rater: a sequence classifier with QuRater's four logits, logit 0 used."""

    path: str | None = None  # a pretrained rater; null trains one on pairwise judgements
    revision: str | None = None
    pairs: str = "corrupted"  # corrupted (original beats its corruption) | quality (the pool's own labels)
    n_pairs: int = 3000
    n_steps: int = 300
    batch_pairs: int = 16
    hidden_size: int = 48
    n_layers: int = 2
    chunk_length: int = 512  # tokens a chunk, without special tokens, averaged by token count
    lr_peak: float = 2e-3
    seed: int = 0


@dataclass
class ScoresConfig:
    """How every document is scored, once."""

    loss_max_length: int = 2048
    batch_tokens: int = 16384  # padded tokens a forward pass
    n_calibration: int = 2000  # reference documents on which the normaliser is frozen
    scale_of: str | None = None  # folder of a prepared pool: its reference LM, rater and normaliser are used
    reference_lm: ReferenceLMConfig = field(default_factory=ReferenceLMConfig)
    rater: RaterConfig = field(default_factory=RaterConfig)


@dataclass
class CandidateConfig:
    """The sub-pool a run may draw from; what its state is measured on, before any mixture is drawn."""

    kind: str = "tilted" # tilted (tau drawn per run and domain) | fixed (tau below) | all
    fraction: float = 0.5  # share of each domain's candidate documents that enters
    tau_sd: float = 1.5  # tilted: standard deviation of tau_k, per feature and domain
    tau: dict[str, dict[str, float]] = field(default_factory=dict)  # fixed: {domain: {feature: tau}}
    seed: int | None = None  # null: the run's own seed; a number: one pool for all runs


@dataclass
class PoolConfig:
    """Where the documents come from and how they are stored, scored and sampled."""

    name: str = MISSING
    source: str = MISSING  # demo | jsonl | parquet
    path: str | None = None  # a file, a folder or a glob; .jsonl, .jsonl.gz, .parquet
    heldout_path: str | None = None  # the same, for evaluation; null: folder/heldout-* beside folder/train-*
    domains: list[str] = field(default_factory=list)  # allowed domains; empty: those found
    domain_field: str = "domain"  # field naming a document's domain; absent: the file's name does
    n_documents: int = 20000  # demo only: how many to generate
    seed: int = 0  # demo generator and reference split
    reference_fraction: float = 0.2  # documents kept for tokenizer, raters and base; no run may draw them
    max_length: int = 512  # tokens a document; longer ones are truncated and counted
    store_dir: str | None = None  # null: ${outputs}/pools/<name>-<fingerprint>
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    scores: ScoresConfig = field(default_factory=ScoresConfig)
    candidate: CandidateConfig = field(default_factory=CandidateConfig)


@dataclass
class MixtureConfig:
    """How a run's mixture is chosen."""

    name: str = MISSING
    kind: str = MISSING  # dirichlet | equal | natural | fixed | policy
    prior: str = "natural"  # dirichlet: centre q, natural | equal
    concentration_min: float = 0.5  # dirichlet: s is log-uniform in [min, max] * K
    concentration_max: float = 5.0
    floor: float | None = None  # least share of a domain; null: min(.02, .2 / K)
    repeats_max: float = 4.0  # how often a document may be seen at most
    weights: Any = None  # fixed, policy: {domain: share}
    file: str | None = None  # fixed: a mixture.json; its weights are trained on
    use_candidate: bool = False  # fixed from a file: take `candidate` where advice was withheld


@dataclass
class LoraConfig:
    """Low-rank adapters through peft; rank 0 trains every weight."""

    rank: int = 0
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])


@dataclass
class TrainConfig:
    """One fine-tuning run."""

    name: str = MISSING
    n_samples: int = 2000  # documents a run, repeats counted
    n_epochs: int = 1  # passes over the manifest
    max_length: int = 256  # tokens a packed row
    batch_rows: int = 2  # packed rows an optimiser step
    rows_per_pass: int = 0  # packed rows a forward pass, gradients accumulated; 0 = all of the step's
    lr_peak: float = 2e-3
    lr_final_fraction: float = 0.0  # cosine down to this share of the peak
    warmup_fraction: float = 0.1
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float = 1.0
    checkpoint_every: int = 0  # optimiser steps; 0 = none. Never part of a run's identity
    log_every: int = 20  # optimiser steps. Never part of a run's identity
    device: str = "auto"  # auto | cpu | cuda
    lora: LoraConfig = field(default_factory=LoraConfig)


@dataclass
class EvaluateConfig:
    """Which tasks score a run, and which abilities make AvgDev."""

    name: str = MISSING
    source: str = "pool"  # pool (the pool's held-out documents) | lm_eval (lm-eval's own tasks)
    dev: dict[str, list[str]] = field(default_factory=dict)  # ability -> tasks; their mean is AvgDev
    unseen: dict[str, list[str]] = field(default_factory=dict)  # ability -> tasks, never in AvgDev
    limit: int | None = None  # documents a task
    batch_size: int = 64
    max_length: int = 512
    include_path: str | None = None  # lm_eval: a folder of further task files


@dataclass
class TrackerConfig:
    """Weights & Biases mirror; the record stays the truth."""

    name: str = MISSING
    mode: str = "offline"  # offline | online | disabled
    project: str = "causalmix"
    entity: str | None = None


@dataclass
class ClusterConfig:
    """Where runs execute. How much each needs stands in ``resources``."""

    name: str = MISSING
    kind: str = MISSING  # local


@dataclass
class ResourcesConfig:
    """How much each run needs."""

    name: str = MISSING
    n_workers: int | None = None  # local processes at once; null: one a core
    threads_per_worker: int = 1
    timeout_min: int = 60  # a run


@dataclass
class NuisanceConfig:
    """First-stage regressions."""

    outcome: str = "lightgbm"  # E[Y | X, W]: lightgbm | ridge
    treatment: str = "auto"  # E[Z | X, W]: design (the sampler's own) | lightgbm | ridge | auto (design, else lightgbm)
    n_folds: int = 5


@dataclass
class EstimatorConfig:
    """How theta(x), the marginal effect of log shares, is estimated."""

    name: str = MISSING
    kind: str = MISSING  # causal_forest | linear_dml | own_state | no_orthogonalisation | no_covariates
    state: str = "pool"  # covariates X: pool (one mean a feature) | domain (one a feature and domain)
    coordinates: str = "log"
    log_offset: float = 0.0  # eps in log(T + eps); 0 refuses runs with a share of zero
    per_outcome: bool = True  # fit each ability, then average
    n_trees: int = 1000
    min_samples_leaf: int = 10
    max_samples: float = 0.45
    nuisance: NuisanceConfig = field(default_factory=NuisanceConfig)
    seed: int = 0


@dataclass
class PolicyConfig:
    """How an estimate becomes a mixture."""

    name: str = MISSING
    kind: str = MISSING  # causalmix_a | causalmix_s | regmix | equal | natural | fixed | best_observed
    region: str = "kl"  # off | kl (KL(q||T) <= rho)
    rho: float = 0.5
    kappa: float = 0.0  # causalmix_s: standard errors subtracted from the predicted gain
    n_candidates: int = 100_000
    n_best: int = 100
    weights: Any = None  # fixed: {domain: share}
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
    reference: str = "natural"  # natural | equal | fixed; what a gain is measured against
    reference_weights: Any = None  # reference=fixed: {domain: share}


@dataclass
class OutcomeConfig:
    """What is to be raised."""

    name: str = "avg_dev"
    weights: Any = None  # {ability: weight}; null: the unweighted mean of AvgDev


@dataclass
class AnalysisConfig:
    """``python -m analysis``: from a runs table to a mixture."""

    estimator: EstimatorConfig = MISSING
    policy: PolicyConfig = MISSING
    runs: str | None = None  # a sweep folder, a CSV or a Parquet file; several joined by commas
    cohort: str = "signal"  # which runs the fit may see
    output_dir: str = "outputs/analysis"
    target: TargetConfig = field(default_factory=TargetConfig)
    outcome: OutcomeConfig = field(default_factory=OutcomeConfig)
    baselines: list[str] = field(default_factory=lambda: ["equal", "natural", "regmix"])
    confidence: float = 0.95
    n_refits: int = 20  # half-sample refits behind the spread of the mixture
    allow_failed_checks: list[str] = field(default_factory=list)
    n_threads: int = 2
    seed: int = 0
    report: bool = True


@dataclass
class StudyConfig:
    """The whole loop: sweep, analysis, confirmation on swapped pools, report."""

    name: str = "study"
    about: str = ""  # opens the page: what is studied, on what
    n_proxies: int = 160
    n_anchor_mixtures: int = 6  # mixtures on one pool, each trained again and again: spread against noise
    n_replicates: int = 3  # trainings of each anchor mixture
    policies: dict[str, PolicyConfig] = field(default_factory=dict)  # confirmed beside the shares below
    ablations: dict[str, EstimatorConfig] = field(default_factory=dict)  # estimators for the first policy
    shares: list[str] = field(default_factory=lambda: ["equal", "natural"])  # equal, natural
    targets: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)  # pool -> {domain: {score: tau}}
    n_seeds: int = 3  # trainings of each mixture on each target
    confirm_model: ModelConfig | None = None  # the larger model
    confirm_sizes: list[int] = field(default_factory=lambda: [2])  # times the proxies' documents
    docs_file: str | None = None  # a Markdown page written from what was measured


@dataclass
class Config:
    """``launch.py``: one run, a sweep, or the whole loop."""

    model: ModelConfig = MISSING
    pool: PoolConfig = MISSING
    mixture: MixtureConfig = MISSING
    policy: PolicyConfig = MISSING
    estimator: EstimatorConfig = MISSING
    train: TrainConfig = MISSING
    evaluate: EvaluateConfig = MISSING
    tracker: TrackerConfig = MISSING
    cluster: ClusterConfig = MISSING
    resources: ResourcesConfig = MISSING
    seed: int = 0  # feeds separate streams for the state, the design and training
    replicate: int = 0  # repeats training alone: same pool, state and mixture
    cohort: str = "signal"  # signal | replicate | anchor | confirmation
    job: str = "run"  # run | study
    outputs: str = "outputs"  # everything this project writes
    sweep_dir: str | None = None  # null: ${outputs}/sweeps/<fingerprint of the fixed values>
    runs: str | None = None  # mixture=policy: the runs table the policy is fitted on
    target: TargetConfig = field(default_factory=TargetConfig)
    study: StudyConfig = field(default_factory=StudyConfig)


GROUPS: dict[str, type[Any]] = {
    "model": ModelConfig,
    "pool": PoolConfig,
    "mixture": MixtureConfig,
    "policy": PolicyConfig,
    "estimator": EstimatorConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "tracker": TrackerConfig,
    "cluster": ClusterConfig,
    "resources": ResourcesConfig,
}


def register_schemas() -> None:
    """Register every schema with Hydra, under ``<group>/schema`` and as the two root schemas."""
    store = ConfigStore.instance()
    for group, node in GROUPS.items():
        store.store(group=group, name="schema", node=node)
    store.store(name="launch_schema", node=Config)
    store.store(name="analysis_schema", node=AnalysisConfig)


def resolve(config: Any) -> dict[str, Any]:
    """Resolve a composed config to plain nested values."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
