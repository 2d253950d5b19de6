"""Dashboards: the spec without a server, and what W&B is told, by W&B's own package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import t as student
from typer.testing import CliRunner

from causalmix.cli import app
from causalmix.errors import TrackerError
from causalmix.table.runs import RunsTable, load_runs, write_table
from causalmix.track.dashboard.design import Choice, _compare_arms, design_dashboard, tabulate_arms
from causalmix.track.dashboard.draw import save_report, save_workspace
from causalmix.track.dashboard.spec import DashboardSpec, PanelSpec, SectionSpec, check_spec, read_spec, write_spec
from causalmix.track.project import find_project
from tests.sweep_folder import make_row, write_record
from tests.wandb_server import ServedRun, WandbServer

ARMS = ("equal", "regmix", "dmo", "causalmix_a", "causalmix_s", "no_covariates")
CHOICE = Choice("team", "causalmix")


def make_targets(folder: Path, n_seeds: int = 3) -> RunsTable:
    """Make a sweep of targets: each arm trained on the same seeds, with a gain that noise does not hide."""
    for k, arm in enumerate(ARMS):
        for seed in range(n_seeds):
            row = make_row(100 * k + seed, cohort="confirmation", seed=seed, **{"design.name": arm})
            row["outcome.avg_dev"] = 40.0 + 5 * seed + k + 0.01 * (k * seed % 3)
            write_record(folder / "runs" / row["run_id"], row)
    return load_runs(folder)


def list_panels(spec: DashboardSpec) -> list[PanelSpec]:
    return [panel for section in spec.sections for panel in section.panels]


def test_what_a_researcher_asks_for_is_there(tmp_path: Path) -> None:
    table = make_targets(tmp_path)
    spec = design_dashboard(table, CHOICE)
    check_spec(spec)
    assert [section.title for section in spec.sections] == [
        "Which policy trained the better model?",
        "Abilities",
        "Mixtures",
        "Outcome against shares",
        "Outcome against the pool's state",
        "Progress",
    ]
    assert (spec.groups, spec.entity, spec.project) == (["demo"], "team", "causalmix")
    panels = list_panels(spec)
    columns = {column for panel in panels for column in [*panel.y, *([panel.x] if panel.x else [])]}
    assert columns - {"training/loss"} <= set(table.frame.columns)  # nothing is drawn that no run has
    assert {f"mixture.{name}" for name in table.domains} <= columns
    assert {"outcome.avg_dev", "outcome.math", "state.hes.code", "wall_s"} <= columns
    scores = next(panel for panel in panels if panel.title == "outcome.avg_dev")
    assert (scores.kind, scores.by, scores.spread) == ("bars", "design.name", "stderr")
    for arm in ARMS:
        assert f"| {arm} | 3 |" in spec.sections[0].text


def test_the_table_of_arms_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "design.name": ["equal", "equal", "equal", "a", "a", "a", "a", "lonely"],
            "seed": [0, 1, 2, 0, 1, 1, 7, 9],
            "outcome.avg_dev": [10.0, 20.0, 30.0, 11.0, 22.0, 24.0, 50.0, 5.0],
        }
    )
    rows = {row[0]: row[1:] for row in tabulate_arms(frame, "design.name", CHOICE)}
    # Seed 1 of `a` was trained twice: one run of 23. Pairs with equal: +1 on seed 0, +3 on seed 1.
    pairs = np.array([1.0, 3.0])
    half = student.ppf(0.975, 1) * pairs.std(ddof=1) / np.sqrt(2)
    assert rows["a"][0] == "3"
    assert rows["a"][1].startswith("28.00 [")
    assert rows["a"][2] == f"2.00 [{2 - half:.2f}, {2 + half:.2f}]"
    assert rows["equal"][2] == "-"
    assert rows["lonely"] == ["1", "5.00", "-"]
    assert list(rows) == ["arm", "a", "equal", "lonely"]  # the best first


def test_pools_and_sizes_have_tables_of_their_own() -> None:
    rows = [
        {"design.name": arm, "seed": seed, "pool.fingerprint": pool, "outcome.avg_dev": 10.0 * (pool == "q") + gain}
        for pool in "pq"
        for arm, gain in (("equal", 0.0), ("a", 1.0))
        for seed in range(3)
    ]
    text = _compare_arms(pd.DataFrame(rows), "design.name", CHOICE).text
    assert text.count("| a | 3 |") == 2
    assert "**pool.fingerprint q**" in text
    drawn = pd.DataFrame(rows[:6]).assign(**{"pool.fingerprint": list("abcabc")})  # a pool a seed: pairing's affair
    assert "pool.fingerprint" not in _compare_arms(drawn, "design.name", CHOICE).text


def test_a_sweep_of_one_design_compares_no_arms(tmp_path: Path) -> None:
    for i in range(3):
        write_record(tmp_path / "runs" / make_row(i)["run_id"], make_row(i))
    titles = [section.title for section in design_dashboard(load_runs(tmp_path), CHOICE).sections]
    assert design_dashboard(load_runs(tmp_path), CHOICE).arm == "design.name"
    assert titles == ["Outcome against shares", "Outcome against the pool's state", "Progress"]


def test_a_spec_can_be_edited_and_read_back(tmp_path: Path) -> None:
    spec = design_dashboard(make_targets(tmp_path), CHOICE)
    path = tmp_path / "dashboard.yaml"
    path.write_text(write_spec(spec))
    assert read_spec(path) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain.update(titel="x"), "titel"),
        (lambda plain: plain.update(entity=""), "entity is empty"),
        (lambda plain: plain["sections"][0]["panels"][0].update(kind="bar"), "kind bar (did you mean 'bars'?)"),
        (lambda plain: plain["sections"][0]["panels"][0].update(y=[]), "y names no column"),
        (lambda plain: plain["sections"][0]["panels"][0].update(kind="scatter", y=["a", "b"]), "x and one y"),
        (lambda plain: plain["sections"][0]["panels"][0].update(width=25), "width 25 is not within 1 to 24"),
        (lambda plain: plain.pop("project"), "project"),
    ],
)
def test_wrong_specs_are_named(tmp_path: Path, change: Any, message: str) -> None:
    plain = DashboardSpec(
        "t", "team", "p", sections=[SectionSpec("s", panels=[PanelSpec("bars", "b", ["x"])])]
    ).to_dict()
    change(plain)
    path = tmp_path / "dashboard.yaml"
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(TrackerError) as caught:
        read_spec(path)
    assert message in str(caught.value)


def test_wrong_choices_are_named(tmp_path: Path) -> None:
    table = make_targets(tmp_path)
    with pytest.raises(TrackerError, match=r"no such column \(did you mean 'design\.name'\?\)"):
        design_dashboard(table, Choice("team", "p", arm="design.nme"))
    with pytest.raises(TrackerError, match="there are confirmation"):
        design_dashboard(table, Choice("team", "p", cohort="signal"))


def test_the_project_is_the_runs_own(tmp_path: Path) -> None:
    make_targets(tmp_path, 2)
    assert find_project(str(tmp_path), None) == ("team", "causalmix")
    assert find_project(str(tmp_path), "a/b") == ("a", "b")
    assert find_project("wandb:team/p?group=x", None) == ("team", "p")
    for source, given, message in [
        ("runs.csv", None, "add --project ENTITY/PROJECT"),
        ("wandb:p", None, "name the project p and no entity"),
        ("runs.csv", "p", "--project p: ENTITY/PROJECT is wanted"),
    ]:
        with pytest.raises(TrackerError) as caught:
            find_project(source, given)
        assert message in str(caught.value)


def test_a_dry_run_prints_the_spec_and_asks_nobody(tmp_path: Path) -> None:
    table = make_targets(tmp_path / "sweep")
    write_table(table.frame, tmp_path / "runs.csv")
    asked = ["dashboard", str(tmp_path / "runs.csv"), "--project", "team/p", "--reference", "regmix", "--dry-run"]
    printed = CliRunner().invoke(app, asked)
    assert printed.exit_code == 0, printed.output
    assert yaml.safe_load(printed.stdout)["project"] == "p"
    assert "over regmix" in printed.stdout
    as_json = CliRunner().invoke(app, [*asked, "--json"])
    assert json.loads(as_json.stdout) == yaml.safe_load(printed.stdout)
    refused = CliRunner().invoke(app, ["dashboard"])
    assert isinstance(refused.exception, TrackerError)


def test_reports_and_workspaces_are_saved_and_changed(server: WandbServer, tmp_path: Path) -> None:
    spec = design_dashboard(make_targets(tmp_path), CHOICE)
    with pytest.raises(TrackerError, match="Is there a project team/causalmix with runs"):
        save_report(spec)
    server.runs["r"] = ServedRun("r")
    url = save_report(spec)
    assert "/team/causalmix/reports/" in url
    (view,) = server.views.values()
    saved = json.loads(view["spec"])
    text = json.dumps(saved)
    assert view["displayName"] == "CausalMix: demo"
    # A setting's dots belong to its name: not config.mixture.value.code, which W&B would not find.
    for key in ('"config.mixture.code.value"', '"config:mixture.code.value"', '"design.name.value"'):
        assert key in text, key
    assert '"summary:outcome.avg_dev"' in text
    assert '"mixture.value' not in text
    grids = [block["metadata"] for block in saved["blocks"] if block["type"] == "panel-grid"]
    drawn = [grid["panelBankSectionConfig"]["panels"] for grid in grids]
    assert [len(panels) for panels in drawn] == [len(section.panels) for section in spec.sections]
    assert not any(map(_overlap, drawn))
    spec.title = "another title"
    assert save_report(spec, update=url).endswith(url.rsplit("--", 1)[1])
    assert len(server.views) == 1
    assert server.views[view["id"]]["displayName"] == "another title"
    # The same as a workspace.
    place = save_workspace(spec)
    assert len(server.views) == 2
    save_workspace(spec, update=place)
    assert len(server.views) == 2
    workspace = json.loads(list(server.views.values())[-1]["spec"])
    assert [part["name"] for part in workspace["section"]["panelBankConfig"]["sections"]][:2] == [
        "Which policy trained the better model?",
        "Abilities",
    ]
    printed = CliRunner().invoke(app, ["dashboard", str(tmp_path), "--json"])
    assert "/reports/" in json.loads(printed.stdout)["url"]


def _overlap(panels: list[dict[str, Any]]) -> bool:
    cells: set[tuple[int, int]] = set()
    n_cells = 0
    for panel in panels:
        place = panel["layout"]
        own = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        n_cells += len(own)
        cells |= own
    return len(cells) < n_cells
