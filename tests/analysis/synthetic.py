"""Runs tables with known effects, for the tests of the analysis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmix.config import AnalysisConfig, EstimatorConfig, NuisanceConfig, PolicyConfig
from causalmix.table.runs import RunsTable
from causalmix.table.schema import list_abilities, list_domains, list_features

Floats = NDArray[np.float64]

DOMAINS = ("code", "general", "if", "math", "safety")
ABILITIES = ("coding", "following", "knowledge", "math", "safety", "reasoning")
FEATURES = ("hes", "normalized_loss", "writing_style")


@dataclass(frozen=True)
class World:
    """theta_k(x) = a_k + b' x_k: what a domain is worth depends on its own state."""

    constant: Floats
    slope: Floats

    def theta(self, own: Floats) -> Floats:
        """True effects (n, K) at own states (n, K, F)."""
        return np.asarray(self.constant + own @ self.slope)


def make_world(n_domains: int = 5, n_features: int = 3, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    slope = np.zeros(n_features)
    slope[0], slope[1] = 1.5, -1.0
    return World(rng.uniform(0.3, 1.8, n_domains), slope)


def draw_mixtures(rng: np.random.Generator, n: int, n_domains: int) -> Floats:
    """Floored Dirichlet around equal shares, log-uniform concentration."""
    floor = min(0.02, 0.2 / n_domains)
    s = np.exp(rng.uniform(np.log(0.5 * n_domains), np.log(5.0 * n_domains), n))
    gammas = rng.standard_gamma(np.repeat(s[:, None] / n_domains, n_domains, axis=1)) + 1e-300
    return np.asarray(floor + (1 - n_domains * floor) * gammas / gammas.sum(axis=1, keepdims=True))


def make_frame(
    n: int = 160,
    *,
    world: World | None = None,
    noise: float = 0.5,
    seed: int = 1,
    domains: tuple[str, ...] = DOMAINS,
    abilities: tuple[str, ...] = ABILITIES,
    features: tuple[str, ...] = FEATURES,
    with_design: bool = True,
) -> pd.DataFrame:
    """A randomised sweep: states first, then mixtures, then outcomes."""
    rng = np.random.default_rng(seed)
    K, F = len(domains), len(features)
    world = world or make_world(K, F)
    own = rng.normal(0.0, 0.5, size=(n, K, F))
    T = draw_mixtures(rng, n, K)
    Z = np.log(T)
    design_mean = np.log(draw_mixtures(np.random.default_rng(99), 20_000, K)).mean()
    columns: dict[str, object] = {"run_id": [f"r{i:04d}" for i in range(n)]}
    columns |= {"cohort": "signal", "status": "complete", "train.n_samples": 2000}
    for k, d in enumerate(domains):
        columns[f"mixture.{d}"] = T[:, k]
        if with_design:
            columns[f"design.mean_log.{d}"] = design_mean
        columns |= {f"state.{name}.{d}": own[:, k, f] for f, name in enumerate(features)}
    columns |= {f"state.{name}": own[:, :, f].mean(axis=1) for f, name in enumerate(features)}
    total = np.einsum("nk,nk->n", world.theta(own), Z) + 2.0 * own.mean(axis=(1, 2))
    shift = rng.normal(size=len(abilities))
    for a, name in enumerate(abilities):
        error = rng.normal(0, noise * np.sqrt(len(abilities)), n)
        columns[f"outcome.{name}"] = 50 + shift[a] + total + error
    frame = pd.DataFrame(columns)
    frame["outcome.avg_dev"] = frame[[f"outcome.{a}" for a in abilities]].mean(axis=1)
    return frame


def make_runs(frame: pd.DataFrame) -> RunsTable:
    """Wrap a frame without the loader's checks, as another caller might."""
    columns = [str(name) for name in frame.columns]
    return RunsTable(
        frame.sort_values("run_id").reset_index(drop=True),
        list_domains(columns),
        list_features(columns),
        list_abilities(columns),
        "test",
    )


def state_names(features: tuple[str, ...] = FEATURES, domains: tuple[str, ...] = DOMAINS) -> list[str]:
    return [*features, *(f"{f}.{d}" for f in features for d in domains)]


def make_config(estimator: str = "own_state", policy: str = "causalmix_a", **changes: object) -> AnalysisConfig:
    """A quick analysis: few trees, few shuffles, no refits, no RegMix."""
    cfg = AnalysisConfig(
        estimator=EstimatorConfig(
            name=estimator,
            kind=estimator,
            state="domain" if estimator == "own_state" else "pool",
            n_trees=100,
            nuisance=NuisanceConfig(treatment="auto", outcome="ridge"),
        ),
        policy=PolicyConfig(name=policy, kind=policy, n_candidates=20_000),
        baselines=["equal", "natural"],
        n_refits=0,
        n_placebo=20,
    )
    for name, value in changes.items():
        setattr(cfg, name, value)
    return cfg
