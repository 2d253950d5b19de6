"""Handing W&B files to ``wandb sync``, a few at a time, with limits on the time and the rate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from causalmix.track.session import is_uploaded
from causalmix.track.wandb_sync import call_wandb_sync, is_final


@dataclass(frozen=True)
class Upload:
    """How to upload.

    Attributes
    ----------
    runs_per_min : float
        Most runs a minute: W&B limits how often it is called, for all of a team together.
    batch : int
        Runs handed over at a time.
    parallel : int
        Of them, uploaded at the same time.
    attempts : int
        Calls for a batch; the time between them doubles from ``wait_s``.
    timeout_s : float
        Longest time for a call.
    """

    runs_per_min: float = 120.0
    batch: int = 16
    parallel: int = 4
    attempts: int = 3
    wait_s: float = 5.0
    timeout_s: float = 120.0


def upload_files(pending: Mapping[str, list[Path]], how: Upload) -> tuple[list[str], dict[str, str]]:
    """Upload the W&B files of runs; W&B's own command does it, and its own mark beside a file says that it is done.

    Parameters
    ----------
    pending : mapping
        Run -> its files, oldest first.
    how : Upload

    Returns
    -------
    uploaded : list of str
        Runs of which every file arrived.
    failed : dict of str to str
        The others, with what W&B said. After a batch of which nothing arrived the rest is not tried.
    """
    from tqdm import tqdm

    uploaded: list[str] = []
    failed: dict[str, str] = {}
    names = list(pending)
    with tqdm(total=len(names), desc="uploading", unit="run", disable=None if names else True) as bar:
        for start in range(0, len(names), how.batch):
            batch, began = names[start : start + how.batch], time.monotonic()
            missing, said = _upload_batch({name: pending[name] for name in batch}, how)
            uploaded += [name for name in batch if name not in missing]
            failed |= dict.fromkeys(missing, said)
            bar.update(len(batch) - len(missing))
            rest = names[start + how.batch :]
            if len(missing) == len(batch):
                return uploaded, failed | dict.fromkeys(rest, f"not tried, because W&B took none before it ({said})")
            if rest:
                time.sleep(max(0.0, len(batch) * 60 / how.runs_per_min - (time.monotonic() - began)))
    return uploaded, failed


def _upload_batch(batch: Mapping[str, list[Path]], how: Upload) -> tuple[list[str], str]:
    """Return the runs that did not arrive whole, and what W&B said."""
    left, said = list(batch), ""
    # One file of a run at a time, the oldest first: side by side, the older one's summary could come last and stay.
    for rank in range(max(len(files) for files in batch.values())):
        files = {name: batch[name][rank] for name in left if rank < len(batch[name])}
        missing, complaint = _upload_once_each(files, how)
        left = [name for name in left if name not in missing]
        said = complaint if missing else said
    return [name for name in batch if name not in left], said


def _upload_once_each(files: Mapping[str, Path], how: Upload) -> tuple[list[str], str]:
    """Upload one file each of some runs; return the runs whose file did not arrive, and what W&B said."""
    missing, said = list(files), ""
    for attempt in range(how.attempts):
        if attempt:
            time.sleep(how.wait_s * 2 ** (attempt - 1))
        said = call_wandb_sync([files[name] for name in missing], parallel=how.parallel, timeout_s=how.timeout_s)
        missing = [name for name in missing if not is_uploaded(files[name])]
        if not missing or is_final(said):
            break
    return missing, said
