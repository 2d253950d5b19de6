"""Settings that can be refused at once, before a pool is prepared or a model trained."""

from __future__ import annotations

from typing import Any

from causalmix.errors import ConfigError, nearest_name
from causalmix.evaluate.packages import describe_lacking, find_lacking
from causalmix.files import is_folder_name
from causalmix.mixture.designs.build import KINDS
from causalmix.mixture.odm import RULES
from causalmix.sweep.groups import list_obstacles

CHOICES = {
    "job": ("run", "study", "stages"),
    "cohort": ("signal", "replicate", "anchor", "confirmation", "perturbation", "grid", "stage"),
    "model.source": ("config", "pretrained"),
    "model.dtype": ("float32", "bfloat16"),
    "pool.candidate.kind": ("tilted", "fixed", "all"),
    "mixture.kind": KINDS,
    "train.keep_checkpoints": ("none", "weights", "all"),
    "mixture.odm_rule": RULES,
    "train.device": ("auto", "cpu", "cuda"),
    "evaluate.source": ("pool", "lm_eval"),
    "tracker.mode": ("offline", "online", "disabled"),
    "cluster.kind": ("local", "slurm", "auto"),
}
"""What a key with a fixed set of values may be."""

OWN_COHORT = {"perturbation": "perturbation", "odm": "confirmation"}
"""Designs whose runs no causal fit may see, and the one cohort that keeps them out."""
WHY_OWN_COHORT = {
    "perturbation": "its runs differ in size",
    "odm": "its mixture follows the losses of the run itself",
}

FOLDERS = ("model.name", "pool.name", "study.name", "stages.name")
"""Names after which folders below ``outputs`` are called: they must not lead out of it."""

LEAST = {
    "train.n_samples": 1,
    "train.rescored_documents": 0,
    "stages.n_stages": 1,
    "stages.n_documents": 1,
    "seed": 0,
    "replicate": 0,
    "mixture.design_seed": 0,
    "tracker.wait_s": 0.1,
    "tracker.attempts": 1,
    "tracker.jitter_s": 0,
    "resources.n_workers": 1,
    "resources.threads_per_worker": 1,
    "resources.timeout_min": 1,
    "resources.gpus": 0,
    "resources.nodes": 1,
    "resources.ranks": 1,
    "resources.cpus": 1,
    "resources.time_min": 1,
    "resources.runs_per_task": 1,
    "resources.workers_per_gpu": 1,
    "resources.lease_s": 1,
    "resources.max_deaths": 1,
    "cluster.max_running": 1,
    "cluster.max_submit": 1,
    "cluster.grace_s": 0,
    "cluster.jitter_s": 0,
    "cluster.restarts": 0,
    "then.cpus": 1,
    "then.time_min": 1,
}
LEAST_OF_STUDY = {
    "study.n_proxies": 2,
    "study.n_anchor_mixtures": 2,  # a spread needs two
    "study.n_replicates": 2,
    "study.n_seeds": 2,  # a standard error needs two
}


def check_settings(plain: dict[str, Any]) -> None:
    """Refuse values that no run could have, all of them in one message.

    Parameters
    ----------
    plain : dict
        Resolved config. ``study`` is looked at where ``job=study`` alone.

    Raises
    ------
    ConfigError
        Naming each key, what was given and what is allowed.
    """
    wrong = []
    for key, allowed in CHOICES.items():
        value = find_value(plain, key)
        if value not in allowed:
            wrong.append(f"{key}={value}{nearest_name(str(value), allowed)}; allowed: {', '.join(allowed)}")
    for key in FOLDERS:
        if not is_folder_name(find_value(plain, key)):
            wrong.append(f"{key}={find_value(plain, key)}: letters, digits, '_', '-', '+' and '.'; a folder's name")
    own = OWN_COHORT.get(plain["mixture"]["kind"], plain["cohort"])
    if plain["cohort"] != own:
        wrong.append(
            f"cohort={plain['cohort']} with mixture={plain['mixture']['kind']}: "
            f"{WHY_OWN_COHORT[plain['mixture']['kind']]}, so no causal fit may see them; add cohort={own}"
        )
    wrong += check_ranks(plain["resources"], plain["train"]["n_samples"]) + check_batch(plain)
    wrong += check_grace(plain["resources"], plain["cluster"])
    is_study = plain["job"] == "study"
    for key, least in (LEAST | LEAST_OF_STUDY if is_study else LEAST).items():
        value = find_value(plain, key)
        if value is not None and value < least:
            wrong.append(f"{key}={value}: {least} or more")
    if not 0 < plain["then"]["min_share"] <= 1:
        wrong.append(f"then.min_share={plain['then']['min_share']}: above 0, at most 1")
    if is_study:
        wrong += check_study(plain["study"])
    if is_study and plain["plan"]:
        wrong.append("plan=true with job=study: a plan is of one sweep; leave the experiment out")
    if wrong:
        raise ConfigError("; ".join(wrong))


def check_grace(resources: dict[str, Any], cluster: dict[str, Any]) -> list[str]:
    """Refuse tasks that would be told to stop as soon as they have started, again and again."""
    time_min, grace_s = resources["time_min"], cluster["grace_s"]
    if cluster["kind"] == "local" or time_min is None or time_min * 60 > grace_s:
        return []
    return [
        f"resources.time_min={time_min} with cluster.grace_s={grace_s}: a task would be told to stop as soon as it "
        f"has started; more minutes, or less grace"
    ]


def check_ranks(resources: dict[str, Any], n_samples: int) -> list[str]:
    """Say what is wrong with the processes that train a run together."""
    nodes, gpus, ranks = resources["nodes"], resources["gpus"], resources["ranks"]
    if ranks <= 1:
        return [f"resources.nodes={nodes}: 1, or resources.ranks that need more"] if nodes > 1 else []
    wrong = []
    if ranks > n_samples:
        wrong.append(f"resources.ranks={ranks} with train.n_samples={n_samples}: at most a rank a document")
    if gpus and ranks != nodes * gpus:
        wrong.append(f"resources.ranks={ranks}: nodes * gpus, {nodes} * {gpus} = {nodes * gpus}; a rank takes a GPU")
    if ranks % max(1, nodes):
        wrong.append(f"resources.ranks={ranks}: a multiple of resources.nodes={nodes}")
    if resources["workers_per_gpu"] > 1:
        wrong.append(f"resources.workers_per_gpu={resources['workers_per_gpu']} with resources.ranks={ranks}: 1")
    return wrong


def check_batch(plain: dict[str, Any]) -> list[str]:
    """Say what is wrong with the number of runs that are trained together."""
    asked = plain["train"]["batch_runs"]
    if asked == "auto" or asked == 1:
        return []
    if not isinstance(asked, int) or asked < 1:
        return [f"train.batch_runs={asked}: 1 or more runs trained together, or auto"]
    return [
        f"train.batch_runs={asked} with {obstacle}; or train.batch_runs=1, or auto, which leaves such runs alone"
        for obstacle in list_obstacles(plain)
    ]


def check_packages(plain: dict[str, Any]) -> None:
    """Refuse tasks whose Python packages are not here: workers have those of the launcher.

    Raises
    ------
    ConfigError
    """
    evaluate = plain["evaluate"]
    if evaluate["source"] != "lm_eval":
        return
    tasks = [task for split in ("dev", "unseen") for names in evaluate[split].values() for task in names]
    lacking = find_lacking(tasks, evaluate["include_path"])
    if lacking:
        raise ConfigError(f"evaluate={evaluate['name']}: {describe_lacking(lacking)}.")


def check_study(study: dict[str, Any]) -> list[str]:
    """Say what is wrong with a study's own section."""
    wrong = []
    lacking = [key for key in ("targets", "policies", "confirm_sizes") if not study[key]]
    if lacking:
        names = ", ".join(f"study.{key}" for key in lacking)
        wrong.append(f"job=study needs {names}; see conf/experiment/demo.yaml")
    if sorted(study["shares"]) != ["equal", "natural"]:  # every gain is told over both
        wrong.append(f"study.shares={study['shares']}: equal and natural, in any order")
    sizes = study["confirm_sizes"]
    if any(size < 1 for size in sizes) or len(set(sizes)) < len(sizes):
        wrong.append(f"study.confirm_sizes={sizes}: different whole multiples of train.n_samples, 1 or more")
    return wrong


def find_value(plain: dict[str, Any], key: str) -> Any:
    """Find the value of a dotted key."""
    value: Any = plain
    for part in key.split("."):
        value = value[part]
    return value
