"""What a config needs from the Hub, fetched before it runs where there is no internet.

Fetching and looking are the same calls: with ``HF_HUB_OFFLINE=1`` in the environment, which the libraries read once,
they find what lies in the caches (``HF_HOME``) and fail for the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from causalmix.errors import CausalMixError, PoolError, name_some
from causalmix.pool.tokenizer import require_pinned

PATTERNS = ["*.json", "*.jinja", "*.txt", "*.safetensors"]  # tokenizer and weights; no pickle, no code
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Need:
    """One thing that a run reads.

    Attributes
    ----------
    kind : str
        model, tokenizer, dataset or task.
    path : str
        Hub name or local folder; a task's name.
    key : str
        The config key that asks for it.
    revision : str or None
    options : str
        JSON of what else names a dataset: ``subset``, ``data_files``; a task's ``include_path``.
    """

    kind: str
    path: str
    key: str
    revision: str | None = None
    options: str = "{}"


@dataclass(frozen=True)
class Found:
    """A need, and why it is not here; None where it is."""

    need: Need
    cause: str | None

    def to_plain(self) -> dict[str, Any]:
        """List what a table shows."""
        need = self.need
        return {"kind": need.kind, "name": need.path, "revision": need.revision, "key": need.key, "missing": self.cause}


def list_needs(plain: dict[str, Any]) -> list[Need]:
    """List what a run of a config reads from the Hub or from folders, everything once.

    Parameters
    ----------
    plain : dict
        Resolved launch config.
    """
    pool, evaluate = plain["pool"], plain["evaluate"]
    needs = []
    for key, model in (("model", plain["model"]), ("study.confirm_model", plain["study"]["confirm_model"])):
        if model and model["source"] == "pretrained":
            needs.append(Need("model", str(model["path"]), key, model["revision"]))
    if pool["tokenizer"]["kind"] == "pretrained":
        tokenizer = pool["tokenizer"]
        needs.append(Need("tokenizer", str(tokenizer["path"]), "pool.tokenizer", tokenizer["revision"]))
    for name in ("reference_lm", "rater"):
        scorer = pool["scores"][name]
        if scorer["path"]:
            needs.append(Need("model", scorer["path"], f"pool.scores.{name}", scorer["revision"]))
    if pool["source"] == "hf":
        hub = pool["hf"]
        options = json.dumps({"name": hub["subset"], "data_files": hub["data_files"] or None})
        needs.append(Need("dataset", str(pool["path"]), "pool.hf", hub["revision"], options))
    if evaluate["source"] == "lm_eval":
        options = json.dumps({"include_path": evaluate["include_path"]})
        for split in ("dev", "unseen"):
            for ability, tasks in evaluate[split].items():
                needs += [Need("task", task, f"evaluate.{split}.{ability}", None, options) for task in tasks]
    seen = {(need.kind, need.path, need.revision): need for need in reversed(needs)}
    return [need for need in needs if seen[need.kind, need.path, need.revision] is need]


def obtain_all(needs: list[Need], *, offline: bool) -> Iterator[Found]:
    """Fetch every need, or look for it; one that fails does not keep the others from being tried.

    Parameters
    ----------
    needs : list of Need
    offline : bool
        Look only; ``HF_HUB_OFFLINE=1`` must have been in the environment before a library was imported.
    """
    for need in needs:
        try:
            OBTAIN[need.kind](need, offline)
        except Exception as error:  # the hub, the network, Arrow and lm-eval each raise their own
            yield Found(need, " ".join(str(error).split()) or type(error).__name__)
        else:
            yield Found(need, None)


def obtain_model(need: Need, offline: bool) -> None:
    """Fetch a model's config, weights and tokenizer, or one of them."""
    from huggingface_hub import snapshot_download

    if require_pinned(need.key, need.path, need.revision):
        folder = Path(need.path)
    else:
        patterns = PATTERNS if need.kind == "model" else [name for name in PATTERNS if "safetensors" not in name]
        folder = Path(
            snapshot_download(
                need.path, revision=need.revision, allow_patterns=patterns, local_files_only=offline
            )
        )  # fmt: skip
    missing = [name for name in list_files(folder, need.kind) if not (folder / name).exists()]
    if missing:
        raise PoolError(f"{folder} lacks {name_some(missing)}")


def list_files(folder: Path, kind: str) -> list[str]:
    """Name the files that a model's or a tokenizer's folder must have."""
    if kind == "tokenizer":
        return list(TOKENIZER_FILES)
    if not (folder / INDEX).exists():
        return ["config.json", "model.safetensors"]
    shards = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    return ["config.json", *sorted(shards)]


def obtain_dataset(need: Need, offline: bool) -> None:
    """Fetch a dataset and write it into the cache of the `datasets` library."""
    import datasets

    if not require_pinned(need.key, need.path, need.revision):
        datasets.load_dataset(need.path, revision=need.revision, **json.loads(need.options))


def obtain_task(need: Need, offline: bool) -> None:
    """Fetch the documents of an lm-eval task, or of all tasks of a group."""
    find_tasks(json.loads(need.options)["include_path"]).load([need.path])


@lru_cache(maxsize=1)
def find_tasks(include_path: str | None) -> Any:
    """Read lm-eval's index of tasks, once: it takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include_path, include_defaults=True)


OBTAIN: dict[str, Callable[[Need, bool], None]] = {
    "model": obtain_model,
    "tokenizer": obtain_model,
    "dataset": obtain_dataset,
    "task": obtain_task,
}


def refuse_missing(found: list[Found], overrides: list[str], *, offline: bool) -> None:
    """Name all that is missing, with the command that mends it.

    Raises
    ------
    CausalMixError
    """
    lacking = [one for one in found if one.cause is not None]
    if not lacking:
        return
    names = name_some(f"{one.need.kind} {one.need.path} ({one.need.key})" for one in lacking)
    command = " ".join(["causalmix prefetch", *overrides])
    where = "on a machine with internet and the same HF_HOME: " if offline else "once the causes above are mended: "
    raise CausalMixError(f"{len(lacking)} of {len(found)} are missing: {names}. Run, {where}{command}")
