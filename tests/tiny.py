"""The smallest whole CausalMix: overrides under which a run takes a fraction of a second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from causalmix.cli import compose_config

ROOT = Path(__file__).resolve().parents[1]

MODEL = [
    "model.hidden_size=16",
    "model.n_layers=1",
    "model.n_heads=2",
    "model.n_kv_heads=1",
    "model.intermediate_size=32",
    "model.base.n_steps=3",
    "model.base.batch_rows=2",
]
POOL = [
    "pool.n_documents=800",
    "pool.tokenizer.vocab_size=400",
    "pool.tokenizer.n_documents=200",
    "pool.scores.n_calibration=100",
    "pool.scores.reference_lm.hidden_size=16",
    "pool.scores.reference_lm.n_layers=1",
    "pool.scores.reference_lm.n_steps=3",
    "pool.scores.rater.hidden_size=16",
    "pool.scores.rater.n_layers=1",
    "pool.scores.rater.n_pairs=40",
    "pool.scores.rater.n_steps=3",
]
REST = ["train.n_samples=40", "evaluate.limit=2", "tracker=disabled", "cluster=local", "resources.n_workers=2"]
TINY = [*MODEL, *POOL, *REST]


def compose_tiny(outputs: Path, *overrides: str) -> dict[str, Any]:
    """Compose a run of the tiny pool as plain values."""
    return compose_config([*TINY, f"outputs={outputs}", *overrides])


def make_environment() -> dict[str, str]:
    """Environment of a subprocess: this tree's packages, one thread, no network."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "default",
    }


def start(*arguments: str, module: str = "launch.py", cwd: Path = ROOT) -> subprocess.Popen[str]:
    """Start ``python launch.py ...`` in a process group of its own."""
    target = [str(ROOT / module)] if module.endswith(".py") else ["-m", module]
    return subprocess.Popen(
        [sys.executable, *target, *arguments],
        cwd=cwd,
        env=make_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def launch(
    *arguments: str, module: str = "launch.py", cwd: Path = ROOT, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run ``python launch.py ...`` to its end."""
    process = start(*arguments, module=module, cwd=cwd)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        stdout, stderr = process.communicate()
        raise AssertionError(f"no end after {timeout} s:\n{stdout}\n{stderr}") from None
    except BaseException:  # Ctrl-C, or pytest's own time limit
        os.killpg(process.pid, 9)
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def launch_tiny(outputs: Path, *arguments: str, sweep: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the tiny config, as a sweep or as one run."""
    return launch(*(["-m"] if sweep else []), *TINY, f"outputs={outputs}", *arguments)
