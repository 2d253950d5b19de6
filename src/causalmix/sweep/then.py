"""What follows a sweep: the analysis, once enough of its runs are complete, and else a word about what is missing.

``<sweep>/then/<name>.json`` says what to do. On a cluster one job does it (``afterany`` of every array of the sweep),
on this machine the launcher. ``<sweep>/analysis/then.json`` says what came of it.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from causalmix.config import ClusterConfig, Config, ResourcesConfig, ThenConfig
from causalmix.errors import CausalMixError, ConfigError, RecordError, SweepError, name_some
from causalmix.files import break_seal, fingerprint, read_json, read_sealed, write_sealed, write_text
from causalmix.run.record import is_complete
from causalmix.sweep import slurm
from causalmix.sweep.failures import count_causes
from causalmix.sweep.folder import SweepFolder
from causalmix.sweep.script import Shape, render_script
from causalmix.sweep.status import read_status, say

FORMAT = 1
RESULT = "analysis/then.json"


@dataclass
class Followup:
    """An analysis that was asked for.

    Attributes
    ----------
    run_ids : list of str
        Runs that it is about.
    overrides : list of str
        Of ``python -m analysis``.
    min_share : float
        Complete runs over all that it needs.
    job_id : str or None
        None on this machine, or where the launcher died before it could save it.
    """

    name: str
    run_ids: list[str]
    overrides: list[str]
    min_share: float
    job_id: str | None = None
    format: int = field(default=FORMAT)

    def write(self, sweep: Path) -> None:
        """Save, atomically."""
        write_sealed(sweep / "then" / f"{self.name}.json", asdict(self))

    @property
    def digest(self) -> str:
        """Of what shall be done: the script holds it, so that a job does what was submitted or nothing."""
        return fingerprint([self.run_ids, self.overrides, self.min_share], length=32)


def read_followup(path: Path) -> Followup:
    """Read a follow-up back.

    Raises
    ------
    RecordError
        Where it is damaged, or comes from another version.
    """
    return Followup(**read_sealed(path, FORMAT))


def check_then(then: ThenConfig) -> None:
    """Let the analysis read its settings now, not after five hundred runs.

    Raises
    ------
    ConfigError
        With what it says about them.
    """
    if then.analysis is None:
        return
    command = [*make_command(Path("SWEEP"), list_overrides(then)), "--cfg", "job"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = ended.stderr.strip().removeprefix("error: ")
        raise ConfigError(f"then.analysis={then.analysis} is not what `python -m analysis` takes: {said}")


def list_overrides(then: ThenConfig) -> list[str]:
    """Write ``then.analysis`` as a command line.

    Raises
    ------
    ConfigError
    """
    if not isinstance(then.analysis, dict):
        raise ConfigError(f"then.analysis={then.analysis!r}: a mapping, as 'then.analysis={{policy: causalmix_s}}'")
    return [f"{key}={write_value(value)}" for key, value in then.analysis.items()]


def write_value(value: Any) -> str:
    """Write a value as Hydra reads it on a command line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {write_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(write_value, value)) + "]"
    if isinstance(value, str):
        is_plain = re.fullmatch(r"[A-Za-z][\w./-]*", value)
        return value if is_plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)


def make_command(sweep: Path, overrides: list[str]) -> list[str]:
    """Return the command of the analysis; what the user writes comes last and wins."""
    return [sys.executable, "-m", "analysis", f"runs={sweep}", f"output_dir={sweep / 'analysis'}", *overrides]


def make_followup(folder: SweepFolder, run_ids: list[str], then: ThenConfig) -> Followup:
    """Write down what shall follow."""
    name = f"{folder.sweep_id}-{uuid.uuid4().hex[:8]}-then"
    followup = Followup(name, run_ids, list_overrides(then), then.min_share)
    followup.write(folder.path)
    return followup


def submit_followup(folder: SweepFolder, run_ids: list[str], config: Config, array_ids: list[str]) -> None:
    """Submit the analysis behind all arrays that are still active; an earlier one that waits gives way to it."""
    sweep = folder.path.resolve()
    if is_answered(sweep, list_overrides(config.then), run_ids):
        say(f"the analysis of these runs is there: {sweep / RESULT}")
        return
    cancel_followups(sweep)
    followup = make_followup(folder, run_ids, config.then)
    script = sweep / "then" / f"{followup.name}.sh"
    command = [sys.executable, "-m", "causalmix.sweep.then", str(sweep), followup.name, followup.digest]
    cluster, resources = fit_resources(config.cluster, config.then)
    shape = Shape(1, 1, config.then.time_min, (1,))
    write_text(script, render_script(followup.name, sweep, command, shape, cluster, resources))
    (sweep / "log").mkdir(exist_ok=True)
    followup.job_id = slurm.submit(script, followup.name, "0-0", {}, after=array_ids)
    followup.write(sweep)
    say(f"the analysis follows as job {followup.job_id}, when {config.then.min_share:.0%} of the runs are complete")


def fit_resources(cluster: ClusterConfig, then: ThenConfig) -> tuple[ClusterConfig, ResourcesConfig]:
    """Take the sweep's place in the cluster, with what an analysis needs: no GPU, no checkpoint before its end."""
    resources = ResourcesConfig(
        name="then", threads_per_worker=then.cpus, cpus=then.cpus, memory_gb=then.memory_gb, time_min=then.time_min
    )
    return replace(cluster, grace_s=0, max_running=None), resources


def describe_followup(sweep: Path, can_ask: bool) -> str | None:
    """Say what became of the newest analysis that was to follow; ``can_ask``: the queue answers."""
    followups = sorted((sweep / "then").glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not followups:
        return None
    followup, result = read_followup(followups[-1]), sweep / RESULT
    if result.exists() and result.stat().st_mtime >= followups[-1].stat().st_mtime:
        done = read_result(result)
        return f"written to {sweep / 'analysis'}" if done["written"] else str(done["said"])
    if not followup.job_id:
        return "not begun"
    try:
        is_gone = can_ask and not slurm.list_tasks([followup.name], slurm.PATIENCE_S)
    except SweepError:
        is_gone = False  # nobody knows
    if not is_gone:
        return f"follows as job {followup.job_id}"
    return (
        f"its job {followup.job_id} was cancelled, or ended without a word (log/*-{followup.job_id}_0.txt); the launch "
        f"command typed again submits it again"
    )


def read_result(path: Path) -> dict[str, Any]:
    """Read what came of an analysis.

    Raises
    ------
    RecordError
    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"written", "said", "inputs"} <= set(content):
        raise RecordError(f"{path} says nothing of an analysis; delete it and run the same command again")
    return break_seal(path, content)


def list_followups(sweep: Path) -> list[Followup]:
    """List the analyses that were asked for."""
    return [read_followup(path) for path in sorted((sweep / "then").glob("*.json"))]


def cancel_followups(sweep: Path) -> int:
    """Cancel analyses that wait or run; found by name, also where an id was lost."""
    tasks = slurm.list_tasks(followup.name for followup in list_followups(sweep))
    if tasks:
        slurm.ask("scancel", *sorted({task.job_id for task in tasks}))
    return len(tasks)


def is_answered(sweep: Path, overrides: list[str], run_ids: list[str]) -> bool:
    """Tell whether the same analysis of the same complete runs was written already."""
    path = sweep / RESULT
    if not path.exists():
        return False
    done = read_result(path)
    return bool(done["written"]) and done["inputs"] == describe_inputs(sweep, overrides, run_ids)


def describe_inputs(sweep: Path, overrides: list[str], run_ids: list[str]) -> str:
    """Hash what an analysis is made of: its settings and the complete runs."""
    folder = SweepFolder(sweep, "")
    return fingerprint([overrides, sorted(run_id for run_id in run_ids if is_complete(folder.run_dir(run_id)))])


def follow_up(sweep: Path, followup: Followup) -> int:
    """Analyse where the data suffices, else say what is missing; return an exit status."""
    folder = SweepFolder(sweep, "")
    missing = [run_id for run_id in followup.run_ids if not is_complete(folder.run_dir(run_id))]
    n_runs = len(followup.run_ids)
    needed = math.ceil(followup.min_share * n_runs)
    inputs = describe_inputs(sweep, followup.overrides, followup.run_ids)
    result: dict[str, Any] = {"inputs": inputs, "written": False, "n_runs": n_runs, "missing": missing}
    if n_runs - len(missing) < needed:
        result["said"] = describe_missing(sweep, missing, n_runs, needed)
        status = 2
    else:
        ended = subprocess.run(make_command(sweep, followup.overrides), stderr=subprocess.PIPE, text=True, check=False)
        sys.stderr.write(ended.stderr)
        status = ended.returncode
        result |= {"written": status == 0, "said": ended.stderr.strip()[-2000:] if status else "written"}
    write_sealed(sweep / RESULT, result)
    if status:
        say(f"no analysis of {sweep}: {result['said']}")
    return status


def describe_missing(sweep: Path, missing: list[str], n_runs: int, needed: int) -> str:
    """Say which runs an analysis waits for, and why they are not there."""
    lines = [
        f"{n_runs - len(missing)} of {n_runs} runs are complete, {needed} are needed (then.min_share). "
        f"Missing: {name_some(missing)}."
    ]
    status = read_status(sweep)
    causes = (status.failed.get(run_id, "no record: not tried, or its task ended without a word") for run_id in missing)
    lines += [f"  {n} x {cause}" for cause, n in count_causes(causes).items()]
    lines.append("The launch command typed again submits what is missing, and the analysis behind it.")
    return "\n".join(lines)


def main() -> int:
    """Follow up as ``<sweep>/then/<name>.json`` says, unless it was changed since its job was submitted."""
    sweep, name, submitted = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    path = sweep / "then" / f"{name}.json"
    try:
        followup = read_followup(path)
        if followup.digest != submitted:
            raise SweepError(f"{path} is not what was submitted: it was changed. Launch again, with then.analysis")
        return follow_up(sweep, followup)
    except CausalMixError as error:
        say(f"error: {error}")
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
