"""Kill packed workers at random, thousands of times, and count what was lost, done twice or left corrupt.

python -m tests.chaos.kills 10000
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
from dataclasses import asdict, dataclass
from pathlib import Path

from causalmix.run.record import is_complete
from tests.chaos.counts import Counts, count_record
from tests.sweep.stub_shift import make_submission, open_shift

N_RUNS = 64
N_WORKERS = 4
LEASE_S = 0.15
LIVES_S = (0.12, 0.12, 0.12, 0.6)  # a worker lives at most; a run takes .03 s, and a dead one's lease must run out
SWEEP_LIMIT_S = 300.0


@dataclass
class Prey:
    """A worker, and when it dies."""

    pid: int
    dies_at: float


def start(sweep: Path, task: int, rng: random.Random) -> Prey:
    """Fork a worker; every other one seems to be of another machine, so that its lease must run out."""
    life_s = rng.uniform(0.0, rng.choice(LIVES_S))
    is_remote = rng.random() < 0.5
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
            shift = open_shift(sweep, task=task)
            shift.lease_s = shift.claims.lease_s = LEASE_S
            if is_remote:
                shift.claims.process = {**shift.claims.process, "host": f"elsewhere{os.getpid()}"}
            status = shift.work()
        finally:
            os._exit(status)
    return Prey(pid, time.monotonic() + life_s)


def hunt(sweep: Path, n_kills: int, rng: random.Random, counts: Counts) -> None:
    """Do one sweep under fire: up to ``n_kills`` kills, then peace until it is done."""
    names = [f"run{at}" for at in range(N_RUNS)]
    make_submission(sweep, names, max_deaths=10**6)
    ends_at = counts.kills + n_kills
    begun = time.monotonic()
    workers = {task: start(sweep, task % 3, rng) for task in range(N_WORKERS)}
    while workers and time.monotonic() - begun < SWEEP_LIMIT_S:
        time.sleep(0.002)
        for task, prey in list(workers.items()):
            has_ended = bool(os.waitpid(prey.pid, os.WNOHANG)[0])
            if not has_ended and time.monotonic() > prey.dies_at and counts.kills < ends_at:
                os.kill(prey.pid, signal.SIGKILL)
                os.waitpid(prey.pid, 0)  # it is dead before it can be counted again
                counts.kills += 1
                has_ended = True
            if has_ended:
                del workers[task]
                if counts.kills < ends_at or not all(is_complete(sweep / "runs" / name) for name in names):
                    workers[task] = start(sweep, task % 3, rng)
                if all(is_complete(sweep / "runs" / name) for name in names):
                    ends_at = counts.kills
    for prey in workers.values():
        os.kill(prey.pid, signal.SIGKILL)
        os.waitpid(prey.pid, 0)
    for name in names:
        count_record(sweep, name, counts)


def main() -> int:
    """Hunt until enough were killed; print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    counts = Counts()
    n_sweeps, begun = 0, time.monotonic()
    while counts.kills < given.kills:
        n_sweeps += 1
        with tempfile.TemporaryDirectory() as folder:
            hunt(Path(folder), given.kills - counts.kills, rng, counts)
    print(json.dumps({"sweeps": n_sweeps, **asdict(counts), "wall_s": round(time.monotonic() - begun, 1)}))
    return int(bool(counts.lost or counts.twice or counts.corrupt))


if __name__ == "__main__":
    sys.exit(main())
