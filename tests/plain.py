"""A resolved config without Hydra, from the schema's own defaults."""

from dataclasses import asdict
from typing import Any

from causalmix.config import (
    ClusterConfig,
    Config,
    EstimatorConfig,
    EvaluateConfig,
    MixtureConfig,
    ModelConfig,
    PolicyConfig,
    PoolConfig,
    ResourcesConfig,
    TrackerConfig,
    TrainConfig,
)


def make_plain() -> dict[str, Any]:
    """Build the plain values of a small run; every call gives a new copy."""
    config = Config(
        model=ModelConfig(name="tiny"),
        pool=PoolConfig(name="demo", source="demo"),
        mixture=MixtureConfig(name="dirichlet", kind="dirichlet"),
        policy=PolicyConfig(name="causalmix_a", kind="causalmix_a"),
        estimator=EstimatorConfig(name="causal_forest", kind="causal_forest"),
        train=TrainConfig(name="proxy"),
        evaluate=EvaluateConfig(name="demo"),
        tracker=TrackerConfig(name="disabled", mode="disabled"),
        cluster=ClusterConfig(name="local", kind="local"),
        resources=ResourcesConfig(name="cpu"),
    )
    return asdict(config)
