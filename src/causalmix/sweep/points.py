"""From plain resolved configs to points that can run: inputs prepared, mixtures checked, ids given."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from causalmix.config import Config
from causalmix.errors import MixtureError
from causalmix.files import fingerprint
from causalmix.mixture.designs.design import Design, check_points
from causalmix.mixture.file import read_mixture
from causalmix.run.identity import describe_identity, make_run_id
from causalmix.sweep.held_out import settle_tasks
from causalmix.sweep.settings import check_packages, check_settings


def to_config(plain: dict[str, Any]) -> Config:
    """Turn plain values into the typed config; a wrong key or type is an error of OmegaConf."""
    return copy.deepcopy(_build_config(json.dumps(plain)))  # a copy costs a hundredth of what the checks do


@dataclass(frozen=True)
class PlannedRun:
    """A run that was asked for: its id, what the id is made of, and where its inputs lie."""

    run_id: str
    plain: dict[str, Any]
    identity: dict[str, Any]
    pool_dir: Path


@dataclass
class Inputs:
    """Pools and bases that runs need, prepared once a distinct config."""

    outputs: Path
    pools: dict[str, Path] = field(default_factory=dict)
    fingerprints: dict[Path, str] = field(default_factory=dict)
    heldout: dict[Path, dict[str, int]] = field(default_factory=dict)
    available: dict[str, dict[str, int]] = field(default_factory=dict)

    def prepare_pool(self, plain: dict[str, Any]) -> Path:
        """Prepare the pool of a config, or find it prepared."""
        settings = {key: value for key, value in plain["pool"].items() if key != "candidate"}
        key = fingerprint(settings)
        if key not in self.pools:
            from causalmix.pool.prepare import prepare
            from causalmix.pool.store import open_pool

            path = prepare(to_config(plain).pool, self.outputs)
            self.pools[key] = path
            pool = open_pool(path)
            self.fingerprints[path] = pool.fingerprint
            self.heldout[path] = pool.facts["heldout"]
        return self.pools[key]

    def count_available(self, plain: dict[str, Any], pool_dir: Path) -> dict[str, int]:
        """Count the documents of each domain that a run's candidate pool will hold."""
        key = fingerprint([str(pool_dir), plain["pool"]["candidate"]])
        if key not in self.available:
            from causalmix.pool.candidate import candidate_sizes
            from causalmix.pool.store import open_pool

            pool = open_pool(pool_dir)
            sizes = candidate_sizes(pool, to_config(plain).pool.candidate)
            self.available[key] = {domain: int(n) for domain, n in zip(pool.domains, sizes)}
        return self.available[key]


def identify(given: dict[str, Any], inputs: Inputs) -> PlannedRun:
    """Find out which run a config is: read in its mixture file, prepare its pool, settle its tasks, hash it."""
    plain = read_mixture_file(given)
    pool_dir = inputs.prepare_pool(plain)
    plain = settle_tasks(plain, inputs.heldout[pool_dir])
    identity = describe_identity(plain, inputs.fingerprints[pool_dir])
    return PlannedRun(make_run_id(identity), plain, identity, pool_dir)


def plan_runs(points: list[dict[str, Any]], inputs: Inputs) -> list[PlannedRun]:
    """Check every point and give it its id, before any of them runs; equal points become one run.

    Raises
    ------
    CausalMixError
        The first kind of fault found: a pool that cannot be prepared, a mixture that the candidate
        pool cannot give, weights off the simplex, more runs than a design has points.
    """
    from causalmix.run.designs import build_run_design

    designs: dict[str, Design] = {}
    seeds: dict[str, set[int]] = {}
    runs: dict[str, PlannedRun] = {}
    for given in points:
        check_settings(given)
    for given in {fingerprint(given["evaluate"]): given for given in points}.values():
        check_packages(given)
    for given in points:
        run = identify(given, inputs)
        available = inputs.count_available(run.plain, run.pool_dir)
        question = fingerprint([run.plain["mixture"], available, run.plain["train"]["n_samples"]])
        if question not in designs:
            designs[question] = build_run_design(to_config(run.plain), available)
        seeds.setdefault(question, set()).add(run.plain["seed"])
        runs.setdefault(run.run_id, run)
    for question, design in designs.items():
        check_points(design, seeds[question])
    return list(runs.values())


def read_mixture_file(plain: dict[str, Any]) -> dict[str, Any]:
    """Replace ``mixture.file`` by the weights that stand in it, so that the run's id depends on the numbers."""
    mixture = plain["mixture"]
    if mixture["file"] is None:
        return plain
    if mixture["weights"] is not None:
        raise MixtureError("mixture.weights and mixture.file are both given: keep one of them.")
    filled = copy.deepcopy(plain)
    filled["mixture"]["weights"] = read_mixture(mixture["file"], use_candidate=mixture["use_candidate"])
    filled["mixture"]["file"] = None
    return filled


def find_base(plain: dict[str, Any], pool_dir: Path, inputs: Inputs, cache: dict[str, Path | None]) -> Path | None:
    """Train or find the base model of a config; None for pretrained weights."""
    if plain["model"]["source"] == "pretrained":
        return None
    key = fingerprint([plain["model"], str(pool_dir)])
    if key not in cache:
        from causalmix.pool.store import open_pool
        from causalmix.train.base import ensure_base

        pool = open_pool(pool_dir)
        cache[key] = ensure_base(
            to_config(plain).model,
            pool.store,
            pool.reference_ids(),
            pool.tokenizer_fingerprint,
            pool.vocab_size,
            inputs.outputs / "bases",
            n_threads=1,  # threads spin against each other on a shared machine; models this small gain nothing
        )
    return cache[key]


@functools.lru_cache(maxsize=8)
def _build_config(text: str) -> Config:
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), json.loads(text)))
    assert isinstance(config, Config)
    return config


def read_git_sha() -> str | None:
    """Return the commit this code runs from, with ``-dirty`` where files were changed; None outside git."""
    folder = Path(__file__).resolve().parent
    try:
        sha = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{sha}-dirty" if changed else sha
