"""The doctor's own job, what a node sees: ``python -m causalmix.sweep.doctor.probe FOLDER`` writes its report there."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from causalmix.files import read_json, write_json
from causalmix.sweep.doctor.here import check_links, check_tracker

ASK, REPORT = "ask.json", "report.json"
COUNT_GPUS = "import torch; print(torch.__version__, torch.cuda.device_count())"


def examine(folder: Path) -> dict[str, Any]:
    """Collect what the launcher cannot know of a node."""
    asked = read_json(folder / ASK)
    report: dict[str, Any] = {
        "token": asked["token"],
        "host": platform.node(),
        "python": platform.python_version(),
        "torch": None,
        "n_gpus": 0,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    ended = subprocess.run([sys.executable, "-c", COUNT_GPUS], capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        version, n_gpus = ended.stdout.split()
        report |= {"torch": version, "n_gpus": int(n_gpus)}
    trial = folder / "trial"
    trial.mkdir(exist_ok=True)
    findings = [check_links(trial), *check_tracker(asked["tracker_mode"])]
    return report | {"findings": [asdict(finding) for finding in findings], "now": time.time()}


if __name__ == "__main__":
    write_json(Path(sys.argv[1]) / REPORT, examine(Path(sys.argv[1])))
