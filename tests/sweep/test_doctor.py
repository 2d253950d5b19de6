"""The doctor, on pretended sites: what is wrong is found, explained, and decides the exit status."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import platform
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from causalmix.cli import app
from causalmix.config import Config
from causalmix.sweep.doctor import here, job, site
from causalmix.sweep.doctor.examine import examine_site
from causalmix.sweep.doctor.finding import Finding, render_finding
from tests.sweep.submitting import make_config
from tests.tiny import ROOT


def find(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name.startswith(name))


def examine(folder: Path, wait_s: float = 0.0, **groups: dict[str, Any]) -> list[Finding]:
    config: Config = make_config(**groups)
    config.outputs = str(folder)
    return list(examine_site(config, ROOT, wait_s))


def test_every_finding_says_what_why_and_how_to_mend_it(fake: Path, tmp_path: Path) -> None:
    found = examine(tmp_path / "outputs", cluster={"partition": "gpu"}, resources={"gpus": 8})
    names = [finding.name for finding in found]
    assert len(names) == len(set(names))
    assert {"python", "packages", "slurm", "partition", "limits", "account and qos", "disk", "clock"} <= set(names)
    for finding in found:
        assert finding.said
        assert finding.why
        assert bool(finding.mend) == (finding.state in ("warning", "failed")), finding
        assert (finding.why in render_finding(finding)) == bool(finding.mend)
    assert not list((tmp_path / "outputs").iterdir()), "nothing is left behind"


@pytest.mark.parametrize(
    ("groups", "name", "state", "said"),
    [
        ({"cluster": {"partition": "longg"}}, "partition", "failed", "did you mean 'long'"),
        ({"cluster": {"partition": "gpu"}}, "partition", "failed", "no node that works"),
        ({"cluster": {"partition": "short"}}, "time limit", "failed", "short allows 60"),
        ({}, "time limit", "good", "2-00:00:00"),
        ({}, "partition", "good", "2 down\\*, 30 mixed"),
        ({"resources": {"gpus": 2}}, "gpus of the partition", "failed", "nodes of long have 0"),
        ({"cluster": {"account": "lob"}}, "account", "failed", "account=lob is not one of yours: lab, other"),
        ({"cluster": {"account": "lab", "qos": "urgent"}}, "account", "failed", "qos=urgent .* high, normal"),
        ({"cluster": {"account": "lab"}, "resources": {"runs_per_task": 4}}, "limits", "failed", "may have 100"),
        (
            {"cluster": {"account": "lab", "max_submit": 64}, "resources": {"runs_per_task": 4}},
            "limits",
            "good",
            "64 t",
        ),
        ({"cluster": {"options": {"nise": 1}}}, "sbatch", "failed", "did you mean 'nice'"),
        ({}, "sbatch", "good", "to start at"),
    ],
)
def test_what_a_site_lacks_is_found(
    fake: Path, tmp_path: Path, groups: dict[str, Any], name: str, state: str, said: str
) -> None:
    finding = find(examine(tmp_path, **groups), name)
    assert finding.state == state, finding
    assert re.search(said, finding.said), finding.said


def test_a_folder_that_jobs_do_not_share_is_found(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "LATE_S", 0.2)
    (fake / "behave").write_text("vanish")
    found = examine(tmp_path, wait_s=20)
    assert find(found, "a job shares the folder").state == "failed"
    assert "every node mounts" in find(found, "a job shares the folder").mend


def test_a_job_that_does_not_start_is_cancelled_and_costs_no_more_than_its_wait(fake: Path, tmp_path: Path) -> None:
    found = examine(tmp_path, wait_s=0.5)
    finding = find(found, "a job starts")
    assert (finding.state, "pending: Priority" in finding.said) == ("warning", True)
    assert any(json.loads(line)[0] == "scancel" for line in (fake / "calls").read_text().splitlines())
    assert not list(tmp_path.glob(".doctor*"))


def make_report(**values: Any) -> dict[str, Any]:
    return {
        "token": "t",
        "host": "n1",
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "n_gpus": 1,
        "visible": "0",
        "now": time.time(),
        "findings": [],
        **values,
    }


@pytest.mark.parametrize(
    ("values", "name", "state"),
    [
        ({}, "a job has this software", "good"),
        ({"torch": None}, "a job has this software", "failed"),
        ({"python": "3.9.1"}, "a job has this software", "warning"),
        ({"token": "other"}, "a job shares the folder", "failed"),
        ({"n_gpus": 0}, "a job sees its GPUs", "failed"),
        ({}, "a job sees its GPUs", "good"),
        ({"now": 0.0}, "the node's clock", "warning"),
    ],
)
def test_a_node_is_compared_with_this_machine(values: dict[str, Any], name: str, state: str) -> None:
    found = list(job.judge(make_report(**values), "t", make_config(resources={"gpus": 1})))
    assert find(found, name).state == state


def test_without_slurm_the_folder_and_packages_are_still_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = examine(tmp_path, cluster={"kind": "local"})
    assert find(found, "slurm").state == "skipped"
    assert find(found, "folder: hard links").state == "good"
    found = examine(tmp_path, cluster={"kind": "slurm"})
    assert find(found, "slurm").state == "failed"
    assert "sbatch" in find(found, "slurm").said


def test_a_file_system_without_hard_links_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert find(list(here.check_folder(tmp_path, is_shared=True)), "folder: hard links").state == "failed"


def test_a_quota_is_found_though_the_disk_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    finding = find(list(here.check_folder(tmp_path, is_shared=False)), "disk")
    assert (finding.state, "quota" in finding.said) == ("failed", True)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = list(here.check_folder(tmp_path / "file" / "outputs", is_shared=False))
    assert [finding.state for finding in found] == ["failed"]


def test_weights_and_biases_is_tried_where_it_is_online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert [finding.state for finding in here.check_tracker("online")] == ["failed", "good"]
        monkeypatch.setenv("WANDB_API_KEY", "canary")
        found = list(here.check_tracker("online"))
        assert [finding.state for finding in found] == ["good"]
        assert "canary" not in str(found)
    assert [finding.state for finding in here.check_tracker("online")] == ["failed"]  # the server is gone
    assert [finding.state for finding in here.check_tracker("offline")] == ["skipped"]


def test_packages_are_compared_with_the_lock(tmp_path: Path) -> None:
    numpy = importlib.metadata.version("numpy")
    (tmp_path / "requirements.lock").write_text(
        f"numpy=={numpy} \\\n    --hash=sha256:0\ntorch==0.1\nnosuch-one==1.0\n"
    )
    said = [(finding.state, finding.said) for finding in here.check_packages(tmp_path)]
    assert [state for state, _ in said] == ["failed", "warning"]
    assert "nosuch-one" in said[0][1]
    assert "lock: 0.1" in said[1][1]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("infinite", None), ("30:00", 30), ("1:00:00", 60), ("2-00:00:00", 2880), ("n/a", None)],
)
def test_time_limits_of_sinfo(text: str, minutes: float | None) -> None:
    assert site.read_minutes(text) == minutes


@pytest.mark.parametrize(
    ("gres", "n"), [("(null)", 0), ("gpu:4", 4), ("gpu:a100:4(S:0-1)", 4), ("gpu:a:2,gpu:b:1", 3), ("fpga:1", 0)]
)
def test_gpus_of_sinfo(gres: str, n: int) -> None:
    assert site.count_gpus(gres) == n


def test_the_exit_status_and_the_json(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["doctor", f"outputs={tmp_path}", "cluster=slurm", "--wait", "0"]
    good = CliRunner().invoke(app, arguments)
    assert good.exit_code == 0, good.output
    bad = CliRunner().invoke(app, [*arguments, "cluster.partition=nowhere", "--json"])
    assert bad.exit_code == 1
    said = json.loads(bad.stdout)
    assert said["ok"] is False
    assert next(f for f in said["findings"] if f["name"] == "partition")["state"] == "failed"
