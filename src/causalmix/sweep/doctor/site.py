"""What SLURM says of a site: its commands, partitions, limits, accounts, and whether it would take our script."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from causalmix.config import ClusterConfig, ResourcesConfig
from causalmix.errors import CausalMixError, name_some, nearest_name
from causalmix.sweep import slurm
from causalmix.sweep.doctor.finding import Finding, Question
from causalmix.sweep.script import Shape, render_script

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sinfo", "srun")

REACHED = Question("slurm", "sweeps are submitted, watched and cancelled through its commands")
PARTITION = Question("partition", "jobs of a partition that does not exist, or is down, never start")
TIME = Question("time limit", "a task that asks for more than the partition allows is refused, or waits for ever")
GPUS = Question("gpus of the partition", "tasks that ask for more GPUs than a node has wait for ever")
LIMITS = Question("limits", "arrays are cut by MaxArraySize; more tasks than the queue takes are refused")
ACCOUNT = Question("account and qos", "a wrong account or qos is refused, or charged to somebody else")
TRIAL = Question("sbatch --test-only", "the controller itself judges the script that a sweep would submit")


def check_commands() -> Iterator[Finding]:
    """Look for SLURM's commands, and ask its controller."""
    missing = [name for name in COMMANDS if not shutil.which(name)]
    if missing:
        yield REACHED.fail(f"not on PATH: {', '.join(missing)}", "a login node of the cluster, or cluster=local")
        return
    try:
        version = slurm.ask("sinfo", "--version", timeout_s=15).strip()
        partitions = slurm.list_partitions()
    except CausalMixError as error:
        yield REACHED.fail(str(error), "ask again later; SLURM_CONF must name this cluster's slurm.conf")
        return
    yield REACHED.good(f"{version}, {len(partitions)} partition(s)")


def check_partition(cluster: ClusterConfig, resources: ResourcesConfig, time_min: int) -> Iterator[Finding]:
    """Check the partition that jobs would go to, its time limit and its GPUs."""
    names = slurm.list_partitions()
    wanted = cluster.partition.split(",") if cluster.partition else names[:1]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        near = nearest_name(unknown[0], names)
        yield PARTITION.fail(f"cluster.partition={unknown[0]}{near} is not here", f"one of {', '.join(names)}")
        return
    for name in wanted:
        rows = [row.split("|") for row in ask_sinfo(name)]
        up = [row for row in rows if row[0] == "up" and not re.match(r"down|drain|fail|unk", row[4])]
        states = ", ".join(sorted({f"{row[3]} {row[4]}" for row in rows}))
        if not up:
            yield PARTITION.fail(f"{name} has no node that works ({states})", f"another one of {', '.join(names)}")
            continue
        yield PARTITION.good(f"{name}: nodes {states}")
        limit_min = read_minutes(up[0][1])
        if limit_min is not None and time_min > limit_min:
            mend = "a smaller resources.runs_per_task or resources.timeout_min, or resources.time_min"
            yield TIME.fail(f"a task asks for {time_min} min, {name} allows {limit_min:.0f}", mend)
        else:
            yield TIME.good(f"a task asks for {time_min} min, {name} allows {up[0][1]}")
        if resources.gpus:
            most = max(count_gpus(row[2]) for row in up)
            said = f"resources.gpus={resources.gpus}, the nodes of {name} have {most}"
            mend = "a partition with GPUs, or fewer of them"
            yield GPUS.good(said) if most >= resources.gpus else GPUS.fail(said, mend)


def check_limits(cluster: ClusterConfig, shape: Shape) -> Iterator[Finding]:
    """Tell how a sweep would be cut, and whether the queue takes it."""
    settings = read_settings()
    most, jobs = settings.get("MaxArraySize", "?"), settings.get("MaxJobCount", "?")
    said = f"MaxArraySize {most}, MaxJobCount {jobs}; {shape.n_tasks} tasks in {len(shape.arrays)} array(s)"
    submit = find_submit_limit(cluster)
    if submit is not None:
        said += f"; you may have {submit} tasks in the queue"
        asked = cluster.max_submit or shape.n_tasks
        if min(asked, shape.n_tasks) > submit:
            yield LIMITS.fail(said, f"cluster.max_submit={submit}: fewer tasks then do more runs each")
            return
    yield LIMITS.good(said)
    if settings.get("JobRequeue") == "0":
        yield LIMITS.warn("JobRequeue=0: this site may not queue a stopped task again", "train.checkpoint_every")


def check_account(cluster: ClusterConfig) -> Iterator[Finding]:
    """Compare account and qos with what the accounting knows of the user."""
    rows = ask_associations()
    if not rows:
        yield ACCOUNT.skip("this site keeps no accounting, or it does not answer; sbatch --test-only judges below")
        return
    accounts = sorted({row[0] for row in rows})
    levels = sorted({qos for row in rows for qos in row[2].split(",") if qos})
    wrong = []
    if cluster.account and cluster.account not in accounts:
        wrong.append(f"cluster.account={cluster.account} is not one of yours: {name_some(accounts, 30)}")
    if cluster.qos and cluster.qos not in levels:
        wrong.append(f"cluster.qos={cluster.qos} is not one of yours: {name_some(levels, 30)}")
    if wrong:
        yield ACCOUNT.fail("; ".join(wrong), "one of those listed")
    else:
        yield ACCOUNT.good(f"accounts {', '.join(accounts)}; qos {', '.join(levels) or 'none'}")


def check_trial(script: Path, shape: Shape, cluster: ClusterConfig, resources: ResourcesConfig) -> Iterator[Finding]:
    """Let the controller judge the first array's script without queueing it."""
    try:
        slurm.check_site(cluster.partition, cluster.options or {})
        script.write_text(render_script("doctor", script.parent.resolve(), ["true"], shape, cluster, resources))
        said = try_script(script)
    except CausalMixError as error:
        yield TRIAL.fail(str(error), "the setting that it names")
        return
    finally:
        script.unlink(missing_ok=True)
    yield TRIAL.good(said)


def try_script(script: Path) -> str:
    """Ask sbatch whether it would take a script; it answers on stderr, also where all is well."""
    said = slurm.ask("sbatch", "--test-only", str(script), with_errors=True)
    line = next((line for line in said.splitlines() if line.strip()), "taken")
    return line.removeprefix("sbatch: ").strip()


def ask_sinfo(partition: str) -> list[str]:
    """List a partition's kinds of nodes: availability, time limit, GPUs, number, state."""
    return slurm.ask("sinfo", "--noheader", f"--partition={partition}", "--format=%a|%l|%G|%D|%T").split()


def read_settings() -> dict[str, str]:
    """Read the controller's settings."""
    lines = slurm.ask("scontrol", "show", "config").splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines) if value}


def ask_associations() -> list[list[str]]:
    """List the user's accounts: account, partition, qos, most tasks in the queue; empty without accounting."""
    if not shutil.which("sacctmgr"):
        return []
    command = ["sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={getpass.getuser()}"]
    try:
        said = slurm.ask(*command, "format=account,partition,qos,maxsubmit", timeout_s=15)
    except (CausalMixError, subprocess.SubprocessError):
        return []
    return [line.split("|") for line in said.splitlines() if line.count("|") >= 3]


def find_submit_limit(cluster: ClusterConfig) -> int | None:
    """Find how many tasks the user may have in the queue; None where nothing says so."""
    rows = [row for row in ask_associations() if not cluster.account or row[0] == cluster.account]
    limits = [int(row[3]) for row in rows if row[3].isdigit()]
    return min(limits) if limits else None


def read_minutes(text: str) -> float | None:
    """Read a time limit of sinfo (``[days-]hours:minutes:seconds``, ``infinite``) in minutes; None: no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + minutes + seconds / 60


def count_gpus(gres: str) -> int:
    """Count the GPUs of a node, as sinfo writes them: ``gpu:a100:4(S:0-1)``."""
    return sum(int(n) for n in re.findall(r"gpu(?::[^:,()]+)?:(\d+)", gres))
