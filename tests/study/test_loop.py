"""The whole loop, tiny, as people type it: pool, proxies, anchors, analysis, confirmation, report, page."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from causalmix.study.results import summarise_confirmation
from causalmix.table.runs import load_runs
from tests.tiny import TINY, launch

pytestmark = pytest.mark.slow

N_PROXIES = 48
STUDY = [
    "experiment=demo",
    "study.name=tiny",
    f"study.n_proxies={N_PROXIES}",
    "study.n_anchor_mixtures=2",
    "study.n_replicates=2",
    "study.n_seeds=2",
    "study.confirm_model.hidden_size=24",
    "study.confirm_model.n_layers=1",
    "study.confirm_model.n_heads=2",
    "study.confirm_model.n_kv_heads=1",
    "study.confirm_model.intermediate_size=32",
    "study.confirm_model.base.n_steps=3",
    "study.confirm_model.base.batch_rows=2",
    "study.ablations.causal_forest.n_trees=8",
    "study.ablations.causal_forest.nuisance.outcome=ridge",  # refits by LightGBM take most of a minute
    "estimator.nuisance.outcome=ridge",
    "estimator.nuisance.n_folds=2",
]


@pytest.fixture(scope="module")
def study(
    tiny_outputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    page = tmp_path_factory.mktemp("study") / "page.md"
    ended = launch(*STUDY, *TINY, f"outputs={tiny_outputs}", f"study.docs_file={page}", timeout=280)
    assert ended.returncode == 0, ended.stderr
    return page, ended


@pytest.fixture
def result(study: object, tiny_outputs: Path) -> dict[str, Any]:
    found = json.loads((tiny_outputs / "studies" / "tiny" / "study.json").read_text())
    assert isinstance(found, dict)
    return found


def test_every_stage_is_timed(result: dict[str, Any]) -> None:
    assert list(result["seconds"]) == [
        "pool", "base models", "proxies", "anchors", "analysis", "confirmation", "report",
    ]  # fmt: skip
    assert result["n_runs"] == {"proxies": N_PROXIES, "anchors": 4, "confirmation": result["n_runs"]["confirmation"]}


def test_the_mixtures_are_answers_to_their_targets(result: dict[str, Any]) -> None:
    for arm, mixture in result["mixtures"].items():
        assert sum(mixture["candidate"].values()) == pytest.approx(1, abs=1e-6), arm
        assert mixture["advice"] in ("given", "withheld")
        assert mixture["gain"]["low"] <= mixture["gain"]["estimate"] <= mixture["gain"]["high"]
        assert mixture["n_runs"] == N_PROXIES
    states = {json.dumps(mixture["state"], sort_keys=True) for mixture in result["mixtures"].values()}
    assert len(states) == 2  # one a target, measured


def test_confirmations_ran_on_both_targets(result: dict[str, Any], tiny_outputs: Path) -> None:
    rows = pd.DataFrame(result["confirmation"])
    targets = set(rows["target"])
    assert len(targets) == 2
    main = [arm for arm in result["mixtures"] if arm.startswith("causalmix_a for ")]
    for target in targets:
        arms = set(rows[rows["target"] == target]["arm"])
        assert {"equal", "natural", *main} <= arms  # the swap: each mixture on both
    assert (rows["n_seeds"] == 2).all()
    frame = pd.read_csv(tiny_outputs / "studies" / "tiny" / "confirmation.csv")
    again = pd.DataFrame([vars(row) for row in summarise_confirmation(frame)])
    pd.testing.assert_frame_equal(again, rows, check_exact=False)


def test_the_confirmation_trained_what_the_analysis_said(result: dict[str, Any], tiny_outputs: Path) -> None:
    trained = []
    for folder in (tiny_outputs / "sweeps").iterdir():
        frame = load_runs(str(folder), needs_state=False).frame
        trained.append(frame[frame["cohort"] == "confirmation"])
    table = pd.concat(trained)
    assert len(table) == result["n_runs"]["confirmation"]
    shares = table[[f"mixture.{name}" for name in next(iter(result["mixtures"].values()))["candidate"]]]
    for arm, mixture in result["mixtures"].items():
        wanted = pd.Series({f"mixture.{name}": share for name, share in mixture["candidate"].items()})
        assert ((shares - wanted).abs().max(axis=1) < 1e-9).any(), arm
    assert set(table["train.n_samples"]) == {80}
    assert table["pool.fingerprint"].nunique() == 2


def test_terminal_page_and_report(study: tuple[Path, subprocess.CompletedProcess[str]], result: dict[str, Any]) -> None:
    page, ended = study
    text = page.read_text()
    for row in result["confirmation"]:
        figures = f"{row['mean']:.2f} ± {row['se']:.2f}"
        assert figures in ended.stdout
        assert figures in text
    assert re.search(r"Predicted gain of .* over the reference: [+-]\d+\.\d+ points", ended.stdout)
    assert "ratio" in ended.stdout
    assert "mixture.json" in ended.stdout
    report = Path(result["report"]).read_text()
    assert "<html" in report
    assert "x2 documents" in report


def test_typed_again_it_trains_nothing(
    study: tuple[Path, subprocess.CompletedProcess[str]], tiny_outputs: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_outputs.glob("sweeps/*/runs/*/record.json")}
    ended = launch(*STUDY, *TINY, f"outputs={tiny_outputs}", f"study.docs_file={tmp_path / 'page.md'}", timeout=280)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count(" 0 to do") == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    one, two = (
        [line for line in path.read_text().splitlines() if not line.startswith("Seconds:")]
        for path in (study[0], tmp_path / "page.md")
    )
    differing = [pair for pair in zip(one, two, strict=True) if pair[0] != pair[1]]
    assert all("docs_file" in line for pair in differing for line in pair)  # the same figures, refitted


def test_a_policy_becomes_weights_at_submission(
    study: tuple[Path, subprocess.CompletedProcess[str]], tiny_outputs: Path, tmp_path: Path
) -> None:
    """mixture=policy: fitted once, here; the points that workers read hold numbers."""
    sweeps = {path.parent.parent.name: path for path in tiny_outputs.glob("sweeps/*/points/*.json")}
    proxies = next(
        name for name in sweeps if len(list((tiny_outputs / "sweeps" / name / "runs").iterdir())) >= N_PROXIES
    )
    folder = tmp_path / "policies"
    ended = launch(
        "-m", *TINY, f"outputs={tiny_outputs}", f"sweep_dir={folder}", "mixture=policy", "mixture.use_candidate=true",
        f"runs={tiny_outputs / 'sweeps' / proxies}", "policy=equal,regmix", "seed=range(2)",
        "estimator=own_state", "estimator.nuisance.outcome=ridge",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("policy equal: ") == 1
    assert ended.stderr.count("policy regmix: ") == 1
    table = load_runs(str(folder), needs_state=False).frame
    assert len(table) == 4
    assert table["mixture.math"].nunique() == 2
    assert set(table["design.name"]) == {"equal", "regmix"}
    (points,) = (folder / "points").glob("*.json")
    assert "policy_weights" not in points.read_text()
