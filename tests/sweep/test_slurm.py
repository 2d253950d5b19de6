"""Submitting to a fake SLURM: the script as it stands, arrays split, ids lost and found, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from causalmix.errors import OtherVersionError, RecordError, SweepError
from causalmix.run.record import Record, write_record
from causalmix.sweep import remote, slurm
from causalmix.sweep.claims import Claims
from causalmix.sweep.folder import SweepFolder
from causalmix.sweep.heart import Heart
from causalmix.sweep.jobs import Submission, cancel_sweep, find_queued, list_submissions, read_submission
from causalmix.sweep.plan import make_plan
from causalmix.sweep.points import Inputs
from causalmix.sweep.status import read_status
from causalmix.sweep.submit import refuse_active_jobs, run_sweep, takes_slurm
from tests.sweep.submitting import list_runs, make_config, submit
from tests.tiny import ROOT, make_environment


def list_calls(fake: Path, name: str) -> list[list[str]]:
    calls = [json.loads(line) for line in (fake / "calls").read_text().splitlines()]
    return [call[1:] for call in calls if call[0] == name and "--help" not in call]


# --- submitting ------------------------------------------------------------------------------------------


def test_runs_are_submitted_once(fake: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    submit(sweep, 45, cluster={"partition": "gpu", "max_running": 3})
    arrays = [next(a for a in call if a.startswith("--array")) for call in list_calls(fake, "sbatch")]
    assert arrays == ["--array=0-3%3", "--array=0-1%3"]  # 45 runs, 8 a task, MaxArraySize 4
    submission = list_submissions(sweep)[0]
    assert [array["job_id"] for array in submission.arrays] == ["100", "101"]
    exported = [next(a for a in call if a.startswith("--export")) for call in list_calls(fake, "sbatch")]
    assert exported == ["--export=ALL,CAUSALMIX_FIRST_TASK=0", "--export=ALL,CAUSALMIX_FIRST_TASK=4"]
    submit(sweep, 45)
    assert len(list_calls(fake, "sbatch")) == 2, "what is in the queue is not submitted again"
    submit(sweep, 50)
    assert len(list_calls(fake, "sbatch")) == 3
    assert list_submissions(sweep)[1].n_runs == 5, "only what is new"


def test_a_limit_on_running_tasks_holds_over_arrays(fake: Path, tmp_path: Path) -> None:
    submit(tmp_path / "sweep", 10, cluster={"max_running": 2}, resources={"runs_per_task": 1})
    calls = [" ".join(call) for call in list_calls(fake, "sbatch")]
    assert ["%2" in call for call in calls] == [True] * 3
    assert ["dependency" in call for call in calls] == [False, True, True]
    assert "--dependency=afterany:100 " in calls[1]
    assert "--dependency=afterany:101 " in calls[2]


def test_complete_runs_are_not_submitted(fake: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for at in range(3):
        write_record(sweep / "runs" / f"run{at}", Record(f"run{at}", "complete", row={"outcome.avg_dev": 1.0}))
    write_record(sweep / "runs" / "run3", Record("run3", "failed", cause="a fault"))
    submit(sweep, 5)
    assert list_submissions(sweep)[0].n_runs == 2
    submit(tmp_path / "none", 0)
    assert len(list_calls(fake, "sbatch")) == 1


def test_what_failed_is_submitted_again_while_other_tasks_go_on(fake: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    submit(sweep, 5)
    name = list_submissions(sweep)[0].name
    write_record(sweep / "runs" / "run3", Record("run3", "failed", cause="a fault", provenance={"submission": name}))
    submit(sweep, 5)
    assert list_submissions(sweep)[1].n_runs == 1


def test_a_launch_killed_between_sbatch_and_saving_the_id_leaves_no_orphan(fake: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    (fake / "behave").write_text("kill-launcher")
    program = ROOT / "tests/sweep/submitting.py"
    ended = subprocess.run([sys.executable, str(program), str(sweep), "8"], env=make_environment(), check=False)
    assert ended.returncode == -9
    assert list_submissions(sweep)[0].arrays[0]["job_id"] is None
    submit(sweep, 8)  # at once: the dead launch's claim need not run out on its own machine
    assert len(list_calls(fake, "sbatch")) == 1, "its job is adopted"
    assert list_submissions(sweep)[0].arrays[0]["job_id"] == "100"
    assert cancel_sweep(sweep) == Counter({"PENDING": 1})
    assert list_calls(fake, "scancel") == [["100"]]
    assert find_queued(sweep) == (set(), [])


def test_a_launch_killed_before_sbatch_submitted_nothing(fake: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    submit(sweep, 8)
    (fake / "jobs.json").unlink()  # as if sbatch had never been reached
    path = next((sweep / "jobs").glob("*.json"))
    submission = read_submission(path)
    submission.arrays[0]["job_id"] = None
    submission.write(sweep)
    submit(sweep, 8)
    assert len(list_calls(fake, "sbatch")) == 2


def test_what_is_no_sweep_cannot_be_cancelled(fake: Path, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="is no sweep folder"):
        cancel_sweep(tmp_path / "typo")


def test_a_job_whose_answer_was_lost_is_found_by_its_name(fake: Path, tmp_path: Path) -> None:
    (fake / "behave").write_text("mute")
    submit(tmp_path / "sweep", 8)
    assert list_submissions(tmp_path / "sweep")[0].arrays[0]["job_id"] == "100"


def test_a_second_launch_is_refused_while_one_submits(fake: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    held = Claims(sweep / "claims").take("launch")
    assert held is not None
    with Heart(held, lease_s=1.0), pytest.raises(SweepError, match=r"another launch .* works on the sweep"):
        submit(sweep, 8)
    held.end("submitted")
    submit(sweep, 8)


def test_what_the_site_lacks_is_named_with_what_it_has(fake: Path, tmp_path: Path) -> None:
    with pytest.raises(SweepError) as caught:
        submit(tmp_path / "s", 8, cluster={"partition": "gpo", "options": {"nce": 1}})
    assert "cluster.partition=gpo (did you mean 'gpu'?); this site has: long, short, gpu" in str(caught.value)
    assert "cluster.options.nce (did you mean 'nice'?); sbatch takes: account, exclude, nice" in str(caught.value)
    (fake / "behave").write_text("refuse")
    with pytest.raises(SweepError, match=r"sbatch refused: .*Invalid account; `causalmix doctor` tells which"):
        submit(tmp_path / "s", 8)
    (fake / "behave").write_text("refuse: Invalid feature specification")
    with pytest.raises(SweepError, match=r"Invalid feature .*cluster\.constraint: nodes here have a100, h100, nvlink$"):
        submit(tmp_path / "s", 8)


def test_a_site_is_asked_before_a_pool_is_prepared(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inputs, "prepare_pool", lambda *given: pytest.fail("a pool was prepared"))
    plain = {**asdict(make_config(cluster={"partition": "gpo"})), "outputs": str(tmp_path / "outputs")}
    for plan in (False, True):
        with pytest.raises(SweepError, match=r"cluster\.partition=gpo \(did you mean 'gpu'\?\)"):
            run_sweep([{**plain, "plan": plan}], [])
    assert not (tmp_path / "outputs").exists()


def test_auto_takes_slurm_where_it_answers(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert takes_slurm("auto")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert not takes_slurm("auto"), "a job has resources of its own"
    assert takes_slurm("slurm")
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("PATH", "/nowhere")
    assert not takes_slurm("auto")
    with pytest.raises(SweepError, match="use cluster=local"):
        slurm.list_partitions()


def test_a_sweep_that_the_cluster_works_on_is_not_run_here(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = submit(tmp_path / "sweep", 8)
    with pytest.raises(SweepError, match=r"1 tasks on the cluster .*causalmix cancel"):
        refuse_active_jobs(folder)
    refuse_active_jobs(SweepFolder(tmp_path / "other", "s2"))
    monkeypatch.setenv("PATH", "/nowhere")
    refuse_active_jobs(folder)  # nobody shows life
    claim = Claims(folder.path / "claims").take("run1")
    assert claim is not None
    claim.beat()
    with pytest.raises(SweepError, match="1 workers elsewhere"):
        refuse_active_jobs(folder)


def test_waiting_ends_when_nobody_works_on_the_rest(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "POLL_S", 0.0)
    sweep = tmp_path / "sweep"
    folder = submit(sweep, 3)
    write_record(sweep / "runs" / "run0", Record("run0", "complete", row={"outcome.avg_dev": 1.0, "wall_s": 1.0}))
    write_record(sweep / "runs" / "run1", Record("run1", "failed", cause="a fault"))
    cancel_sweep(sweep)
    with pytest.raises(SweepError, match=r"2 of 3 runs failed") as caught:
        remote.wait_for(folder, ["run0", "run1", "run2"])
    assert "1 x a fault" in str(caught.value)
    assert "1 x its task ended without a word" in str(caught.value)
    for at in (1, 2):
        write_record(
            sweep / "runs" / f"run{at}", Record(f"run{at}", "complete", row={"outcome.avg_dev": 1.0, "wall_s": 1.0})
        )
    remote.wait_for(folder, ["run0", "run1", "run2"])


# --- what nobody may see or reach ---------------------------------------------------------------------------


def test_secrets_stay_in_the_environment_and_foreign_jobs_out_of_it(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "canary-5f2c"
    monkeypatch.setenv("WANDB_API_KEY", canary)
    monkeypatch.setenv("SBATCH_PARTITION", "long")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    submit(tmp_path / "sweep", 8)
    for path in [*(tmp_path / "sweep").rglob("*"), fake / "script-100", fake / "calls"]:
        assert not path.is_file() or canary not in path.read_text(), path
    inherited = json.loads((fake / "environment-100").read_text())
    assert inherited["WANDB_API_KEY"] == canary
    assert inherited["SLURM_CONF"] == "/etc/slurm.conf"
    assert not {"SBATCH_PARTITION", "SLURM_MEM_PER_CPU"} & set(inherited)


def test_a_submission_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    submission = Submission("s1-x", "../../points.json", 1, [], {}, "s1")
    submission.write(tmp_path)
    with pytest.raises(SweepError, match="outside of its sweep"):
        read_submission(tmp_path / "jobs" / "s1-x.json")
    (tmp_path / "jobs" / "s1-y.json").write_text('{"format": 99}')
    with pytest.raises(OtherVersionError, match="format 1"):
        read_submission(tmp_path / "jobs" / "s1-y.json")


def test_a_submission_that_was_changed_is_named(tmp_path: Path) -> None:
    Submission("s1-x", "points.json", 1, [], {}, "s1").write(tmp_path)
    path = tmp_path / "jobs" / "s1-x.json"
    for changed in (path.read_text().replace('"n_runs": 1', '"n_runs": "many"'), "[]"):
        path.write_text(changed)
        with pytest.raises(RecordError):
            list_submissions(tmp_path)


# --- plan and status -----------------------------------------------------------------------------------------


def test_a_plan_counts_and_submits_nothing(fake: Path, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "sweep", "s1")
    config = make_config(resources={"gpus": 1, "timeout_min": 30})
    said = make_plan(folder, list_runs(folder.path, 45), config, is_remote=True).render()
    assert "45 asked for, 0 complete, 45 to do" in said
    assert "6 of at most 247 min, 1 worker(s) each; arrays: 1 of 4 tasks and 1 of 2 tasks" in said
    assert "At most 22.5 GPU-hours" in said
    assert "#SBATCH --gres=gpu:1" in said
    assert not folder.path.exists()
    assert not list_calls(fake, "sbatch")
    row = {"outcome.avg_dev": 1.0, "wall_s": 360.0}
    write_record(folder.run_dir("run0"), Record("run0", "complete", row=row))
    said = make_plan(folder, list_runs(folder.path, 45), config, is_remote=True).render()
    assert "4.40 GPU-hours at 360.0 s a run (median of those complete); 0.80 h with 6 at once" in said
    assert "MB a run" in said


def test_failures_come_with_their_last_lines(fake: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    submit(sweep, 6)
    for at in range(3):
        folder = sweep / "runs" / f"run{at}"
        write_record(folder, Record(f"run{at}", "failed", cause=f"Step {at}: loss nan"))
        (folder / "log").mkdir()
        (folder / "log" / "failure.txt").write_text(f"a\nb\nc\nTrainError: run{at}\n")
    claims = Claims(sweep / "claims", {"job": "100_1"}, process={"host": "elsewhere", "space": "x", "pid": 1})
    assert claims.take("run3") is not None
    (sweep / "claims" / "run3" / "1.beat").write_text("5")
    os.utime(sweep / "claims" / "run3" / "1.beat", (0, 0))
    (sweep / "log").mkdir(exist_ok=True)
    (sweep / "log" / "s1-x-0-100_1.txt").write_text("slurmstepd: error: Detected 1 oom_kill event\n")
    (fake / "accounting").write_text("100_1|OUT_OF_MEMORY|60|gres/gpu=1")
    status = read_status(sweep)
    assert [(failure.cause, failure.n_runs) for failure in status.failures] == [
        ("Step 0: loss nan", 3),
        ("its task ended as OUT_OF_MEMORY", 1),
    ]
    assert status.failures[0].log == ["b", "c", "TrainError: run0"]
    assert status.failures[1].log == ["slurmstepd: error: Detected 1 oom_kill event"]
    said = status.render()
    assert "3 x Step 0: loss nan (causalmix logs run0)\n      | b\n" in said
    plain = json.loads(json.dumps(status.to_dict()))
    assert plain["failures"][0]["log"][-1] == "TrainError: run0"
    assert plain["failed"]["run2"] == "Step 2: loss nan"


def test_status_tells_who_works(fake: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    submit(sweep, 9)
    claims = Claims(sweep / "claims")
    for run_id in ("run0", "run1", "run2"):
        assert claims.take(run_id) is not None
    claim = claims.take("run3")
    assert claim is not None
    claim.end("preempted")
    os.utime(sweep / "claims" / "run1" / "1.json")
    (sweep / "claims" / "run1" / "1.beat").write_text("5")
    os.utime(sweep / "claims" / "run1" / "1.beat", (0, 0))
    status = read_status(sweep)
    assert status.by_status == {"running": 2, "silent": 1, "unfinished": 6}
    assert status.tasks == {"PENDING": 2}
    assert "waiting for: Priority (2)" in status.render()
    assert status.attempts == 4
    assert len(list_calls(fake, "squeue")) == 1, "all jobs in one question"
    status = read_status(sweep)
    assert (status.ended, status.gpu_h) == (None, None), "a site without accounting is no fault"
    rows = [
        "100_0|OUT_OF_MEMORY|3600|cpu=1,gres/gpu=2,mem=1G",
        "100_0|RUNNING|0|gres/gpu=2",
        "100_1|CANCELLED by 0|1800|",
    ]
    (fake / "accounting").write_text("\n".join(rows))
    status = read_status(sweep)
    assert status.ended == {"OUT_OF_MEMORY": 1, "CANCELLED": 1}
    assert status.gpu_h == 2.0
    said = status.render()
    assert "ended tasks: 1 cancelled, 1 out_of_memory" in said
    assert "2.0 GPU-hours held by tasks" in said
    assert status.lost_tasks == []
    (fake / "jobs.json").write_text("no JSON")
    assert read_status(sweep).tasks is None, "records are told where the cluster is silent"
