"""What does it cost to plan and submit a sweep? Ours against the stock Hydra launcher, on the same command line.

Ours: `launch.py -m 'seed=range(N)' cluster=slurm`, from the command to its return, Hydra's own start included, and the
part from the parsed command to the last sbatch alone. The peer: `hydra/sweeper=basic hydra/launcher=submitit_slurm` on
the same launch.py, until it calls sbatch (it then waits for its jobs; it is ended there). The aim: 512 runs in one
second and one megabyte, and a cost that grows linearly to 10,000 runs.

SLURM's commands are stood in for by scripts that answer at once, so that what is measured is ours; `--real` takes those
on PATH instead (jobs are held, then cancelled; the stock launcher is left out).

    python benchmarks/submit.py [--real] [--no-peer] [--repeats N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
SIZES = (1, 512, 2_500, 5_000, 10_000)
N_RUNS, AIM_S, AIM_BYTES = 512, 1.0, 1_000_000
PEER_LIMIT_S = 900.0
POOL = [  # small: it is prepared once, before anything is measured
    "pool.n_documents=800",
    "pool.tokenizer.vocab_size=400",
    "pool.tokenizer.n_documents=200",
    "pool.scores.n_calibration=100",
    "pool.scores.reference_lm.n_steps=3",
    "pool.scores.rater.n_pairs=40",
    "pool.scores.rater.n_steps=3",
    "model.base.n_steps=3",
    "train.n_samples=40",
]
COMMANDS = {
    "sbatch": """touch "$SUBMITTED"
case " $* " in *" --parsable "*) echo 100 ;; *) echo "Submitted batch job 100" ;; esac""",
    "sinfo": "echo 'cpu*'",
    "scontrol": "echo 'MaxArraySize = 1001'",
    "squeue": "true",
    "sacct": "true",
    "srun": "true",
}
TIMED = """
import runpy, time
from hydra.core.plugins import Plugins
make = Plugins.instantiate_sweeper
def make_timed(*given, **named):
    sweeper = make(*given, **named)
    inner = sweeper.sweep
    def sweep(arguments):
        begun = time.perf_counter()
        inner(arguments)
        print(time.perf_counter() - begun)
    sweeper.sweep = sweep
    return sweeper
Plugins.instantiate_sweeper = make_timed
runpy.run_path("launch.py", run_name="__main__")
"""


def stand_in(folder: Path) -> dict[str, str]:
    """Write SLURM's commands and return the environment that finds them."""
    commands = folder / "bin"
    commands.mkdir()
    for name, text in COMMANDS.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    return {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "SUBMITTED": str(folder / "submitted")}


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Run a command; return seconds of wall time and of CPU time (its children's too), and its stdout."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, said):
            file.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}\n{out.read()}\n{said.read()}")
        return wall_s, usage.ru_utime + usage.ru_stime, out.read()


def measure_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure_ours(
    n_runs: int, common: list[str], folder: Path, environment: dict[str, str], hold: bool
) -> dict[str, Any]:
    """Submit a sweep of ours twice into new folders: as a user does, and with a watch around the sweeper."""
    arguments = ["-m", *common, "cluster=slurm", f"seed=range({n_runs})"]
    arguments += ["cluster.options={hold: true}"] if hold else []
    row: dict[str, Any] = {"n_runs": n_runs}
    for name, program in {"whole": ["launch.py"], "inner": ["-c", TIMED]}.items():
        sweep = folder / f"{name}-{time.monotonic_ns()}"
        command = [sys.executable, *program, *arguments, f"sweep_dir={sweep}"]
        wall_s, cpu_s, said = run(command, environment)
        if name == "whole":
            row |= {"wall_s": wall_s, "cpu_s": cpu_s, "bytes": measure_size(sweep)}
        else:
            row |= {"sweeper_s": float(said.split()[-1])}
        if hold:
            run([sys.executable, "-m", "causalmix.cli", "cancel", str(sweep)], environment)
        shutil.rmtree(sweep)
    return row


def measure_peer(n_runs: int, common: list[str], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Measure the stock launcher up to its call of sbatch, and the bytes it wrote."""
    sweep, submitted = folder / "stock", Path(environment["SUBMITTED"])
    submitted.unlink(missing_ok=True)
    stock = ["hydra/sweeper=basic", "hydra/launcher=submitit_slurm", f"hydra.sweep.dir={sweep}"]
    command = [sys.executable, "launch.py", "-m", *common, *stock, f"seed=range({n_runs})"]
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not submitted.exists() and process.poll() is None and time.perf_counter() - begun < PEER_LIMIT_S:
        time.sleep(0.01)
    wall_s = time.perf_counter() - begun
    process.kill()
    _, _, usage = os.wait4(process.pid, 0)
    if not submitted.exists():
        raise SystemExit("the stock launcher ended without a call of sbatch")
    return {
        "n_runs": n_runs,
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "bytes": measure_size(sweep),
    }


def main() -> None:
    """Print a line a size, then the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="the SLURM on PATH")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--repeats", type=int, default=5, help="of the 512 runs; medians are printed")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **paths, **({} if given.real else stand_in(folder))}
        common = [*POOL, f"outputs={folder / 'outputs'}", "tracker=disabled"]
        # once for the pool and the base model, and so that every file was read before
        run([sys.executable, "launch.py", "-m", *common, "cluster=local", "seed=0"], environment)
        todo = [size for size in SIZES for _ in range(given.repeats if size == N_RUNS else 1)]
        bar = tqdm(todo, desc="submissions", disable=None)
        rows = [measure_ours(size, common, folder, environment, given.real) for size in bar]
        ours = []
        for size in SIZES:
            same = [row for row in rows if row["n_runs"] == size]
            row = {key: statistics.median(row[key] for row in same) for key in same[0]} | {"repeats": len(same)}
            ours.append(row | {"least_s": min(row["wall_s"] for row in same)})
        peer = None if given.real or given.no_peer else measure_peer(N_RUNS, common, folder, environment)
    report(ours, peer, given.json, "real" if given.real else "stood in for")


def report(ours: list[dict[str, Any]], peer: dict[str, Any] | None, path: Path | None, site: str) -> None:
    """Print the tables and the verdict; write them as JSON."""
    print(f"SLURM's commands: {site}")
    print(f"{'runs':>7} {'whole, s':>9} {'least':>6} {'CPU, s':>8} {'sweeper, s':>11} {'MB':>8}")
    for row in ours:
        print(
            f"{row['n_runs']:7.0f} {row['wall_s']:9.2f} {row['least_s']:6.2f} {row['cpu_s']:8.2f} "
            f"{row['sweeper_s']:11.2f} {row['bytes'] / 1e6:8.3f}"
        )
    at = next(row for row in ours if row["n_runs"] == N_RUNS)
    first, last = (row["sweeper_s"] / row["n_runs"] * 1000 for row in (ours[2], ours[-1]))
    print(
        f"ms a run in the sweeper: {first:.2f} at {ours[2]['n_runs']:.0f} runs, {last:.2f} at {ours[-1]['n_runs']:.0f}"
    )
    verdict = {
        "whole_within_aim": at["least_s"] <= AIM_S,  # what else the machine does is not our cost
        "sweeper_within_aim": at["sweeper_s"] <= AIM_S,
        "bytes_within_aim": at["bytes"] <= AIM_BYTES,
    }
    for what, holds in verdict.items():
        print(f"{what}: {'yes' if holds else 'no'}")
    if peer:
        print(
            f"stock launcher, {peer['n_runs']} runs: {peer['wall_s']:.1f} s, {peer['cpu_s']:.1f} s of CPU, "
            f"{peer['bytes'] / 1e6:.1f} MB: {peer['wall_s'] / at['wall_s']:.0f} times the time, "
            f"{peer['bytes'] / at['bytes']:.0f} times the bytes"
        )
    if path:
        facts = {"site": site, "aim_s": AIM_S, "aim_bytes": AIM_BYTES, "ours": ours, "stock": peer, **verdict}
        path.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
