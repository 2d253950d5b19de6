"""Extrapolation at full size: from raw files to a mixture and the documents it draws, with time and peak memory a step.

    python benchmarks/scale.py [--documents 800000] [--samples 100000] [--folder DIR] [--json FILE]

A corpus is generated (benchmarks/pool_corpus.py), then each step is the command that a user types, in processes of
its own; memory is that of all its processes together (proportional set size, shared pages counted once), looked at
four times a second. The runs table that the estimator is fitted on is simulated: nothing is trained here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# A script's folder stands first on the path: its files would hide packages of the same name.
sys.path = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "benchmarks")]

STAGES = ("documents", "tokenizer", "tokens", "reference_lm", "rater", "scores")
TITLES = {
    "documents": "ingest: read, check, remove duplicates",
    "tokenizer": "tokenizer: train a BPE",
    "tokens": "tokenise",
    "reference_lm": "train the reference model",
    "rater": "train the rater",
    "scores": "score every document",
    "last": "hash the store, measure its state",
}
# A model of the smallest size that scores differ with, on the first 64 tokens: the step is the same, its cost is not.
POOL = [
    "pool=jsonl",
    "pool.name=scale",
    "pool.dedup.kind=near",
    "pool.language_sample=2000",
    "pool.reference_fraction=0.05",
    "pool.tokenizer.vocab_size=2048",
    "pool.scores.loss_max_length=64",
    "pool.scores.reference_lm={hidden_size: 16, n_layers: 1, n_steps: 200, max_length: 64}",
    "pool.scores.rater={hidden_size: 16, n_layers: 1, n_steps: 100, chunk_length: 64}",
]
COMMAND = "from causalmix.cli import main; main()"
RUNS = 256


@dataclass
class Step:
    """One line of the table."""

    step: str
    wall_s: float
    peak_mib: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every step, print the table, and write it as JSON."""
    from benchmarks.pool_corpus import write_corpus

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=800_000)
    parser.add_argument("--samples", type=int, default=100_000, help="documents of the manifest")
    parser.add_argument("--folder", type=Path, help="kept, and gone on with; a temporary one unless given")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "scale.json")
    parser.add_argument("--manifest", nargs=3, help=argparse.SUPPRESS)  # the last step, called by this script
    options = parser.parse_args(arguments)
    if options.manifest:
        draw_manifest(*map(Path, options.manifest), options.samples)
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="scale-"))
    data = folder / "data"
    if not data.exists():
        write_corpus(data, options.documents)
    size = sum(path.stat().st_size for path in data.iterdir())
    steps = run_steps(folder, options.samples)
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "documents": options.documents,
        "corpus_megabytes": round(size / 1e6),
        "samples": options.samples,
        "steps": [asdict(step) for step in steps],
        "peak_mib": max(step.peak_mib for step in steps),
        "wall_s": round(sum(step.wall_s for step in steps), 1),
        **describe_result(folder),
    }
    print_table(result)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not options.folder:
        shutil.rmtree(folder)


def run_steps(folder: Path, n_samples: int) -> list[Step]:
    """Prepare, measure the state, fit and choose, draw."""
    pools = folder / "outputs" / "pools"
    pool = [*POOL, f"pool.path={folder / 'data'}", f"outputs={folder / 'outputs'}"]

    def find_stage() -> str:
        done = {path.parent.name for path in pools.glob("*/*/stage.json")}
        return next((name for name in STAGES if name not in done), "last")

    walls = watch([sys.executable, "-c", COMMAND, "pool", "prepare", *pool], find_stage)
    steps = [Step(TITLES[name], *walls[name]) for name in (*STAGES, "last") if name in walls]
    (store,) = (path.parent for path in pools.glob("*/pool.json"))
    state = folder / "state.json"
    command = [sys.executable, "-c", COMMAND, "pool", "state", str(state), *pool]
    steps.append(Step("state of the whole pool", *watch(command)["all"]))
    command = [sys.executable, "-c", COMMAND, "pool", "describe", *pool, "--html", str(folder / "pool.html")]
    steps.append(Step("describe: tables and pictures", *watch(command)["all"]))
    write_runs(folder / "runs.csv", json.loads(state.read_text(encoding="utf-8")))
    command = [sys.executable, "-m", "analysis", f"runs={folder / 'runs.csv'}", "estimator=linear_dml"]
    command += [f"target.state_file={state}", f"target.n_samples={n_samples}", f"output_dir={folder / 'analysis'}"]
    steps.append(Step(f"fit {RUNS} runs, write mixture.json", *watch(command)["all"]))
    command = [sys.executable, str(Path(__file__).resolve()), "--samples", str(n_samples)]
    command += ["--manifest", str(store), str(folder / "analysis" / "mixture.json"), str(folder / "manifest.parquet")]
    steps.append(Step(f"manifest of {n_samples:,} documents", *watch(command)["all"]))
    return steps


def watch(command: list[str], find_stage: Callable[[], str] = lambda: "all") -> dict[str, tuple[float, float]]:
    """Run a command; return wall seconds and peak MiB of each stage that it passes through."""
    import psutil

    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    found: dict[str, list[float]] = {}
    last = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.25)
            used = 0
            with_children = [psutil.Process(process.pid)] if psutil.pid_exists(process.pid) else []
            for parent in with_children:
                for one in [parent, *_children(parent)]:
                    used += _read_pss(one.pid)
            now = time.perf_counter()
            stage = found.setdefault(find_stage(), [0.0, 0.0])
            stage[0] += now - last
            stage[1] = max(stage[1], used / 2**20)
            last = now
        if process.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{log.read().decode()[-4000:]}")
    return {name: (round(wall, 1), round(peak)) for name, (wall, peak) in found.items()}


def _children(process: Any) -> list[Any]:
    import psutil

    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _read_pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:  # it ended just now
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def write_runs(path: Path, target: dict[str, Any]) -> None:
    """Write a simulated runs table with states around the target's: what a domain's share is worth follows them."""
    import pandas as pd

    rng = np.random.default_rng(0)
    domains = list(target["available"])
    mixtures = 0.02 + (1 - 0.02 * len(domains)) * rng.dirichlet(np.full(len(domains), 2.0), size=RUNS)
    states = {name: value + 0.3 * rng.standard_normal(RUNS) for name, value in target["state"].items()}
    effects = np.stack([1.5 + states[f"hes.{domain}"] for domain in domains], axis=1)
    outcome = 40 + (effects * np.log(mixtures)).sum(axis=1) + 0.5 * rng.standard_normal(RUNS)
    columns = {
        "run_id": [f"run{at:04d}" for at in range(RUNS)],
        **{f"mixture.{domain}": mixtures[:, at] for at, domain in enumerate(domains)},
        **{f"state.{name}": values for name, values in states.items()},
        "outcome.avg_dev": outcome,
        "train.n_samples": [1000] * RUNS,
        "pool.fingerprint": [f"{at:016x}" for at in range(RUNS)],
        "status": ["complete"] * RUNS,
    }
    pd.DataFrame(columns).to_csv(path, index=False)


def draw_manifest(store: Path, mixture: Path, output: Path, n_samples: int) -> None:
    """Draw the documents of a mixture from a store, as a run does, and write their ids in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from causalmix.config import CandidateConfig
    from causalmix.mixture.allocate import allocate
    from causalmix.pool.candidate import draw_candidates, draw_documents
    from causalmix.pool.store import open_pool

    pool = open_pool(store)
    weights = json.loads(mixture.read_text(encoding="utf-8"))["weights"]
    candidates = draw_candidates(pool, CandidateConfig(kind="all"), seed=0)
    available = {domain: int(count) for domain, count in zip(pool.domains, candidates.counts)}
    counts = allocate(weights, n_samples, available, 4.0)
    documents = draw_documents(pool, candidates, counts, 4.0, np.random.default_rng(0))
    ids = pool.ids
    pq.write_table(pa.table({"position": documents, "id": [ids[at] for at in documents.tolist()]}), output)


def describe_result(folder: Path) -> dict[str, Any]:
    """What came of it, so that a quick run that did nothing would show."""
    import pyarrow.parquet as pq

    (facts,) = (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("outputs/pools/*/pool.json"))
    mixture = json.loads((folder / "analysis" / "mixture.json").read_text(encoding="utf-8"))
    return {
        "kept_documents": facts["n_documents"],
        "tokens": facts["n_tokens"],
        "store_megabytes": round(sum(file["bytes"] for file in facts["files"].values()) / 1e6),
        "left_out": {cause: sum(counts.values()) for cause, counts in facts["left_out"].items()},
        "weights": {domain: round(share, 3) for domain, share in mixture["weights"].items()},
        "manifest_documents": pq.read_metadata(folder / "manifest.parquet").num_rows,
    }


def print_table(result: dict[str, Any]) -> None:
    """Print the steps as a table for docs/scale.md."""
    print(
        f"{result['documents']:,} documents, {result['corpus_megabytes']} MB of JSON lines, {result['cores']} cores\n"
    )
    print("| step | seconds | peak MiB |\n|---|---|---|")
    for step in result["steps"]:
        print(f"| {step['step']} | {step['wall_s']} | {step['peak_mib']:.0f} |")
    print(f"| all | {result['wall_s']} | {result['peak_mib']:.0f} |\n")
    for key in ("kept_documents", "tokens", "store_megabytes", "left_out", "weights", "manifest_documents"):
        print(f"{key}: {result[key]}")


if __name__ == "__main__":
    main()
