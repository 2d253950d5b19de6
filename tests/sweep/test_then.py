"""The analysis behind a sweep: submitted once, after every array, and never on data that does not suffice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from causalmix.config import ThenConfig
from causalmix.errors import ConfigError, OtherVersionError, RecordError
from causalmix.run.record import Record, write_record
from causalmix.sweep import then
from causalmix.sweep.folder import SweepFolder, write_points
from causalmix.sweep.jobs import cancel_sweep
from causalmix.sweep.status import read_status
from tests.sweep.submitting import submit


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands of the analysis, which does nothing here but write its mixture."""
    seen: list[list[str]] = []
    write = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(exist_ok=True); (p / 'mixture.json').touch()"

    def make(sweep: Path, overrides: list[str]) -> list[str]:
        seen.append(overrides)
        return [sys.executable, "-c", write, str(sweep / "analysis")]

    monkeypatch.setattr(then, "make_command", make)
    return seen


def complete(sweep: Path, *run_ids: str) -> None:
    for run_id in run_ids:
        row = {"outcome.avg_dev": 1.0, "wall_s": 1.0}
        write_record(sweep / "runs" / run_id, Record(run_id, "complete", row=row))


def make_sweep(sweep: Path, n_runs: int) -> SweepFolder:
    folder = SweepFolder(sweep, "s1")
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text("{}")
    write_points(folder, [{"run_id": f"run{at}", "plain": {"seed": at}} for at in range(n_runs)])
    return folder


def list_calls(fake: Path, name: str) -> list[list[str]]:
    calls = [json.loads(line) for line in (fake / "calls").read_text().splitlines()]
    return [call[1:] for call in calls if call[0] == name and "--help" not in call]


def test_it_is_submitted_behind_every_active_array(fake: Path, tmp_path: Path, stub: list[list[str]]) -> None:
    sweep = tmp_path / "sweep"
    wanted = {"analysis": {"policy": "equal"}}
    submit(sweep, 40, then=wanted)
    *arrays, last = list_calls(fake, "sbatch")
    assert len(arrays) == 2
    assert "--dependency=afterany:100:101" in last
    script = Path(last[-1]).read_text()
    assert f"-m causalmix.sweep.then {sweep.resolve()}" in script
    assert "--gres" not in script
    assert "#SBATCH --time=120" in script
    assert read_status(sweep).analysis == "follows as job 102"
    assert len(then.list_followups(sweep)) == 1

    submit(sweep, 50, then=wanted)  # extended: the first one, which would come too early, gives way
    assert ["102"] in list_calls(fake, "scancel")
    assert "--dependency=afterany:100:101:103" in list_calls(fake, "sbatch")[-1]
    assert cancel_sweep(sweep)
    assert ["104"] in list_calls(fake, "scancel")
    assert str(read_status(sweep).analysis).startswith("its job 104 was cancelled, or ended without a word")


def test_too_few_runs_are_named_and_nothing_is_analysed(tmp_path: Path, stub: list[list[str]]) -> None:
    folder = make_sweep(tmp_path / "sweep", 10)
    complete(folder.path, *(f"run{at}" for at in range(7)))
    write_record(folder.run_dir("run7"), Record("run7", "failed", cause="out of memory"))
    followup = then.make_followup(folder, [f"run{at}" for at in range(10)], ThenConfig(analysis={}, min_share=0.8))
    assert then.follow_up(folder.path, followup) == 2
    assert stub == []
    said = json.loads((folder.path / then.RESULT).read_text())
    assert said["missing"] == ["run7", "run8", "run9"]
    assert "7 of 10 runs are complete, 8 are needed" in said["said"]
    assert "1 x out of memory" in said["said"]
    assert "2 x no record" in said["said"]
    assert "7 of 10 runs are complete" in str(read_status(folder.path).analysis)

    complete(folder.path, "run7")
    assert then.follow_up(folder.path, followup) == 0
    assert (folder.path / "analysis" / "mixture.json").exists()
    assert str(read_status(folder.path).analysis).startswith("written to")


def test_what_is_answered_is_not_asked_again(fake: Path, tmp_path: Path, stub: list[list[str]]) -> None:
    sweep = tmp_path / "sweep"
    names = ["run0", "run1"]
    folder = make_sweep(sweep, 2)
    complete(sweep, *names)
    then.follow_up(sweep, then.make_followup(folder, names, ThenConfig(analysis={"seed": 1})))
    assert then.is_answered(sweep, ["seed=1"], names)
    assert not then.is_answered(sweep, ["seed=2"], names)
    assert not then.is_answered(sweep, ["seed=1"], ["run0"])
    submit(sweep, 2, then={"analysis": {"seed": 1}})
    assert not (fake / "jobs.json").exists()
    submit(sweep, 2, then={"analysis": {"seed": 2}})
    assert "--dependency" not in str(list_calls(fake, "sbatch")), "nothing to wait for"


def test_a_failed_analysis_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_sweep(tmp_path / "sweep", 1)
    complete(folder.path, "run0")
    failing = [sys.executable, "-c", "import sys; sys.exit('error: 1 runs are too few')"]
    monkeypatch.setattr(then, "make_command", lambda *_: failing)
    assert then.follow_up(folder.path, then.make_followup(folder, ["run0"], ThenConfig(analysis={}))) == 1
    assert read_status(folder.path).analysis == "error: 1 runs are too few"
    assert not then.is_answered(folder.path, [], ["run0"])


def test_what_the_analysis_would_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"then.analysis=\{'polcy': 'equal'\}.*polcy"):
        then.check_then(ThenConfig(analysis={"polcy": "equal"}))
    given = {"policy": "equal", "n_refits": 2, "target": {"state": {"hes": 0.3}}, "target.pool": "a 'b' ${c}"}
    then.check_then(ThenConfig(analysis={**given, "baselines": ["equal"], "report": False, "confidence": 0.9}))
    with pytest.raises(ConfigError, match="a mapping"):
        then.check_then(ThenConfig(analysis="policy=equal"))
    then.check_then(ThenConfig())


def test_a_follow_up_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "then").mkdir()
    (tmp_path / "then" / "a.json").write_text('{"format": 9, "name": "a"}')
    with pytest.raises(OtherVersionError, match="this version reads format 1"):
        then.list_followups(tmp_path)


def test_a_follow_up_that_was_changed_does_nothing(
    tmp_path: Path, stub: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_sweep(tmp_path / "sweep", 1)
    write_record(folder.run_dir("run0"), Record("run0", "complete", row={"outcome.avg_dev": 1.0, "wall_s": 1.0}))
    followup = then.make_followup(folder, ["run0"], ThenConfig(analysis={}))
    arguments = ["then", str(folder.path), followup.name, followup.digest]
    monkeypatch.setattr(sys, "argv", arguments)
    then.Followup(followup.name, ["run0"], ["output_dir=/elsewhere"], followup.min_share).write(folder.path)
    assert then.main() == 2
    assert "is not what was submitted" in capsys.readouterr().err
    assert not stub
    followup.write(folder.path)
    assert then.main() == 0
    assert stub == [[]]
    (folder.path / then.RESULT).write_text("null")
    with pytest.raises(RecordError, match="says nothing of an analysis"):
        read_status(folder.path)
