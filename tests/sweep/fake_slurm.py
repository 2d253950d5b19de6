"""SLURM's commands without SLURM: linked under their names on PATH, state in a folder, every call written down.

``$FAKE_SLURM/behave`` may hold: ``kill-launcher`` (take the job, then kill who called sbatch), ``mute`` (take the job,
then fail as a controller under load does), ``refuse`` (``refuse: why``), ``vanish`` (jobs end at once
and do nothing).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

STATE = Path(os.environ.get("FAKE_SLURM", "."))
OPTIONS = "  -A, --account=name\n  --nice[=value]\n  -x, --exclude=nodes\n  --reservation=name\n"


def read_jobs() -> dict[str, dict[str, str]]:
    path = STATE / "jobs.json"
    return json.loads(path.read_text()) if path.exists() else {}


def find_option(arguments: list[str], name: str) -> str:
    return next((a.split("=", 1)[1] for a in arguments if a.startswith(f"--{name}=")), "")


def sbatch(arguments: list[str]) -> int:
    if "--help" in arguments:
        print(OPTIONS)
        return 0
    behave = STATE / "behave"
    how = behave.read_text() if behave.exists() else ""
    if how.startswith("refuse"):
        why = how.partition(": ")[2] or "Invalid account"
        print(f"sbatch: error: Batch job submission failed: {why}", file=sys.stderr)
        return 1
    if "--test-only" in arguments:
        print("sbatch: Job 1 to start at 2030-01-01T00:00:00 using 1 processors on nodes n1", file=sys.stderr)
        return 0
    jobs = read_jobs()
    job_id = str(100 + len(jobs))
    first, last = find_option(arguments, "array").split("%")[0].split("-")
    jobs[job_id] = {"name": find_option(arguments, "job-name"), "n": str(int(last) - int(first) + 1)}
    (STATE / "jobs.json").write_text(json.dumps(jobs))
    (STATE / f"script-{job_id}").write_text(Path(arguments[-1]).read_text())
    (STATE / f"environment-{job_id}").write_text(json.dumps(dict(os.environ)))
    if how == "kill-launcher":
        behave.unlink()
        os.kill(os.getppid(), signal.SIGKILL)
    if how == "mute":
        print("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", file=sys.stderr)
        return 1
    print(job_id)
    return 0


def squeue(arguments: list[str]) -> int:
    behave = STATE / "behave"
    if behave.exists() and behave.read_text() == "vanish":
        return 0
    names = find_option(arguments, "name").split(",")
    for job_id, job in read_jobs().items():
        if job["name"] in names:
            for at in range(int(job["n"])):
                print(f"{job_id}|{job['name']}|{job.get('state', 'PENDING')}|Priority|{at}")
    return 0


def scancel(arguments: list[str]) -> int:
    jobs = {job_id: job | {"state": "CANCELLED"} if job_id in arguments else job for job_id, job in read_jobs().items()}
    (STATE / "jobs.json").write_text(json.dumps(jobs))
    return 0


def sinfo(arguments: list[str]) -> int:
    if "--version" in arguments:
        print("slurm 22.05.8")
    elif find_option(arguments, "format") == "%P":
        print("short\nlong*\ngpu")
    elif find_option(arguments, "format") == "%f":
        print("(null)\na100,nvlink\nh100")
    else:
        print(
            {
                "short": "up|1:00:00|(null)|2|idle",
                "long": "up|2-00:00:00|(null)|30|mixed\nup|2-00:00:00|(null)|2|down*",
                "gpu": "down|infinite|gpu:a100:4(S:0-1)|1|drained",
            }[find_option(arguments, "partition")]
        )
    return 0


def sacctmgr(arguments: list[str]) -> int:
    print("lab||normal,high|100\nother|gpu|normal|")
    return 0


def sacct(arguments: list[str]) -> int:
    accounting = STATE / "accounting"
    if not accounting.exists():
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    print(accounting.read_text())
    return 0


def srun(arguments: list[str]) -> int:
    return 0


def scontrol(arguments: list[str]) -> int:
    print("MaxJobCount             = 10000\nMaxArraySize            = 4\n")
    return 0


if __name__ == "__main__":
    name = Path(sys.argv[0]).name
    with (STATE / "calls").open("a") as calls:
        calls.write(json.dumps([name, *sys.argv[1:]]) + "\n")
    sys.exit(
        {
            "sbatch": sbatch,
            "squeue": squeue,
            "scancel": scancel,
            "sinfo": sinfo,
            "scontrol": scontrol,
            "srun": srun,
            "sacct": sacct,
            "sacctmgr": sacctmgr,
        }[name](sys.argv[1:])
    )
