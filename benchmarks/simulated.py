"""What the benchmarks on simulated sweeps share: options, arms, cells, and a JSON file that says where and when."""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.simulate.repeat import load_estimator, load_policy, replace_nan
from analysis.simulate.trial import Arm
from causalmix.config import DialsConfig, NuisanceConfig
from causalmix.files import write_json

HERE = str(Path(__file__).resolve().parent)
# A script's folder stands first on the path, and coverage.py in it would hide the package that numba imports.
sys.path = [entry for entry in sys.path if entry != HERE]


def parse_options(
    description: str, *, repetitions: int, full: int, restarts: bool = False, doubts: bool = False
) -> argparse.Namespace:
    """Read the options that these benchmarks share, and hold this process and its workers to one thread."""
    # It has a BLAS of its own, which can be held only once it is loaded.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)  # forked workers inherit it
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"{full} repetitions a cell instead of {repetitions}")
    parser.add_argument("--repetitions", type=int, help="repetitions a cell")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--cells", default="", help="only cells whose name contains this")
    parser.add_argument("--folder", type=Path, help="keep trials here; typed again, go on from those that are there")
    parser.add_argument("--json", type=Path, help="write the table here too")
    if restarts:
        parser.add_argument("--estimators", default="", help="only estimators whose name contains this")
        parser.add_argument("--minutes", type=float, help="begin nothing after so many minutes")
    if doubts:
        parser.add_argument("--doubtful", type=int, default=0, help="repetitions of a cell that fewer do not decide")
    options = parser.parse_args()
    options.repetitions = options.repetitions or (full if options.full else repetitions)
    return options


def spell_cell(**dials: Any) -> str:
    """Return a cell's name: its dials that are not the default."""
    default = dataclasses.asdict(DialsConfig())
    changed = [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in dials.items()
        if default[name] != value
    ]
    return " ".join(changed) or "default"


def plain_causalmix(policy: str = "causalmix_a") -> Arm:
    """Return the method without additions: a forest on LightGBM's nuisances, no trust region."""
    estimator = dataclasses.replace(
        load_estimator("causal_forest"),
        name="plain forest",
        interval="own",
        n_trees=500,
        nuisance=NuisanceConfig(outcome="lightgbm", treatment="lightgbm"),
    )
    return Arm(estimator, dataclasses.replace(load_policy(policy), region="off", n_candidates=20_000))


def make_arm(estimator: str, policy: str, **changes: Any) -> Arm:
    """Return an arm from the files of ``conf``, with 20,000 candidates where any are drawn."""
    config = dataclasses.replace(load_policy(policy), n_candidates=20_000, **changes)
    return Arm(load_estimator(estimator), config)


def bend(arm: Arm) -> Arm:
    """Let the arm's effects bend; under a name of its own, since arms of one name share a fit."""
    name = f"{arm.estimator.name}, bent"
    return dataclasses.replace(arm, estimator=dataclasses.replace(arm.estimator, name=name, curvature=True))


def write_result(path: Path | None, settings: Mapping[str, Any], rows: Sequence[Any], started: float) -> None:
    """Write rows with the date, the machine and the seconds taken."""
    if path is None:
        return
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "seconds": round(time.perf_counter() - started, 1),
        "settings": dict(settings),
        "rows": replace_nan(list(rows)),
    }
    write_json(path, content)
