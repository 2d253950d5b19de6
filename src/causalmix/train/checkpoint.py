"""Checkpoints of a training in flight: safetensors and JSON, complete or absent, never half-written.

``<folder>/step-<n>/`` holds ``model.safetensors`` (trained parameters), ``optimizer.safetensors`` and
``state.json`` (step, counters, and the SHA-256 of the other two). The folder is written under another name,
synced and renamed; older ones are removed afterwards, so that a kill at any moment leaves a whole one.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from causalmix.errors import TrainError
from causalmix.files import hash_file, sync

if TYPE_CHECKING:
    import torch

FORMAT = 1
STEP_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Snapshot:
    """Copies of what a checkpoint holds, on the CPU: the training goes on while they are written."""

    parameters: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    state: dict[str, Any]


def take_snapshot(
    parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> Snapshot:
    """Copy parameters, optimiser and state.

    Parameters
    ----------
    parameters : dict
        Name -> trained parameter, in the optimiser's order.
    optimizer : Optimizer
    state : dict
        JSON values; ``state["step"]`` (steps done) and ``state["identity"]`` (what is trained) are read back.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    moments = {
        f"{names[id(parameter)]}|{key}": _copy(value)
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }
    return Snapshot({name: _copy(p) for name, p in parameters.items()}, moments, copy.deepcopy(state))


class CheckpointWriter:
    """Write one checkpoint after another.

    Parameters
    ----------
    folder : Path or None
        Of the run's checkpoints; made when missing. None writes nothing.
    beside : bool
        Write in a thread while the training goes on: for a GPU, which would wait. A CPU would share its cores, and a
        kill during the write would cost more than one interval.
    """

    def __init__(self, folder: Path | None, *, beside: bool) -> None:
        self.folder, self.beside = folder, beside
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last: Future[Path] | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Start writing, once the one before is written."""
        self.wait()
        if self.folder is not None:
            self._last = self._pool.submit(write_checkpoint, self.folder, snapshot)
            if not self.beside:
                self.wait()

    def wait(self) -> None:
        """Wait until the last one is written; what went wrong with it is raised here."""
        if self._last is not None:
            last, self._last = self._last, None
            last.result()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        if error is None:
            self.wait()


def write_checkpoint(folder: Path, snapshot: Snapshot) -> Path:
    """Write one checkpoint atomically and remove the older ones.

    Returns
    -------
    Path
        The new ``step-<n>`` folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".writing-{uuid.uuid4().hex}"
    temporary.mkdir()
    save_file(snapshot.parameters, temporary / "model.safetensors")
    save_file(snapshot.moments, temporary / "optimizer.safetensors")
    hashes = {file.name: hash_file(file) for file in sorted(temporary.glob("*.safetensors"))}
    return publish(temporary, {**snapshot.state, "sha256": hashes})


def publish(temporary: Path, state: dict[str, Any]) -> Path:
    """Give a written checkpoint its state and its name, and remove the older ones.

    Parameters
    ----------
    temporary : Path
        Folder ``.writing-*`` beside the others, with every tensor in it.
    state : dict
        JSON values, with ``step`` and the files' ``sha256``.

    Returns
    -------
    Path
        The ``step-<n>`` folder, whole or not there whenever the process dies.
    """
    folder, final = temporary.parent, temporary.parent / f"step-{state['step']:08d}"
    (temporary / "state.json").write_text(json.dumps({"format": FORMAT, **state}, indent=1))
    for file in temporary.iterdir():
        sync(file)
    sync(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    sync(folder)
    for old in folder.iterdir():
        if old != final and (STEP_NAME.fullmatch(old.name) or old.name.startswith(".writing-")):
            shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(
    folder: Path, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, identity: str
) -> dict[str, Any] | None:
    """Restore the newest checkpoint into parameters and optimiser.

    Parameters
    ----------
    folder : Path
    parameters : dict
        Name -> parameter; overwritten in place.
    optimizer : Optimizer
        Fresh, over the same parameters.
    identity : str
        Must equal the checkpoint's.

    Returns
    -------
    dict or None
        Its ``state.json``; None where there is no checkpoint.

    Raises
    ------
    TrainError
        For a damaged checkpoint, or one of another model, data set or setting.
    """
    newest = find_checkpoint(folder)
    if newest is None:
        return None
    state = read_state(newest, identity)
    if "model.safetensors" not in state["sha256"]:  # written by several ranks
        from causalmix.train.shards import load_shards

        return load_shards(folder, parameters, optimizer, identity)
    tensors = {}
    for name in ("model", "optimizer"):
        file = newest / f"{name}.safetensors"
        if not file.is_file() or hash_file(file) != state["sha256"].get(file.name):
            raise make_damaged(file, "its content is not what was written")
        try:
            tensors[name] = load_file(file)
        except SafetensorError as error:
            raise make_damaged(file, str(error)) from error
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors["model"][name])
        for key in ("step", "exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][key] = tensors["optimizer"][f"{name}|{key}"].to(parameter.device)
    return state


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def find_checkpoint(folder: Path) -> Path | None:
    """Find the newest checkpoint of a folder, None where there is none."""
    found = [path for path in folder.glob("step-*") if STEP_NAME.fullmatch(path.name)] if folder.is_dir() else []
    return max(found, key=lambda path: path.name, default=None)


def read_state(path: Path, identity: str) -> dict[str, Any]:
    """Read the state of a checkpoint.

    Raises
    ------
    TrainError
        Where it is damaged, or of another training than ``identity``.
    """
    file = path / "state.json"
    try:
        state = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise make_damaged(file, str(error)) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or "sha256" not in state:
        raise make_damaged(file, f"it is not a state of format {FORMAT}")
    if state.get("identity") != identity:
        raise TrainError(
            f"{path} is the checkpoint of another training (model, documents, settings or seed differ): "
            f"give this run another folder, or delete it to start again."
        )
    return state


def make_damaged(file: Path, cause: str) -> TrainError:
    """Say which file of a checkpoint is damaged, and how to go on."""
    return TrainError(f"The checkpoint file {file} is damaged ({cause}): delete {file.parent} to restart.")
