"""Checkpoints of a training on several ranks: each writes its parts; any number of ranks reads them.

``<folder>/step-<n>/`` is as :mod:`causalmix.train.checkpoint` has it, with one safetensors file a rank in the place
of two. torch.distributed.checkpoint writes and reads them through its safetensors storage: its usual one keeps a
pickle beside the tensors and reads it back, which this project does for no file.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from causalmix.errors import TrainError
from causalmix.files import hash_file
from causalmix.train.checkpoint import find_checkpoint, make_damaged, publish, read_state
from causalmix.train.ranks import Ranks, find_ranks

MOMENTS = ("exp_avg", "exp_avg_sq")
NO_FILE = "-" * 64  # in the place of a digest: a rank whose parts are all empty writes none


def save_shards(
    folder: Path,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> Path:
    """Write one checkpoint together and remove the older ones; every rank must call.

    Parameters and return value are those of :func:`~causalmix.train.checkpoint.save_checkpoint`.
    """
    ranks = find_ranks()
    final = folder / f"step-{state['step']:08d}"
    temporary = folder / f".writing-{final.name}"
    if ranks.is_first:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    ranks.wait()
    tensors = _name_tensors(parameters, optimizer)
    save(tensors, storage_writer=HuggingFaceStorageWriter(str(temporary), save_distributed=True))
    own = next(iter(temporary.glob(f"shard-{ranks.rank + 1:05d}-*.safetensors")), None)
    digests = ranks.gather(hash_file(own) if own else NO_FILE)
    if ranks.is_first:
        # A rank's file is named by its number, so that digests and sorted names pair.
        files = sorted(temporary.glob("*.safetensors"))
        hashes = dict(zip([file.name for file in files], [one for one in digests if one != NO_FILE], strict=True))
        publish(temporary, {**state, "n_ranks": ranks.size, "sha256": hashes})
    ranks.wait()
    return final


def load_shards(
    folder: Path, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, identity: str
) -> dict[str, Any] | None:
    """Restore the newest checkpoint, of any number of ranks, into this rank's parts; every rank must call.

    Parameters, return value and errors are those of :func:`~causalmix.train.checkpoint.load_checkpoint`.
    """
    ranks = find_ranks()
    # One rank looks: another may not see the folder's newest entries yet.
    named = ranks.share(str(find_checkpoint(folder) or "")) if ranks.is_first else ranks.share("")
    if not named:
        return None
    newest = Path(named)
    state = read_whole(newest, identity, ranks)
    _read_tensors(newest, parameters, optimizer, state, ranks)
    return state


def read_whole(newest: Path, identity: str, ranks: Ranks) -> dict[str, Any]:
    """Read a checkpoint's state and check its files, each by one rank.

    Raises
    ------
    TrainError
        On every rank: for a damaged checkpoint, or one of another training.
    """
    state, wrong = {}, ""
    try:
        state = read_state(newest, identity)
        named = sorted(state["sha256"])
        found = sorted(file.name for file in newest.glob("*.safetensors"))
        if named != found:
            raise make_damaged(newest / "state.json", f"it names {', '.join(named)}, but there are {', '.join(found)}")
        for name in named[ranks.rank :: ranks.size]:
            if hash_file(newest / name) != state["sha256"][name]:
                raise make_damaged(newest / name, "its content is not what was written")
    except TrainError as error:
        wrong = str(error)
    (n_wrong,) = ranks.add(bool(wrong))
    if n_wrong:
        raise TrainError(wrong or f"Another process of this run found the checkpoint {newest} damaged.")
    return state


def _read_tensors(
    newest: Path,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    ranks: Ranks,
) -> None:
    for parameter in parameters.values():
        moments = {key: torch.zeros_like(parameter.data) for key in MOMENTS}
        optimizer.state[parameter].update(step=torch.tensor(float(state["step"])), **moments)
    tensors = _name_tensors(parameters, optimizer)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)  # one rank
            load(tensors, storage_reader=HuggingFaceStorageReader(str(newest)), no_dist=ranks.size == 1)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise make_damaged(newest, f"{type(error).__name__}: {error}") from error


def _name_tensors(
    parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Name every tensor as a checkpoint of one process does; steps are the training's own, and left out."""
    weights = {name: parameter.data for name, parameter in parameters.items()}
    moments = {
        f"{name}|{key}": optimizer.state[parameter][key] for name, parameter in parameters.items() for key in MOMENTS
    }
    return weights | moments
