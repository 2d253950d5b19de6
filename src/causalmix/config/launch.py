"""Runs, sweeps and studies: ``launch.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from causalmix.config.analysis import EstimatorConfig, OutcomeConfig, PolicyConfig, TargetConfig
from causalmix.config.pool import PoolConfig
from causalmix.config.training import EvaluateConfig, ModelConfig, TrainConfig


@dataclass
class MixtureConfig:
    """How a run's mixture is chosen."""

    name: str = MISSING
    # dirichlet | dirichlet_confounded | grid | sobol | optimal | perturbation | regmix
    # | equal | natural | fixed | policy | odm
    kind: str = MISSING
    prior: str = "natural"  # dirichlet, regmix: centre q, natural | equal
    concentration_min: float = 0.5  # dirichlet: s is log-uniform in [min, max] * K
    concentration_max: float = 5.0
    floor: float | None = None  # least share of a domain; null: min(.02, .2 / K)
    repeats_max: float = 4.0  # how often a document may be seen at most
    design_seed: int = 0  # grid, sobol, optimal, regmix: which points, in which order; a run's seed is its point
    levels: int = 4  # grid: before the floor, shares are multiples of 1 / levels
    n_points: int | None = None  # optimal: runs of the design; null: K (K + 1), two a term of the model
    confounding: float = 1.0  # dirichlet_confounded: log q_k moves by so much a unit of the domain's own state
    confounding_feature: str | None = None  # dirichlet_confounded: which score; null: the mean of all
    weights: Any = None  # fixed, policy: {domain: share}
    file: str | None = None  # fixed: a mixture.json; its weights are trained on
    odm_rule: str = "average"  # odm: how a loss becomes a weight: average (the paper's) | sum (EXP3) | perplexity
    odm_memory: float = 0.9  # odm: share of a domain's estimate that a new loss leaves; not read by sum
    use_candidate: bool = False  # fixed from a file: take `candidate` where advice was withheld


@dataclass
class TrackerConfig:
    """Weights & Biases mirror; the record stays the truth."""

    name: str = MISSING
    mode: str = "offline"  # offline | online | disabled
    project: str = "causalmix"
    entity: str | None = None  # user or team; null: the key's own
    wait_s: float = 20.0  # longest wait for W&B at a run's start (the run goes on meanwhile) and at its end
    attempts: int = 3  # calls at a run's start before it goes to disk instead
    jitter_s: float = 5.0  # online: workers that start together call within so long


@dataclass
class ClusterConfig:
    """Where runs execute. How much each needs stands in ``resources``."""

    name: str = MISSING
    kind: str = MISSING  # local | slurm | auto (slurm where sbatch answers and we are in no job yet)
    partition: str | None = None  # slurm: null takes the site's default
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None  # features of nodes, as sbatch takes them
    modules: list[str] = field(default_factory=list)  # `module load`ed by each job
    setup: list[str] = field(default_factory=list)  # further shell lines of each job; no secrets
    options: Any = None  # {sbatch option: value}; true stands for an option without value
    max_running: int | None = None  # tasks of a submission that run at once
    max_submit: int | None = None  # tasks that the site lets a user have in the queue
    grace_s: int = 120  # a job is told so long before its time is over
    jitter_s: float = 5.0  # tasks start spread over so long
    restarts: int = 3  # how often a task that died (not: was stopped) is queued again
    wait: bool = False  # return when all runs have ended, not when they are submitted


@dataclass
class ResourcesConfig:
    """How much each run needs."""

    name: str = MISSING
    n_workers: int | None = None  # local processes at once; null: one a core
    threads_per_worker: int = 1
    timeout_min: int = 60  # a run
    gpus: int = 0  # a task on a cluster, on each of its nodes
    nodes: int = 1  # a task on a cluster; more than one only where `ranks` need them
    ranks: int = 1  # processes that train one run together, its model in parts; on GPUs: nodes * gpus
    cpus: int | None = None  # a worker on a cluster; null: its threads
    memory_gb: float | None = None  # a task; null: the site's default
    time_min: int | None = None  # a task; null: timeout_min * runs_per_task
    runs_per_task: int = 8  # on a cluster: runs that one warm process does, one after the other
    workers_per_gpu: int = 1  # processes that share a GPU
    lease_s: float = 60.0  # a worker that showed no life for so long has lost its run
    max_deaths: int = 3  # a run during which so many workers died is failed
    # What `causalmix estimate` compares with and divides by.
    gpu_memory_gb: float | None = None  # of one GPU, 1e9 bytes
    gpu_tflops: float | None = None  # of one GPU: its peak in bfloat16, dense, 1e12 operations a second
    utilisation: float = 0.4  # share of the peak that a training reaches


@dataclass
class ThenConfig:
    """What follows a sweep when its tasks have ended."""

    analysis: Any = (
        None  # keys of `python -m analysis`: {policy: causalmix_s, target.pool: NAME}; {}: plain; null: none
    )
    min_share: float = 0.9  # complete runs over all that it needs; else it names what is missing
    cpus: int = 2  # of its job
    memory_gb: float | None = None
    time_min: int = 120


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
class StagesConfig:
    """One training in stages: at each boundary the model as it is scores the pool, and the fit is asked anew."""

    name: str = "stages"  # folder below ${outputs}/stages
    n_stages: int = 2  # train.n_samples is split evenly over them
    rescore: bool = True  # false: the first mixture at every stage, the control
    n_documents: int = 2000  # candidate documents scored at a boundary, as many of each domain


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
    cohort: str = "signal"  # signal | replicate | anchor | confirmation | perturbation | grid | stage
    job: str = "run"  # run | study | stages
    outputs: str = "outputs"  # everything this project writes
    plan: bool = False  # print what a sweep would submit, and its cost; submit nothing
    as_json: bool = False  # print a plan, or what a study found, as JSON; --json says the same
    sweep_dir: str | None = None  # null: ${outputs}/sweeps/<fingerprint of the fixed values>
    runs: str | None = None  # mixture=policy: the runs table the policy is fitted on
    target: TargetConfig = field(default_factory=TargetConfig)
    outcome: OutcomeConfig = field(default_factory=OutcomeConfig)  # mixture=policy: what is to be raised, and kept
    allow_failed_checks: list[str] = field(default_factory=list)  # mixture=policy: CM000s that may fail
    then: ThenConfig = field(default_factory=ThenConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    stages: StagesConfig = field(default_factory=StagesConfig)
