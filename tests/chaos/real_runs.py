"""Kill workers at random while they train real tiny models; count what was lost, doubled, corrupt, changed, done again.

python -m tests.chaos.real_runs --runs 64 --kills 200 --demo
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from causalmix.cli import compose_config
from causalmix.config import ResourcesConfig
from causalmix.run.guard import Guard
from causalmix.run.record import Record, is_complete, read_record
from causalmix.sweep.claims import Claims
from causalmix.sweep.folder import SweepFolder, open_sweep, read_points, write_points
from causalmix.sweep.jobs import Submission, read_submission
from causalmix.sweep.packed import Shift
from causalmix.sweep.place import Place
from causalmix.sweep.points import Inputs, plan_runs
from causalmix.sweep.submit import list_entries
from tests.chaos.counts import Counts, count_record
from tests.tiny import compose_tiny

NAME = "hunted-a"
N_WORKERS = 2
LEASE_S = 2.0
EVERY = 20  # steps between checkpoints
OFTEN = [f"train.checkpoint_every={EVERY}", "train.log_every=1000"]
TINY_RUN = ["train.n_samples=200", *OFTEN]
DEMO_RUN = ["experiment=demo", "job=run", "tracker=disabled", *OFTEN]
LIFE = 1.0  # of a worker at most, in the time that a run takes in peace on this machine
LIMIT_S = 1500.0
OWN_TIMES = ("started_at", "wall_s", "device_s", "git_sha", "sweep_id")


@dataclass
class RealCounts(Counts):
    """And of results; both must be zero too: ``changed``, and runs that did again more than one interval a death."""

    changed: int = 0
    steps: int = 0
    steps_redone: int = 0
    redone_too_much: int = 0


class CountedShift(Shift):
    """A shift that leaves a byte for every optimiser step it does."""

    def execute(self, run_id: str, guard: Guard) -> Record:
        folder = self.folder.path / "steps"
        folder.mkdir(exist_ok=True)
        steps = os.open(folder / run_id, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def asked() -> bool:  # after every step but the last
            os.write(steps, b".")
            return guard.should_stop()

        try:
            return super().execute(run_id, replace(guard, should_stop=asked))
        finally:
            os.close(steps)


def make_sweep(outputs: Path, sweep: Path, given: argparse.Namespace) -> list[str]:
    """Write what a launch of real runs leaves for its workers."""
    inputs = Inputs(outputs)
    if given.demo:
        plain = compose_config([*DEMO_RUN, f"outputs={outputs}"])
    else:
        plain = compose_tiny(outputs, *TINY_RUN, f"train.n_epochs={given.epochs}")
    runs = plan_runs([{**plain, "seed": seed} for seed in range(given.runs)], inputs)
    folder = open_sweep(outputs, str(sweep), runs, [])
    table = write_points(folder, list_entries(runs, inputs))
    resources = ResourcesConfig(name="r", lease_s=LEASE_S, max_deaths=10**6)
    arrays = [{"name": f"{NAME}-0", "n_tasks": N_WORKERS, "job_id": "100"}]
    Submission(NAME, table.name, given.runs, arrays, asdict(resources), folder.sweep_id).write(sweep)
    return [run.run_id for run in runs]


def start(sweep: Path, task: int, is_remote: bool) -> int:
    """Fork a worker; torch is imported in here already, so that a life is spent on work."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            submission = read_submission(sweep / "jobs" / f"{NAME}.json")
            entries = read_points(sweep / "points" / submission.points)
            shift = CountedShift(
                SweepFolder(sweep, submission.sweep_id), submission, entries, Place(f"100_{task}", task)
            )
            if is_remote:  # its death can be told by silence alone
                shift.claims.process = {**shift.claims.process, "host": f"elsewhere{os.getpid()}"}
            status = shift.work()
        finally:
            os._exit(status)
    return pid


def hunt(sweep: Path, run_ids: list[str], n_kills: int, rng: random.Random, life_s: float = LIMIT_S) -> int:
    """Work on a sweep until it is complete, under up to ``n_kills`` kills; return how many there were."""
    kills, begun = 0, time.monotonic()
    workers: dict[int, tuple[int, float]] = {}
    left = set(run_ids)
    while time.monotonic() - begun < LIMIT_S:
        if len(workers) < N_WORKERS:  # one has ended
            left = {run_id for run_id in left if not is_complete(sweep / "runs" / run_id)}
        is_done = not left
        if is_done and not workers:
            return kills
        for task in range(N_WORKERS):
            if task not in workers and not is_done:
                left_s = rng.uniform(0.0, life_s) if kills < n_kills else LIMIT_S
                workers[task] = (start(sweep, task, is_remote=rng.random() < 0.2), time.monotonic() + left_s)
        time.sleep(0.01)
        for task, (pid, dies_at) in list(workers.items()):
            if time.monotonic() > dies_at and kills < n_kills:
                if not os.waitpid(pid, os.WNOHANG)[0]:  # alive: a kill of the dead is none
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    kills += 1
                del workers[task]
            elif os.waitpid(pid, os.WNOHANG)[0]:
                del workers[task]
    for pid, _ in workers.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return kills


def keep_results(record: Record) -> dict[str, Any]:
    """Keep what settings alone decide."""
    return {name: value for name, value in record.row.items() if name not in OWN_TIMES}


def judge(sweep: Path, quiet: Path, run_ids: list[str], counts: RealCounts) -> None:
    """Compare a hunted sweep with one that nobody disturbed."""
    for run_id in run_ids:
        record = count_record(sweep, run_id, counts)
        if record is None:
            continue
        reference = read_record(quiet / "runs" / run_id)
        counts.changed += reference is None or keep_results(record) != keep_results(reference)
        n_steps = int(record.row["train.n_steps"])
        redone = (sweep / "steps" / run_id).stat().st_size - (n_steps - 1)
        counts.steps += n_steps
        counts.steps_redone += redone
        n_deaths = len(Claims(sweep / "claims").history(run_id)) - 1
        counts.redone_too_much += redone > EVERY * n_deaths


def chase(given: argparse.Namespace, say: Callable[[str], None] = print) -> RealCounts:
    """Do a sweep in peace and the same one under fire."""
    import torch

    import causalmix.run.proxy
    import causalmix.train.loop  # noqa: F401  (both before the first fork)

    torch.set_num_threads(1)
    counts = RealCounts()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outputs = given.outputs or folder / "outputs"
        run_ids = make_sweep(outputs, folder / "quiet", given)
        begun = time.monotonic()
        hunt(folder / "quiet", run_ids, 0, random.Random(given.seed))
        peace_s = time.monotonic() - begun
        say(f"in peace: {peace_s:.1f} s")
        life_s = LIFE * peace_s * N_WORKERS / given.runs
        begun = time.monotonic()
        make_sweep(outputs, folder / "hunted", given)
        counts.kills = hunt(folder / "hunted", run_ids, given.kills, random.Random(given.seed), life_s)
        say(f"under fire: {time.monotonic() - begun:.1f} s")
        judge(folder / "hunted", folder / "quiet", run_ids, counts)
    return counts


def main() -> int:
    """Print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=24, help="of a run: 18 steps each")
    parser.add_argument("--demo", action="store_true", help="the demo's proxies at their own settings, not tiny ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--outputs", type=Path, help="where the pool lies, if anywhere")
    given = parser.parse_args()
    counts = chase(given)
    print(json.dumps(asdict(counts)))
    bad = counts.lost + counts.twice + counts.corrupt + counts.changed + counts.redone_too_much
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
