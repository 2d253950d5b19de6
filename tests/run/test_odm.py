"""``mixture=odm`` from config to record, killed and resumed, and read by what compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from analysis.compare.arms import read_arms
from analysis.roles import assign_roles
from causalmix.config import CompareConfig, EstimatorConfig, OutcomeConfig
from causalmix.errors import AnalysisError, ConfigError, MixtureError
from causalmix.run.guard import Guard
from causalmix.run.proxy import run_proxy
from causalmix.sweep.points import Inputs, plan_runs
from causalmix.sweep.settings import check_settings
from causalmix.sweep.worker import make_point
from causalmix.table.runs import load_runs
from tests.run.test_proxy import Bench
from tests.tiny import compose_tiny

KEPT = ("step", "loss", "lr", "grad_norm", "n_tokens", "weight.", "share.", "left.")  # what no clock decides
ODM = ("mixture=odm", "cohort=confirmation", "train.log_every=1", "train.max_length=64")


@pytest.fixture(scope="module")
def bench(tiny_outputs: Path) -> Bench:
    return Bench(tiny_outputs)


def read_path(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key.startswith(KEPT) and key != "step_s"} for line in lines]


def test_the_record_has_the_shares_and_the_metrics_the_path(bench: Bench, tmp_path: Path) -> None:
    record = bench.run(tmp_path, *ODM)
    assert record.status == "complete", record.cause
    row, folder = record.row, tmp_path / record.run_id
    realised = {name.split(".")[1]: value for name, value in row.items() if name.startswith("realised.")}
    assert sum(realised.values()) == pytest.approx(1)
    manifest = pq.read_table(folder / "manifest.parquet").to_pandas()
    assert len(manifest) == row["train.n_samples"] == 40
    counted = manifest["domain"].astype(str).value_counts(normalize=True)
    assert {name: counted.get(name, 0.0) for name in realised} == pytest.approx(realised)
    path = read_path(folder)
    assert [line["step"] for line in path] == list(range(1, row["train.n_steps"] + 1))
    for line in path:
        assert sum(line[f"weight.{name}"] for name in realised) == pytest.approx(1)
    assert {name: path[-1][f"share.{name}"] for name in realised} == pytest.approx(realised)
    for name in realised:
        assert row[f"design.weight_last.{name}"] == path[-1][f"weight.{name}"]
        assert row[f"mixture.{name}"] == realised[name]  # it had no target
    assert row["design.name"] == row["design.kind"] == "odm"
    assert record.events[-2] == {**record.events[-2], "event": "domains_exhausted", "domains": []}


def test_a_stopped_run_goes_on_to_the_same_record(bench: Bench, tmp_path: Path) -> None:
    entry = bench.make_entry(*ODM)
    whole = run_proxy(make_point(entry, "sweep"), tmp_path / "whole" / entry["run_id"], bench.workshop)
    folder, asked = tmp_path / "stopped" / entry["run_id"], []

    def stop_at_three() -> bool:
        asked.append(1)
        return len(asked) == 3

    guard = Guard(should_stop=stop_at_three, can_resume=True)
    assert run_proxy(make_point(entry, "sweep"), folder, bench.workshop, guard).status == "preempted"
    record = run_proxy(make_point(entry, "sweep"), folder, bench.workshop, Guard(can_resume=True))
    timed = {"started_at", "wall_s", "device_s"}
    assert {k: v for k, v in record.row.items() if k not in timed} == {
        k: v for k, v in whole.row.items() if k not in timed
    }
    assert read_path(folder) == read_path(tmp_path / "whole" / entry["run_id"])
    manifests = [(path / "manifest.parquet").read_bytes() for path in (folder, tmp_path / "whole" / entry["run_id"])]
    assert manifests[0] == manifests[1]


def test_it_keeps_to_its_cohort(tiny_outputs: Path) -> None:
    with pytest.raises(ConfigError, match=r"follows the losses of the run itself.*add cohort=confirmation"):
        check_settings(compose_tiny(tiny_outputs, "mixture=odm"))


def test_a_pool_that_is_too_small_is_refused_before_anything_runs(tiny_outputs: Path) -> None:
    plain = compose_tiny(tiny_outputs, *ODM, "train.n_samples=5000")
    with pytest.raises(MixtureError, match=r"5000 documents asked, but all domains together give \d+ .* x 4 repeats"):
        plan_runs([plain], Inputs(tiny_outputs))


def test_it_is_an_arm_of_comparisons_and_no_causal_fit_sees_it(bench: Bench, tmp_path: Path) -> None:
    for overrides in (("mixture=equal", "cohort=confirmation"), ODM):
        for seed in (0, 1):
            assert bench.run(tmp_path / "runs", *overrides, f"seed={seed}").status == "complete"
    arms = read_arms(CompareConfig(runs=str(tmp_path)))
    assert sorted(arms.frame["arm"]) == ["equal", "equal", "odm", "odm"]
    assert sum(arms.mixtures["odm"].values()) == pytest.approx(1)
    table = load_runs(tmp_path)
    online = sorted(table.frame.loc[table.frame["design.kind"] == "odm", "run_id"])
    with pytest.raises(AnalysisError, match=f"no causal fit may see {online[0]}, {online[1]}: take them out"):
        assign_roles(table, "confirmation", EstimatorConfig(name="x"), OutcomeConfig())
