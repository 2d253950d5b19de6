"""Where in its submission a worker stands, as SLURM's variables say, and which GPU is its own."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass
class Place:
    """Where in its submission a worker stands."""

    job: str = "local"
    task: int = 0  # over all arrays of the submission
    restart: int = 0
    local: int = 0  # among the workers of its task on this node
    rank: int = 0  # among those on all of its nodes
    n_ranks: int = 1

    @classmethod
    def from_environment(cls, environment: dict[str, str]) -> Place:
        """Read the place from SLURM's variables."""
        array = environment.get("SLURM_ARRAY_JOB_ID", environment.get("SLURM_JOB_ID", "local"))
        task = int(environment.get("SLURM_ARRAY_TASK_ID", 0))
        return cls(
            job=f"{array}_{task}",
            task=int(environment.get("CAUSALMIX_FIRST_TASK", 0)) + task,
            restart=int(environment.get("SLURM_RESTART_COUNT", 0)),
            local=int(environment.get("SLURM_LOCALID", 0)),
            rank=int(environment.get("SLURM_PROCID", 0)),
            n_ranks=int(environment.get("SLURM_NTASKS", 1)),
        )


def take_gpu(local: int) -> None:
    """Give the workers of a task its GPUs in turn."""
    devices = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    if len(devices) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[local % len(devices)]
