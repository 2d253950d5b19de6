"""The typed schema of every config group: each key, its type, its unit and what it is for.

Hydra merges each YAML file of ``conf/`` into one of these dataclasses, so a key that is not here is
refused (:func:`explain_hydra_error` adds the nearest right name). Units stand in the names.

A mapping that a user gives whole on the command line (``evaluate.dev={math: [gsm8k]}``) takes names that no schema
knows, so :func:`register_schemas` leaves mappings open. One that is null by default (``target.state={hes: .3}``) is
typed ``Any`` and checked where it is read: OmegaConf merges no mapping into a typed null.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from causalmix.config.analysis import (
    AnalysisConfig,
    EstimatorConfig,
    NuisanceConfig,
    OutcomeConfig,
    PolicyConfig,
    TargetConfig,
)
from causalmix.config.compare import CompareConfig
from causalmix.config.launch import (
    ClusterConfig,
    Config,
    MixtureConfig,
    ResourcesConfig,
    StagesConfig,
    StudyConfig,
    ThenConfig,
    TrackerConfig,
)
from causalmix.config.pool import (
    CandidateConfig,
    DedupConfig,
    HFConfig,
    PoolConfig,
    RaterConfig,
    ReferenceLMConfig,
    ScoresConfig,
    SubsampleConfig,
    TokenizerConfig,
)
from causalmix.config.simulate import DialsConfig, SimulateConfig
from causalmix.config.training import BaseConfig, EvaluateConfig, LoraConfig, ModelConfig, TrainConfig

__all__ = [
    "GROUPS",
    "AnalysisConfig",
    "BaseConfig",
    "CandidateConfig",
    "ClusterConfig",
    "CompareConfig",
    "Config",
    "DedupConfig",
    "DialsConfig",
    "EstimatorConfig",
    "EvaluateConfig",
    "HFConfig",
    "LoraConfig",
    "MixtureConfig",
    "ModelConfig",
    "NuisanceConfig",
    "OutcomeConfig",
    "PolicyConfig",
    "PoolConfig",
    "RaterConfig",
    "ReferenceLMConfig",
    "ResourcesConfig",
    "ScoresConfig",
    "SimulateConfig",
    "StagesConfig",
    "StudyConfig",
    "SubsampleConfig",
    "TargetConfig",
    "ThenConfig",
    "TokenizerConfig",
    "TrackerConfig",
    "TrainConfig",
    "register_schemas",
    "resolve",
]

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
    """Register every schema with Hydra, under ``<group>/schema`` and as the root schemas."""
    store = ConfigStore.instance()
    for group, node in GROUPS.items():
        store.store(group=group, name="schema", node=_open_mappings(OmegaConf.structured(node), node))
    for name, node in _ROOTS.items():
        store.store(name=name, node=_open_mappings(OmegaConf.structured(node), node))


_ROOTS: dict[str, type[Any]] = {
    "launch_schema": Config,
    "analysis_schema": AnalysisConfig,
    "simulate_schema": SimulateConfig,
    "compare_schema": CompareConfig,
}


def _open_mappings(node: Any, schema: type[Any]) -> Any:
    """Let the mappings of a typed config, and they alone, take keys of any name; return it."""
    hints = get_type_hints(schema)
    for item in fields(schema):
        inner = None if OmegaConf.is_missing(node, item.name) else node[item.name]
        if is_dataclass(hints[item.name]):
            if inner is not None:
                _open_mappings(inner, hints[item.name])
        elif isinstance(inner, DictConfig):
            OmegaConf.set_struct(inner, False)
    return node


def resolve(config: Any) -> dict[str, Any]:
    """Resolve a composed config to plain nested values."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
