"""Many simulated sweeps: means over repetitions with their standard errors."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import OmegaConf
from tqdm import tqdm

from analysis.simulate.trial import STATE_AWARE, Arm, Trial, run_trial
from analysis.simulate.world import make_world
from causalmix.config import DialsConfig, EstimatorConfig, PolicyConfig, SimulateConfig
from causalmix.config.folder import find_conf
from causalmix.errors import ConfigError, name_some, nearest_name
from causalmix.files import fingerprint, read_json, write_json


@dataclass(frozen=True)
class Mean:
    """A mean over repetitions and its standard error; NaN is the error of a single repetition."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} +- " + ("-" if math.isnan(self.error) else f"{self.error:.3f}")


@dataclass(frozen=True)
class Job:
    """One trial: a world, the arms that are asked, and where its scores are kept."""

    dials: DialsConfig
    arms: dict[str, Arm]
    seed: int
    n_targets: int
    confidence: float
    folder: Path | None

    @property
    def path(self) -> Path | None:
        """The file of the scores: a hash of everything but the code and the folder."""
        if self.folder is None:
            return None
        return self.folder / f"{fingerprint(asdict(replace(self, folder=None)))}.json"


Summary = dict[str, dict[str, Mean]]  # name -> score -> mean


def check_simulation(cfg: SimulateConfig) -> None:
    """Refuse settings of which nothing could be simulated, all at once.

    Raises
    ------
    ConfigError
        A count below one, a dial out of range, no estimator or policy to try.
    """
    dials = cfg.dials
    counts = {"n_repetitions": cfg.n_repetitions, "n_targets": cfg.n_targets, "n_workers": cfg.n_workers}
    faults = [f"{name}={n} (at least 1)" for name, n in counts.items() if n < 1]
    least = {"noise": dials.noise, "strength": dials.strength, "curvature": dials.curvature, "seed": cfg.seed}
    faults += [f"{name}={value:g} (at least 0)" for name, value in least.items() if not value >= 0]
    low, high = dials.concentration_min, dials.concentration_max
    if not 0 < low <= high:
        faults.append(f"concentration_min={low:g}, concentration_max={high:g} (0 < min <= max)")
    if not 0.5 <= cfg.confidence < 1:
        faults.append(f"confidence={cfg.confidence:g} (from .5 to below 1)")
    faults += [f"{name}=[] (one at least)" for name in ("estimators", "policies") if not getattr(cfg, name)]
    if faults:
        raise ConfigError(f"nothing can be simulated so: {name_some(faults)}.")


def repeat(
    dials: DialsConfig,
    arms: Mapping[str, Arm],
    *,
    n_repetitions: int,
    n_targets: int,
    seed: int = 0,
    n_workers: int = 1,
    confidence: float = 0.95,
    progress: bool = True,
    label: str = "sweeps",
    folder: Path | None = None,
) -> list[Trial]:
    """Run :func:`run_trial` on ``n_repetitions`` worlds, one seed each, in ``n_workers`` processes.

    With a ``folder`` every trial is written there when it is done, under a hash of all that it is made of but the
    code, and read from there when it is asked for again: typed again, a command that was stopped goes on.
    """
    jobs = [Job(dials, dict(arms), seed * 1_000_003 + i, n_targets, confidence, folder) for i in range(n_repetitions)]
    hidden = None if progress else True
    if n_workers <= 1:
        return [_work(job) for job in tqdm(jobs, desc=label, disable=hidden, leave=False)]
    # Forked workers inherit the loaded libraries; each stays on one thread, as the estimators do.
    with ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(tqdm(pool.map(_work, jobs), total=len(jobs), desc=label, disable=hidden, leave=False))


def summarise_effects(trials: Sequence[Trial]) -> Summary:
    """Return rmse, coverage and width of theta, by estimator."""
    return _summarise([trial.effects for trial in trials])


def summarise_policies(trials: Sequence[Trial]) -> Summary:
    """Return regret, gain, coverage, width, advised and misled, by arm."""
    return _summarise([trial.policies for trial in trials])


def summarise_attained(trials: Sequence[Trial]) -> dict[str, Mean]:
    """Return the mean regret of those who are told more on the same runs: of the ``oracle``, and the ``ideal``."""
    told = {"oracle": [trial.attained for trial in trials], "ideal": [trial.ideal for trial in trials]}
    return {name: mean_of(regrets) for name, regrets in told.items()}


def load_arms(cfg: SimulateConfig) -> dict[str, Arm]:
    """Pair every estimator that the config names with every policy; those that use no fit stand once.

    Raises
    ------
    ConfigError
        A name without a file in ``conf/estimator`` or ``conf/policy``.
    """
    estimators = {name: load_estimator(name) for name in cfg.estimators}
    policies = {name: load_policy(name) for name in cfg.policies}
    arms: dict[str, Arm] = {}
    for name, policy in policies.items():
        if policy.kind not in STATE_AWARE:
            arms[name] = Arm(next(iter(estimators.values())), policy)
            continue
        arms |= {f"{name} {label}": Arm(estimator, policy) for label, estimator in estimators.items()}
    return arms


def load_estimator(name: str) -> EstimatorConfig:
    """Read ``conf/estimator/<name>.yaml``, for a table with a single outcome."""
    estimator = cast(EstimatorConfig, _load("estimator", name, EstimatorConfig))
    return replace(estimator, per_outcome=False)


def load_policy(name: str) -> PolicyConfig:
    """Read ``conf/policy/<name>.yaml``."""
    return cast(PolicyConfig, _load("policy", name, PolicyConfig))


def spell_summary(summary: Summary) -> list[dict[str, Any]]:
    """Return rows for a JSON file."""
    return [{"name": name, **{score: asdict(mean) for score, mean in row.items()}} for name, row in summary.items()]


def replace_nan(content: Any) -> Any:
    """Return content with null for every NaN, the standard error of a single repetition: JSON has none."""
    if isinstance(content, Mapping):
        return {name: replace_nan(each) for name, each in content.items()}
    if isinstance(content, list | tuple):
        return [replace_nan(each) for each in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _work(job: Job) -> Trial:
    path = job.path
    if path is not None and path.exists():
        return Trial.from_json(read_json(path))
    world = make_world(job.dials, job.seed)
    trial = run_trial(world, job.seed, job.arms, n_targets=job.n_targets, confidence=job.confidence)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, trial.to_json())
    return trial


def _load(group: str, name: str, schema: type[Any]) -> Any:
    path = find_conf() / group / f"{name}.yaml"
    known = sorted(file.stem for file in (find_conf() / group).glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"{group} '{name}'{nearest_name(name, known)}; allowed: {', '.join(known)}.")
    content = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
    content.pop("defaults")
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), content))


def _summarise(rows: Sequence[Mapping[str, Any]]) -> Summary:
    summary: Summary = {}
    for name in rows[0]:
        scores = [asdict(row[name]) for row in rows]
        summary[name] = {score: mean_of([each[score] for each in scores]) for score in scores[0]}
    return summary


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean and its standard error (NaN of a single value)."""
    array = np.asarray(values, dtype=np.float64)
    error = float(array.std(ddof=1) / np.sqrt(len(array))) if len(array) > 1 else float("nan")
    return Mean(float(array.mean()), error)
