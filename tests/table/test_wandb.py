"""One table, from the sweep's records, from W&B's API, page and files, to the last digit."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from causalmix.cli import app
from causalmix.entry import quote_runs
from causalmix.errors import TableError
from causalmix.table import sources
from causalmix.table.compare import compare_tables
from causalmix.table.from_wandb.api import Patience, parse_query, read_wandb
from causalmix.table.from_wandb.files import find_wandb_files, read_wandb_files
from causalmix.table.from_wandb.log import BLOCK, cut_torn_tail, read_log
from causalmix.table.from_wandb.rows import WandbRun, gather
from causalmix.table.runs import RunsTable, load_runs, write_table
from causalmix.table.schema import is_column
from causalmix.track.session import is_setting
from tests.sweep_folder import make_row, mirror_offline, tear, write_record
from tests.tiny import launch
from tests.wandb_server import ServedRun, WandbServer

SOURCE = "wandb:team/causalmix?group=demo"
N_RUNS = 512


def write_javascript(value: Any) -> Any:
    """Shorten whole floats as W&B's server and page do: 40.0 is 40 there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def serve(row: dict[str, Any], **changes: Any) -> ServedRun:
    """Make of a row what W&B holds of its run."""
    filled = {name: write_javascript(value) for name, value in row.items() if value is not None}
    config = {name: {"value": value} for name, value in filled.items() if is_setting(name)}
    summary = {name: value for name, value in filled.items() if not is_setting(name)}
    facts = {
        "name": row["run_id"],
        "group": "demo",
        "job_type": "signal",
        "state": "finished",
        "config": json.dumps({**config, "_wandb": {"value": {"t": {"1": [1, 2]}}}}),
        "summary": json.dumps({**summary, "_step": 3, "_wandb": {"runtime": 1}, "loss": 0.5}),
    }
    return ServedRun(**(facts | changes))


def write_sweep(folder: Path, rows: list[dict[str, Any]]) -> Path:
    for row in rows:
        write_record(folder / "runs" / str(row["run_id"]), row)
    return folder


def assert_same(table: RunsTable, truth: RunsTable) -> None:
    pd.testing.assert_frame_equal(table.frame, truth.frame, check_exact=True)
    assert table.fingerprint == truth.fingerprint
    assert not compare_tables(truth, table)


def test_512_runs_come_over_a_bad_line_to_the_last_digit(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_row(i) for i in range(N_RUNS)]
    runs = [serve(row, created=i) for i, row in enumerate(rows)]
    server.runs = {run.name: run for run in runs}
    # A run that was uploaded under two ids, one of another sweep, one that failed, one that is on its way.
    server.extra = [
        serve(rows[7], name="copy"),
        serve(make_row(900), group="other"),
        serve(make_row(901, status="failed", cause="loss is NaN"), state="failed"),
        serve({"run_id": "902e1", "mixture.code": 1.0}, state="running"),
    ]
    faults = {0: "429", 1: "drop", 3: "hang", 5: "500", 6: "429"}
    server.fault = lambda what, n: faults.get(n) if what == "Runs" else None
    impatient = Patience(timeout_s=3, attempts=6, wait_s=0.05)
    monkeypatch.setattr(sources, "read_wandb", lambda source: read_wandb(source, impatient))
    table = load_runs(SOURCE)
    assert_same(table, load_runs(write_sweep(tmp_path, rows)))
    assert len(table.frame) == N_RUNS
    assert table.problems == ("0385e1: failed (loss is NaN)", "902e1: running")
    assert server.asked["Runs"] >= 6 + len(faults)  # pages of 100, and what was asked again
    assert server.variables[-1][1]["filters"] == '{"group": "demo"}'


def test_all_doors_lead_to_one_table(server: WandbServer, tmp_path: Path) -> None:
    rows = [make_row(i) for i in range(6)]
    sweep = write_sweep(tmp_path / "sweep", rows)
    for row in rows:
        mirror_offline(sweep / "runs" / row["run_id"], row)
    tear(mirror_offline(sweep / "runs" / rows[2]["run_id"], rows[2]))  # a second attempt that was killed
    truth = load_runs(sweep)
    server.runs = {row["run_id"]: serve(row) for row in rows}
    write_page(tmp_path / "page.csv", rows)
    write_table(truth.frame, tmp_path / "runs.csv")
    write_table(truth.frame, tmp_path / "runs.parquet")
    (file,) = find_wandb_files(sweep / "runs" / rows[0]["run_id"])
    logs = tmp_path / "logs"  # W&B files alone, without the sweep around them
    (sweep / "runs" / rows[0]["run_id"] / "log" / "wandb").rename(logs)
    assert_same(load_runs(f"offline:{sweep},{logs}"), truth)
    for source in ("page.csv", "runs.csv", "runs.parquet"):
        assert_same(load_runs(tmp_path / source), truth)
    assert_same(load_runs(SOURCE), truth)
    assert load_runs(logs / file.parent.name / file.name).frame["run_id"].tolist() == [rows[0]["run_id"]]
    assert_same(load_runs("wandb:team/causalmix?group=demo&group=other"), truth)


def write_page(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the CSV that W&B's page saves: its own columns first, the newest run on top, all cells quoted."""
    names = [name for name in rows[0] if rows[0][name] is not None]
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, quoting=csv.QUOTE_ALL)
        writer.writerow(["Name", "State", "Notes", "User", "Tags", "Created", "Runtime", "Sweep", *names, "loss"])
        for i, row in reversed(list(enumerate(rows))):
            own = [row["run_id"], "finished", "-", "u", "", f"2026-11-01T00:{i:02d}:00.000Z", "1", ""]
            writer.writerow([*own, *(write_javascript(row[name]) for name in names), "0.5"])
        writer.writerow(
            ["gone", "crashed", "-", "u", "", "2026-11-01T01:00:00.000Z", "1", ""] + [""] * len(names) + [""]
        )


def test_what_a_killed_run_lost_is_reported(tmp_path: Path) -> None:
    rows = [make_row(i) for i in range(3)]
    sweep = write_sweep(tmp_path, rows)
    mirror_offline(sweep / "runs" / rows[0]["run_id"], rows[0] | {"outcome.math": 1.0})
    mirror_offline(sweep / "runs" / rows[1]["run_id"], rows[1])
    tear(mirror_offline(sweep / "runs" / rows[2]["run_id"], rows[2]))
    difference = compare_tables(load_runs(sweep), load_runs(f"offline:{sweep}"))
    assert difference.only_first == (rows[2]["run_id"],)
    assert [(cell.run_id, cell.column, cell.second) for cell in difference.cells] == [
        (rows[0]["run_id"], "outcome.math", 1.0)
    ]
    printed = CliRunner().invoke(app, ["table", str(sweep), "--compare", f"offline:{sweep}"])
    assert printed.exit_code == 1
    assert "0002e1: crashed" in printed.output
    assert "0000e1 outcome.math" in printed.output
    as_json = CliRunner().invoke(app, ["table", str(sweep), "--compare", str(sweep), "--json"])
    assert as_json.exit_code == 0
    assert json.loads(as_json.stdout)["same"] is True


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the real client, with a record that is longer than two of the log's blocks."""
    row = make_row(0, cause=None)
    row["model.name"] = "x" * (2 * BLOCK + 100)
    return mirror_offline(tmp_path_factory.mktemp("run") / "0000e1", row)


def test_a_long_record_is_put_together(whole_file: Path) -> None:
    (file,) = read_wandb_files([whole_file])
    assert file.run.config["model.name"] == "x" * (2 * BLOCK + 100)
    assert file.has_end
    assert cut_torn_tail(whole_file) is False


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_torn_anywhere_gives_what_came_before(
    whole_file: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = whole_file.read_bytes()
    n_kept = data.draw(st.integers(0, len(content)))
    torn = bytearray(content[:n_kept])
    if data.draw(st.booleans()) and n_kept > 8:  # a byte that the disk spoiled
        torn[data.draw(st.integers(7, n_kept - 1))] ^= 0xFF
    path = tmp_path_factory.mktemp("torn") / "run-x.wandb"
    path.write_bytes(torn)
    records = [record.SerializeToString() for record in read_log(whole_file)]
    read = [record.SerializeToString() for record in read_log(path)]
    assert read == records[: len(read)]
    cut_torn_tail(path)
    assert [record.SerializeToString() for record in read_log(path)] == read


def test_what_is_no_wandb_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run-x.wandb"
    path.write_bytes(b"something else entirely")
    with pytest.raises(TableError, match=r"run-x\.wandb: is no W&B file, for it begins with"):
        load_runs(path)
    path.write_bytes(b"")
    with pytest.raises(TableError, match="not one complete run among 0"):
        load_runs(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match=r"no run-\*\.wandb anywhere"):
        load_runs(f"offline:{tmp_path / 'empty'}")
    with pytest.raises(TableError, match="no such file or folder"):
        load_runs(f"offline:{tmp_path / 'nowhere'}")


def test_of_two_complete_runs_the_newest_counts_and_the_difference_is_noted() -> None:
    row = make_row(0)
    older = WandbRun("a", "finished", {}, row | {"outcome.avg_dev": 1.0})
    begun = WandbRun("c", "running", {"run_id": row["run_id"]})
    frame, problems, notes = gather([older, WandbRun("b", "finished", {}, row), begun])
    assert frame["outcome.avg_dev"].tolist() == [row["outcome.avg_dev"]]
    assert problems == []
    assert notes == [f"{row['run_id']}: 2 complete runs of W&B have this run_id and differ; the newest is taken"]


def test_nested_settings_are_dotted_names() -> None:
    run = WandbRun("a", "finished", {"mixture": {"code": 0.25, "math": 0.75}, "_wandb": {"t": 1}}, {"lr": 1})
    assert run.to_row() == {"mixture.code": 0.25, "mixture.math": 0.75, "run_id": "a", "status": "complete"}
    assert run.to_row(known=False)["lr"] == 1


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        *[(name, True) for name in ("mixture.code", "a_family.of_tomorrow", "outcome.math.gsm8k", "seed", "status")],
        *[(name, False) for name in ("Name", "Job Type", "training/loss", "_step", "_wandb.runtime", "lr", "a.b/c")],
    ],
)
def test_what_is_a_column(name: str, is_ours: bool) -> None:
    assert is_column(name) is is_ours


def test_runs_of_other_projects_are_mapped(server: WandbServer, tmp_path: Path) -> None:
    config = {"mix": {"value": {"code": 0.25, "math": 0.75}}, "lr": {"value": 0.001}}
    for i, state in enumerate(("finished", "finished", "crashed")):
        summary = json.dumps({"eval/acc": 0.1 + 0.2 * i, "loss": 2.5})
        server.runs[f"x{i}"] = ServedRun(f"x{i}", config=json.dumps(config), summary=summary, state=state)
    pairs = ["mix.code=mixture.code", "mix.math=mixture.math", "eval/acc=outcome.avg_dev"]
    arguments = [part for pair in pairs for part in ("--map", pair)]
    printed = CliRunner().invoke(app, ["table", "wandb:team/causalmix", str(tmp_path / "runs.csv"), *arguments])
    assert printed.exit_code == 0, printed.output
    assert "x2: crashed" in printed.output
    frame = load_runs(tmp_path / "runs.csv", needs_state=False).frame
    assert frame["run_id"].tolist() == ["x0", "x1"]
    assert frame["outcome.avg_dev"].tolist() == [0.1, 0.1 + 0.2]
    assert frame["lr"].tolist() == [0.001, 0.001]


@pytest.mark.parametrize(
    ("source", "path", "filters"),
    [
        ("wandb:team/p", "team/p", {}),
        ("wandb:p", "p", {}),
        ("wandb:team/p?group=a&cohort=signal", "team/p", {"group": "a", "jobType": "signal"}),
        ("wandb:team/p?group=a&group=b", "team/p", {"group": {"$in": ["a", "b"]}}),
    ],
)
def test_queries(source: str, path: str, filters: dict[str, Any]) -> None:
    query = parse_query(source)
    assert (query.path, query.filters) == (path, filters)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("wandb:", "wandb:ENTITY/PROJECT, or"),
        ("wandb:a/b/c", "wandb:ENTITY/PROJECT, or"),
        ("wandb:a/b?grup=x", "no filter grup (did you mean 'group'?); allowed: group, cohort, state"),
        ("wandb:a/b?x", "no filter x"),
    ],
)
def test_wrong_queries_say_what_is_right(source: str, message: str) -> None:
    with pytest.raises(TableError) as caught:
        parse_query(source)
    assert message in str(caught.value)


def test_hydra_takes_a_query_as_it_is_typed() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    typed_so = (
        "runs=wandb:team/p?group=a&cohort=b",
        "runs=wandb:team/p,wandb:team/q?group=a",
        "runs=a.csv,b.csv",
        "runs=k=3/runs.csv",
    )
    for typed in typed_so:
        assert parser.parse_override(quote_runs(typed, sweeps=False)).value() == typed.removeprefix("runs=")
    for other in (
        "runs='wandb:team/p?group=a'",
        "runs=outputs/x",
        "policy=equal",
        "runs=a.csv,b.csv",
        "runs=choice(a,b)",
    ):
        assert quote_runs(other, sweeps=True) == other


def test_the_analysis_takes_a_query_from_the_command_line() -> None:
    ended = launch("runs=wandb:team/causalmix?grup=demo&cohort=signal", module="analysis")
    assert ended.returncode == 2
    assert "no filter grup (did you mean 'group'?)" in ended.stderr


def test_a_server_that_cannot_help_is_named(server: WandbServer) -> None:
    with pytest.raises(TableError, match=r"W&B says: .*causalmix.*Check the name, and the key"):
        load_runs(SOURCE)
    server.fault = lambda _what, _n: "401"
    with pytest.raises(TableError, match=r"W&B says: .*Check the name, and the key"):
        load_runs(SOURCE)
    server.fault = lambda _what, _n: "drop"
    began = time.monotonic()
    with pytest.raises(TableError, match="did not answer 2 times"):
        read_wandb(SOURCE, Patience(timeout_s=1, attempts=2, wait_s=0.05))
    assert time.monotonic() - began < 40
