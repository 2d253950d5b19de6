"""Nothing that lies in a sweep's folder is unpickled, no secret gets into it, and no name in it leads out."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from causalmix.errors import SweepError
from causalmix.files import fingerprint
from causalmix.run.record import read_record
from causalmix.sweep import packed
from causalmix.sweep.claims import Claims
from causalmix.sweep.folder import SweepFolder, read_points, write_points
from causalmix.sweep.jobs import read_submission
from causalmix.sweep.logs import list_logs
from causalmix.sweep.status import read_status
from tests.sweep.submitting import submit
from tests.tiny import ROOT, TINY, make_environment

SECRETS = {
    "WANDB_API_KEY": "canary0123456789canary0123456789canary01",
    "HF_TOKEN": "hf_canary",
    "MY_PASSWORD": "pwcanary",
}


class Trap:
    """Whoever unpickles it touches a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.sprung,))


def watch(folder: Path, report: Path, *command: str, **variables: str) -> dict[str, list[str]]:
    """Run a command under the hook and return what it heard."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / "tests/sweep/watched_command.py"), str(report), str(folder), *command],
        cwd=ROOT,
        env={**make_environment(), **SECRETS, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for secret in SECRETS.values():
        assert secret not in ended.stdout + ended.stderr
    heard: dict[str, list[str]] = json.loads(report.read_text())
    return heard


@pytest.mark.slow
def test_no_command_unpickles_and_no_file_holds_a_secret(fake: Path, tiny_outputs: Path, tmp_path: Path) -> None:
    sweep, report = tmp_path / "sweep", tmp_path / "report.json"
    arguments = [*TINY, f"outputs={tiny_outputs}", "cluster=slurm", "cluster.jitter_s=0", f"sweep_dir={sweep}"]
    launch = ["launch.py", "-m", *arguments, "tracker=offline", "train.checkpoint_every=5", "seed=range(3)"]
    heard = {"launch": watch(sweep, report, *launch)}
    sprung = tmp_path / "sprung"
    for place in ("jobs", "points", "log", "."):  # pickles lie about; whoever reads one shows it
        (sweep / place / "trap.pkl").write_bytes(pickle.dumps(Trap(sprung)))
        (sweep / place / "trap.pt").write_bytes(pickle.dumps(Trap(sprung)))
    submission, points = (next((sweep / name).glob("*.json")) for name in ("jobs", "points"))
    job = {"SLURM_JOB_ID": "100", "SLURM_ARRAY_JOB_ID": "100", "SLURM_NTASKS": "8", "SBATCH_ACCOUNT": "x"}
    heard["worker"] = watch(sweep, report, "causalmix.sweep.packed", str(sweep), submission.stem, points.name, **job)
    (fake / "jobs.json").unlink()
    heard["again"] = watch(sweep, report, *launch)
    heard["status"] = watch(sweep, report, "causalmix.cli", "status", str(sweep), "--json")
    heard["table"] = watch(sweep, report, "causalmix.cli", "table", str(sweep), str(tmp_path / "runs.csv"))
    run_dir = next((sweep / "runs").iterdir())
    heard["logs"] = watch(sweep, report, "causalmix.cli", "logs", str(run_dir))
    assert {name: said["unpickled"] for name, said in heard.items()} == {name: [] for name in heard}
    assert all(said["opened"] for said in heard.values()), "the hook hears"
    opened = {Path(path).suffix for said in heard.values() for path in said["opened"]}
    assert not opened & {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt"}
    assert not sprung.exists()
    assert read_status(sweep).by_status == {"complete": 3}

    files = [path for folder in (sweep, fake) for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        if not path.name.startswith("environment-"):  # what the pretended job inherits
            for secret in SECRETS.values():
                assert secret.encode() not in path.read_bytes(), path
    record = read_record(run_dir)
    assert record is not None
    inherited = json.loads(next(fake.glob("environment-*")).read_text())
    assert inherited["WANDB_API_KEY"] == SECRETS["WANDB_API_KEY"]


def test_names_in_a_table_of_points_cannot_lead_out(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "s1")
    (tmp_path / "sweep.json").write_text("{}")
    table = write_points(folder, [{"run_id": "../../etc", "plain": {}}, {"run_id": "good", "plain": {}}])
    with pytest.raises(SweepError, match=r"no run ids: '\.\./\.\./etc'$"):
        read_points(table)
    with pytest.raises(SweepError, match="no run ids"):
        read_status(tmp_path)
    with pytest.raises(SweepError, match="not a run id"):
        folder.run_dir("..")


def test_a_job_does_what_was_submitted_or_nothing(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(packed, "hear_signals", lambda shift: None)
    monkeypatch.setattr(packed.Shift, "work", lambda shift: seen.append(shift.entries) or 0)
    sweep = submit(tmp_path / "sweep", 2).path
    script = next((sweep / "jobs").glob("*.sh")).read_text()
    name, table = (next((sweep / kind).glob("*.json")) for kind in ("jobs", "points"))
    assert f"{name.stem} {table.name}\n" in script
    content = json.loads(table.read_text())
    content["common"]["evaluate"]["include_path"] = "/somebody/else"  # code of task files
    forged = table.with_name(f"{fingerprint(content, 32)}.json")
    forged.write_text(json.dumps(content))
    replace(read_submission(name), points=forged.name).write(sweep)  # who can write there can seal it as well
    monkeypatch.setattr(sys, "argv", ["packed", str(sweep), name.stem, table.name])
    assert packed.main() == 0
    assert [entry["plain"]["evaluate"]["include_path"] for entry in seen.pop().values()] == [None, None]
    table.write_text(forged.read_text())
    assert packed.main() == 2
    assert not seen
    assert f"{table.name} is not what was written" in capsys.readouterr().out


def test_names_in_a_claim_cannot_lead_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("kept")
    sweep = tmp_path / "sweep"
    claims = Claims(sweep / "claims", {"job": "../../outside"}, process={"host": "h", "space": "s", "pid": 1})
    claim = claims.take("run0")
    assert claim is not None
    assert list_logs(sweep / "runs" / "run0") == []
    path = sweep / "claims" / "run0" / "1.json"
    path.write_text(path.read_text().replace(claim.ticket.name, "../../../outside.txt"))
    claim.ticket.unlink()
    taken = Claims(sweep / "claims").take("run0")
    assert taken is not None
    assert outside.read_text() == "kept", "no ticket outside of its folder is removed"


def test_variables_of_another_job_do_not_reach_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from causalmix.sweep.slurm import clean_environment

    given = {"SLURM_JOB_ID": "1", "SBATCH_QOS": "x", "SRUN_CPUS": "1", "PMIX_RANK": "0", "SALLOC_X": "", "PATH": "/"}
    assert clean_environment({**given, "SLURM_CONF": "/etc/slurm.conf"}) == {
        "PATH": "/",
        "SLURM_CONF": "/etc/slurm.conf",
    }
    assert os.environ.get("SLURM_JOB_ID") is None
