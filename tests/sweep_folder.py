"""A sweep folder with W&B files beside its records, as runs of all fates leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from causalmix.config import TrackerConfig
from causalmix.table.from_wandb.files import find_wandb_files
from causalmix.track.mirror import Mirror, MirroredRun

DOMAINS = ("code", "math", "safety")


def make_row(index: int, **changes: Any) -> dict[str, Any]:
    """Make a row with numbers that no rounding leaves alone, and one that every JSON writer shortens."""
    rng = np.random.default_rng(index)
    shares = rng.dirichlet(np.ones(len(DOMAINS)))
    row = {
        "run_id": f"{index:04x}e1",  # one that a careless reader takes for a number
        "sweep_id": "demo",
        "cohort": "signal",
        "seed": index,
        "replicate": 0,
        "design.kind": "dirichlet",
        "design.name": "dirichlet",
        "design.concentration": float(index % 3),
        "model.name": "tiny",
        "model.n_parameters": 1250000,
        "pool.fingerprint": f"{index:016d}",
        "git_sha": None,
        "train.n_samples": 2000,
        "outcome.avg_dev": float(rng.normal(40, 9)),
        "outcome.math": float(rng.normal(40, 9)),
        "outcome.math.gsm8k": 40.0,
        "control.avg_dev": float(rng.normal(40, 9)),
        "wall_s": 4.0,
        "started_at": "2026-11-01T00:00:00+00:00",
        "status": "complete",
        **{f"state.hes.{name}": float(rng.normal()) * 1e-7 for name in DOMAINS},
        **{f"mixture.{name}": float(share) for name, share in zip(DOMAINS, shares)},
        **{f"realised.{name}": float(share) for name, share in zip(DOMAINS, shares)},
    }
    return row | changes


def write_record(run_dir: Path, row: dict[str, Any], *, status: str = "complete", cause: str | None = None) -> None:
    """Write a run's record and the settings that name its W&B project."""
    run_dir.mkdir(parents=True, exist_ok=True)
    record = {"format": 1, "run_id": run_dir.name, "status": status, "cause": cause, "row": row}
    (run_dir / "record.json").write_text(json.dumps(record))
    tracker = {"name": "offline", "mode": "offline", "project": "causalmix", "entity": "team"}
    (run_dir / "config.yaml").write_text(yaml.safe_dump({"tracker": tracker}))
    (run_dir / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')


def mirror_offline(run_dir: Path, row: dict[str, Any], *, status: str = "complete", cause: str | None = None) -> Path:
    """Mirror a run to disk and return its newest W&B file."""
    before = set(find_wandb_files(run_dir))
    mirror = Mirror(TrackerConfig("offline", "offline"), MirroredRun(run_dir.name, "demo", "signal", run_dir / "log"))
    mirror.update_config({name: row[name] for name in row if name.startswith(("run_id", "mixture.", "state."))})
    mirror.log({"step": 1, "loss": 0.5})
    mirror.finish(row if status == "complete" else {}, status, cause)
    assert mirror.failure is None
    (file,) = set(find_wandb_files(run_dir)) - before
    return file


def tear(file: Path, n_bytes: int = 700) -> None:
    """Cut a file's end off, as a kill does."""
    file.write_bytes(file.read_bytes()[:-n_bytes])
