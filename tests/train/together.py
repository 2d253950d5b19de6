"""Train on several ranks as processes of this machine: ``together([...jobs], n_ranks, folder)``.

One start of the processes does a list of jobs, because starting costs more than training here.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny import ROOT, make_environment

LENGTHS = [20, 14, 30, 25, 11, 40, 9, 22, 17, 35, 28, 13, 19]


def together(jobs: list[dict[str, Any]], n_ranks: int, folder: Path, timeout_s: float = 150) -> list[dict[str, Any]]:
    """Do jobs on so many ranks; return what the first rank says of each, and check that the others say the same."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.together", str(folder)],
            cwd=ROOT,
            env={
                **make_environment(),
                **{"RANK": str(rank), "WORLD_SIZE": str(n_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(n_ranks)
    ]
    try:
        said = [process.communicate(timeout=timeout_s)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(said)
    answers: list[list[dict[str, Any]]] = [
        json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(n_ranks)
    ]
    for other in answers[1:]:
        assert other == answers[0]
    return answers[0]


def do_job(job: dict[str, Any], rank: int = 0) -> dict[str, Any]:
    """Train as a job says: ``config`` (changes), ``checkpoints``, ``stop_at``, ``dtype``, ``n_documents``.

    Ranks beside the first have an outline of the model, unless ``model_seed`` says by rank what each has.
    """
    import torch

    from causalmix.config import LoraConfig
    from causalmix.errors import StoppedEarlyError, TrainError
    from causalmix.train.loop import train
    from causalmix.train.ranks import find_ranks
    from causalmix.train.sharding import is_outline
    from tests.train.stores import make_config, make_model, make_store

    changes = dict(job.get("config", {}))
    if "lora" in changes:
        changes["lora"] = LoraConfig(**changes["lora"])
    store = make_store(LENGTHS)
    dtype = getattr(torch, job.get("dtype", "float32"))
    seeds = job.get("model_seed", {})
    with torch.device("meta" if rank and not seeds else "cpu"):
        model = make_model(seed=seeds.get(str(rank), 0), dtype=dtype)
    checkpoints = Path(job["checkpoints"]) if "checkpoints" in job else None
    lines: list[dict[str, Any]] = []
    n_asked = 0

    def should_stop() -> bool:
        nonlocal n_asked
        n_asked += 1
        return rank == job.get("stopped_by", 0) and n_asked == job.get("stop_at")

    answer: dict[str, Any] = {}
    try:
        result = train(
            model,
            store,
            np.arange(job.get("n_documents", len(store))),
            make_config(**changes),
            seed=5,
            checkpoint_dir=checkpoints,
            log=lines.append,
            should_stop=should_stop,
        )
        facts = {key: value for key, value in asdict(result).items() if key not in ("wall_s", "device_s")}
        answer["result"] = facts | {"documents": result.documents.tolist()}
        assert is_outline(model) == bool(rank and not seeds)
        sums = {name: p.detach().double().abs().sum() for name, p in model.named_parameters()}
        said = "" if is_outline(model) else json.dumps({name: total.item() for name, total in sums.items()})
        answer["sums"] = json.loads(find_ranks().share(said) if not seeds else said)
    except StoppedEarlyError:
        answer["stopped"] = True
    except TrainError as error:
        answer["error"] = str(error)
    answer["losses"] = {line["step"]: line["loss"] for line in lines}
    answer["norms"] = {line["step"]: line["grad_norm"] for line in lines}
    return json.loads(json.dumps(answer))  # type: ignore[no-any-return]


def main() -> None:
    """Be one rank."""
    import torch

    from causalmix.train.ranks import join_ranks, leave_ranks

    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    ranks = join_ranks(timeout_min=2)
    answers = [do_job(job, ranks.rank) for job in json.loads((folder / "jobs.json").read_text())]
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps(answers))
    leave_ranks()


if __name__ == "__main__":
    main()
