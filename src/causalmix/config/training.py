"""Models, training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


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
    packing_window: int = 4096  # documents packed together by best fit; 0 = the whole epoch: the fullest rows
    rows_per_pass: int = 0  # packed rows a forward pass, gradients accumulated; 0 = all of the step's
    lr_peak: float = 2e-3
    lr_final_fraction: float = 0.0  # cosine down to this share of the peak
    warmup_fraction: float = 0.1
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float = 1.0
    checkpoint_every: int = 0  # optimiser steps; 0 = none. Never part of a run's identity
    keep_checkpoints: str = "none"  # of a complete run: none | weights (in model/) | all. Never part of its identity
    log_every: int = 20  # optimiser steps. Never part of a run's identity
    device: str = "auto"  # auto | cpu | cuda
    rescored_documents: int = 0  # a stage's: candidate documents scored with the model before and after; 0: no stage
    too_long: str = "truncate"  # a document longer than max_length: truncate | drop (counted) | refuse
    half_weights: bool = False  # a bfloat16 model's weights stay so; false = float32 ones under autocast
    # The keys below change speed and memory, never more of a result than its rounding; no part of a run's identity.
    attention: str = "auto"  # auto | documents | varlen | flex
    head_budget_mib: int = 512  # memory for logits and their gradients; more of them are made in chunks
    recompute: bool = False  # keep no activations of a layer, compute them again: a third slower
    compile: bool = False  # torch.compile; what it makes is kept in ~/.cache/causalmix
    profile: bool = False  # write a trace of three steps into the run's folder
    batch_runs: Any = 1  # runs that a worker trains as one computation; auto: as many as pays on a CPU
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
    allow_code_execution: bool = False  # lm_eval: run what the model writes (humaneval, mbpp), in a sandbox
