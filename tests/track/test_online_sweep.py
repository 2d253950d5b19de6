"""A sweep that is mirrored live, over a bad line, from the command line to the table at W&B."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from causalmix.table.runs import load_runs
from tests.tiny import REST, TINY, launch
from tests.wandb_server import KEY, WandbServer

ARGUMENTS = [text for text in TINY if not text.startswith("tracker=")]


@pytest.mark.slow
def test_the_table_at_wandb_is_the_runs_table(server: WandbServer, tiny_outputs: Path, tmp_path: Path) -> None:
    assert len(ARGUMENTS) == len(TINY) - 1
    assert set(REST) <= {*TINY}
    # The first two workers find a busy server; later W&B is away for a while.
    faults = {("RunResumeStatus", 0): "429", ("UpsertBucket", 1): "drop", ("file_stream", 2): "500"}
    server.fault = lambda what, n: faults.get((what, n))
    sweep = tmp_path / "sweep"
    tracker = ["tracker=online", "tracker.entity=team", "tracker.wait_s=10", "tracker.jitter_s=0.5"]
    ended = launch(
        "-m",
        *ARGUMENTS,
        *tracker,
        f"outputs={tiny_outputs}",
        f"sweep_dir={sweep}",
        "seed=range(4)",
        "train.log_every=1",
    )
    assert ended.returncode == 0, ended.stderr
    records = load_runs(sweep)
    assert len(records.frame) == 4
    synced = launch("sync", str(sweep), "--json", module="causalmix.cli")
    assert synced.returncode == 0, synced.stderr
    report = json.loads(synced.stdout)
    assert report["already"] + len(report["uploaded"]) == 4
    group = str(records.frame["sweep_id"].iloc[0])
    compared = launch(
        "table", str(sweep), "--compare", f"wandb:team/causalmix?group={group}", "--json", module="causalmix.cli"
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert json.loads(compared.stdout)["same"] is True
    assert load_runs(f"wandb:team/causalmix?group={group}").fingerprint == records.fingerprint
    for run_id in records.frame["run_id"]:
        assert server.runs[run_id].job_type == "signal"
        assert server.runs[run_id].history
    everything = b"".join(path.read_bytes() for path in sweep.rglob("*") if path.is_file())
    assert KEY.encode() not in everything
    assert (
        launch("sync", str(sweep), module="causalmix.cli").stdout.count("0 runs uploaded, 4 were at W&B already") == 1
    )
