"""Stop a worker at every single call that changes a file; then let another one finish.

python -m tests.chaos.stops
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from causalmix.run.record import is_complete
from causalmix.sweep.claims import Claims
from tests.chaos.shim import BROKEN, FULL, HALF, KILL, run_shimmed
from tests.sweep.stub_shift import make_submission, open_shift

LEASE_S = 0.15  # of who comes after; who is stopped beats slowly, so that every one makes the same calls
MOST_CALLS = 400  # a bound that a run is far from


def work(sweep: Path, lease_s: float, is_remote: bool = False) -> int:
    """Do the sweep's run; a remote worker's death can be told by its silence alone."""
    shift = open_shift(sweep)
    shift.lease_s = shift.claims.lease_s = lease_s
    if is_remote:
        shift.claims.process = {**shift.claims.process, "host": "elsewhere"}
    return shift.work()


def stop_worker(how: str, at: int, folder: Path) -> tuple[list[str], Counter[str]]:
    """Stop one worker at its ``at``-th call, let a second one finish, and judge what the folder holds."""
    sweep = folder / "sweep"
    make_submission(sweep, ["run0"], max_deaths=10**6)
    _, calls = run_shimmed(lambda: work(sweep, 60.0, is_remote=at % 4 == 0), at, how, folder / "calls")
    deadline = time.monotonic() + 30
    run_dir = sweep / "runs" / "run0"
    while not is_complete(run_dir) and time.monotonic() < deadline:
        with contextlib.redirect_stdout(None):
            work(sweep, LEASE_S)
    ends = [attempt["ended"] for attempt in Claims(sweep / "claims").history("run0")]
    strays = len(list((sweep / "claims" / "run0").glob("ticket-*")))  # of deaths before the claim: nobody holds them
    lost, twice = not is_complete(run_dir), ends.count("complete") > 1
    return calls, Counter(stops=1, lost=int(lost), twice=int(twice), strays=strays)


def stop_everywhere(how: str) -> Counter[str]:
    """Stop workers at every call, until one ends before its turn comes."""
    total: Counter[str] = Counter()
    for at in range(1, MOST_CALLS):
        with tempfile.TemporaryDirectory() as folder:
            calls, counts = stop_worker(how, at, Path(folder))
        if len(calls) < at:
            return total
        total += counts
        total[f"at {calls[at - 1]}"] += 1
    raise AssertionError(f"a worker makes more than {MOST_CALLS} calls")


def main() -> int:
    """Print the counts of each way to fail as JSON."""
    bad = 0
    for how in (KILL, HALF, FULL, BROKEN):
        counts = stop_everywhere(how)
        print(json.dumps({"how": how, **{key: counts[key] for key in ("stops", "lost", "twice", "strays")}, **counts}))
        bad += counts["lost"] + counts["twice"]
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
