"""A sweep's folder: its name, its fixed values, its points, its lock and its status."""

from __future__ import annotations

import copy
import errno
import fcntl
import multiprocessing
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalmix.errors import OtherVersionError, RecordError, SweepError
from causalmix.files import write_json
from causalmix.run.identity import describe_identity, make_run_id
from causalmix.run.record import Record, write_record
from causalmix.sweep import launch_lock
from causalmix.sweep.failures import count_causes
from causalmix.sweep.folder import SweepFolder, flatten, open_sweep, read_points, write_points
from causalmix.sweep.launch_lock import hold_lock
from causalmix.sweep.points import PlannedRun
from causalmix.sweep.status import LITTLE_SPACE, SweepStatus, read_status
from tests.plain import make_plain

ROW = {"outcome.avg_dev": 30.5, "wall_s": 2.0}


def plan(*paths: tuple[str, Any]) -> PlannedRun:
    plain = make_plain()
    for path, value in paths:
        inner = plain
        *parents, leaf = path.split(".")
        for parent in parents:
            inner = inner[parent]
        inner[leaf] = value
    identity = describe_identity(plain, "0" * 16)
    return PlannedRun(make_run_id(identity), plain, identity, Path("pool"))


def make_entry(run: PlannedRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "pool_dir": "pool",
        "pool_fingerprint": "0" * 16,
        "base_dir": None,
        "plain": run.plain,
    }


# --- name and fixed values ------------------------------------------------------------------------------


def test_the_same_design_finds_its_folder_again(tmp_path: Path) -> None:
    one = open_sweep(tmp_path, None, [plan(("seed", 0))], ["seed"])
    more = open_sweep(tmp_path, None, [plan(("seed", 7)), plan(("seed", 8), ("replicate", 1))], ["seed", "replicate"])
    elsewhere = open_sweep(tmp_path, None, [plan(("cluster.name", "x"), ("tracker.mode", "online"))], [])
    assert one == more == elsewhere
    assert one.path == tmp_path / "sweeps" / one.sweep_id


def test_another_design_gets_another_folder(tmp_path: Path) -> None:
    one = open_sweep(tmp_path, None, [plan()], ["seed"])
    assert open_sweep(tmp_path, None, [plan(("train.n_samples", 5))], ["seed"]).path != one.path
    assert open_sweep(tmp_path, None, [plan()], ["train.n_samples", "seed"]).path != one.path


def test_another_design_in_the_same_folder_is_refused_with_the_difference(tmp_path: Path) -> None:
    open_sweep(tmp_path, str(tmp_path / "s"), [plan()], ["seed"])
    with pytest.raises(SweepError) as caught:
        open_sweep(
            tmp_path,
            str(tmp_path / "s"),
            [plan(("train.n_samples", 5), ("pool.candidate.tau_sd", 0.5))],
            ["seed"],
        )
    for part in (
        "train.n_samples: 2000 there, 5 asked",
        "pool.candidate.tau_sd: 1.5 there, 0.5 asked",
        "sweep_dir",
    ):
        assert part in str(caught.value)


def test_other_swept_keys_are_refused(tmp_path: Path) -> None:
    open_sweep(tmp_path, str(tmp_path / "s"), [plan()], ["seed"])
    with pytest.raises(SweepError, match=r"sweep over \['seed'\], not over \['train\.n_samples'\]"):
        open_sweep(tmp_path, str(tmp_path / "s"), [plan()], ["train.n_samples"])


def test_a_swept_group_may_differ(tmp_path: Path) -> None:
    one = plan(("mixture.kind", "equal"))
    two = plan(("mixture.kind", "natural"))
    assert open_sweep(tmp_path, None, [one], ["mixture"]) == open_sweep(tmp_path, None, [two], ["mixture"])


def test_a_folder_with_other_things_in_it_is_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SweepError, match="is not empty and is no sweep"):
        open_sweep(tmp_path, str(tmp_path), [plan()], ["seed"])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_sweep_of_another_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "sweep.json", {"format": 99})
    with pytest.raises(OtherVersionError, match="format 99; this version reads format 1"):
        open_sweep(tmp_path, str(tmp_path), [plan()], ["seed"])


@pytest.mark.parametrize("run_id", ["..", "../x", "a/b", "", ".", "/etc", "a b", "a\n"])
def test_run_ids_stay_in_the_folder(run_id: str, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="is not a run id"):
        SweepFolder(tmp_path, "s").run_dir(run_id)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), values, max_size=4))
def test_flat_keys_hold_every_leaf(nested: dict[str, Any]) -> None:
    def restore(flat: dict[str, Any]) -> dict[str, Any]:
        whole: dict[str, Any] = {}
        for key, value in flat.items():
            *parents, leaf = key.split(".")
            inner = whole
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[leaf] = value
        return whole

    assert restore(flatten(nested)) == nested


# --- points ---------------------------------------------------------------------------------------------


def test_points_come_back_as_they_were(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "s")
    runs = [
        plan(("seed", 1)),
        plan(("seed", 2), ("pool.candidate.tau", {"math": {"hes": 0.1 + 0.2}})),
        plan(),
    ]
    before = copy.deepcopy([run.plain for run in runs])
    path = write_points(folder, [make_entry(run) for run in runs])
    entries = read_points(path)
    assert list(entries) == [run.run_id for run in runs]
    assert [entries[run.run_id]["plain"] for run in runs] == before
    for run in runs:  # the worker hashes to the same id
        assert make_run_id(describe_identity(entries[run.run_id]["plain"], "0" * 16)) == run.run_id


def test_the_same_points_are_one_file(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "s")
    entries = [make_entry(plan(("seed", seed))) for seed in range(3)]
    assert write_points(folder, entries) == write_points(folder, copy.deepcopy(entries))
    assert write_points(folder, entries[:2]) != write_points(folder, entries)


def test_many_points_cost_little(tmp_path: Path) -> None:
    entries = [make_entry(plan(("seed", seed))) for seed in range(512)]
    path = write_points(SweepFolder(tmp_path, "s"), entries)
    assert path.stat().st_size < 512 * 400  # common values stand there once


def test_a_damaged_table_of_points_is_named(tmp_path: Path) -> None:
    path = write_points(SweepFolder(tmp_path, "s"), [make_entry(plan())])
    whole = path.read_text()
    path.write_text(whole[:100])
    with pytest.raises(RecordError, match=f"{path.name} is not whole JSON"):
        read_points(path)
    for changed in (whole.replace("a", "b", 1), "[]"):
        path.write_text(changed)
        with pytest.raises(RecordError, match=f"{path.name} is not what was written"):
            read_points(path)


def test_a_changed_header_is_named(tmp_path: Path) -> None:
    folder = open_sweep(tmp_path, None, [plan()], ["seed"])
    header = folder.path / "sweep.json"
    header.write_text(header.read_text().replace("seed", "sied"))
    with pytest.raises(RecordError, match=r"sweep\.json is not what was written"):
        open_sweep(tmp_path, None, [plan()], ["seed"])


# --- lock -----------------------------------------------------------------------------------------------


def _hold(path: Path, held: Any) -> None:
    with hold_lock(SweepFolder(path, "s")):
        held.set()
        time.sleep(60)


def test_a_second_launch_is_refused_with_the_holder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, held), daemon=True)
    holder.start()
    try:
        assert held.wait(60)
        with (
            pytest.raises(SweepError, match=rf"another launch \(process {holder.pid}\) works on the sweep"),
            hold_lock(SweepFolder(tmp_path, "s"), wait_s=0.3),
        ):
            pass
    finally:
        holder.kill()
        holder.join()
    with hold_lock(SweepFolder(tmp_path, "s"), wait_s=5):
        pass  # the lock dies with its process


def test_without_locks_a_claim_keeps_a_second_launch_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(launch_lock, "LAUNCH_LEASE_S", 2.0)
    folder = SweepFolder(tmp_path, "s")
    with (
        hold_lock(folder),
        pytest.raises(SweepError, match=r"another launch \(on .*\) works on the sweep"),
        hold_lock(folder),
    ):
        pass
    with hold_lock(folder):
        pass  # let go


# --- status ---------------------------------------------------------------------------------------------


def test_status_counts_what_the_records_say(tmp_path: Path) -> None:
    runs = [plan(("seed", seed)) for seed in range(7)]
    folder = open_sweep(tmp_path, str(tmp_path / "s"), runs, ["seed"])
    write_points(folder, [make_entry(run) for run in runs[:5]])
    write_points(folder, [make_entry(run) for run in runs[3:]])
    ids = [run.run_id for run in runs]
    for run_id in ids[:2]:
        write_record(folder.run_dir(run_id), Record(run_id, "complete", row=ROW))
    for run_id in ids[2:4]:
        write_record(folder.run_dir(run_id), Record(run_id, "failed", cause="no luck"))
    write_record(folder.run_dir(ids[4]), Record(ids[4], "timed_out", cause="too long"))
    (folder.run_dir(ids[5])).mkdir(parents=True)
    (folder.run_dir(ids[5]) / "record.json").write_text("{")
    status = read_status(folder.path)
    assert status.asked == 7
    assert status.by_status == {"complete": 2, "failed": 2, "timed_out": 1, "damaged": 1, "unfinished": 1}
    assert sum(status.by_status.values()) == status.asked
    assert status.wall_s == 4.0
    assert next(iter(status.causes.items())) == ("no luck", 2)
    assert any("not whole JSON" in cause for cause in status.causes)


def test_status_names_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_sweep(tmp_path, None, [plan()], ["seed"])
    assert "disk:" not in replace(read_status(folder.path), free_bytes=LITTLE_SPACE).render()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    assert "  disk: 0.0 MB free; runs need space" in read_status(folder.path).render()


def test_causes_that_differ_in_numbers_alone_are_one() -> None:
    causes = ["Step 2: documents 3, 14, 15.", "no luck", "Step 9: documents 26, 5.", "Step 3: documents 58."]
    assert count_causes(causes) == {"Step 2: documents 3, 14, 15.": 3, "no luck": 1}


def test_who_watches_is_let_go_when_nobody_works_any_more() -> None:
    assert SweepStatus("s", asked=2, by_status={"complete": 2}, tasks={"RUNNING": 1}).is_over
    rest = {"complete": 1, "failed": 1}
    assert SweepStatus("s", asked=2, by_status=rest, attempts=2).is_over
    for going in (
        SweepStatus("s", asked=2, by_status=rest, attempts=2, tasks={"PENDING": 1}),
        SweepStatus("s", asked=2, by_status=rest, attempts=2, tasks=None),  # the controller is silent
        SweepStatus("s", asked=2, by_status={"running": 1, "failed": 1}, attempts=2),
        SweepStatus("s", asked=2, by_status=rest),  # on this machine: nobody knows
    ):
        assert not going.is_over


def test_status_of_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"no sweep folder: it has no sweep\.json"):
        read_status(tmp_path)
