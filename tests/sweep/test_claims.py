"""Claims: one winner, no late writer, whatever is killed, slow, damaged or full."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from causalmix.errors import LostClaimError, SweepError
from causalmix.files import DiskFullError
from causalmix.sweep import claims as module
from causalmix.sweep.claims import Claims, list_numbers
from causalmix.sweep.heart import Heart
from causalmix.sweep.processes import describe_process, is_gone
from tests.sweep.claiming import ELSEWHERE, LEASE_S, Clock, make_claims, publish

# --- one after the other -----------------------------------------------------------------------------


def test_a_claim_is_held_by_one(tmp_path: Path) -> None:
    clock = Clock()
    a, b = make_claims(tmp_path, clock), make_claims(tmp_path, clock, "b")
    claim = a.take("r1")
    assert claim is not None
    assert b.take("r1") is None
    publish(claim, tmp_path / "record.json")
    assert json.loads((tmp_path / "record.json").read_text()) == {"claim": 1}
    again = b.take("r1")  # it has ended: who finds the record lacking may go on
    assert again is not None
    assert again.number == 2


def test_a_silent_holder_loses_its_claim_after_the_lease_and_cannot_publish(tmp_path: Path) -> None:
    clock = Clock()
    a, b, c = (make_claims(tmp_path, clock, name) for name in "abc")
    slow = a.take("r1")
    assert slow is not None
    assert b.take("r1") is None  # the watch begins
    assert c.take("r1") is None
    clock.now += LEASE_S + 1
    taken = b.take("r1")
    assert taken is not None
    assert c.take("r1") is None, "reclaimed once"
    with pytest.raises(LostClaimError):
        slow.beat()
    publish(taken, tmp_path / "record.json")
    with pytest.raises(LostClaimError):
        publish(slow, tmp_path / "record.json")
    assert json.loads((tmp_path / "record.json").read_text()) == {"claim": 2}
    assert [attempt["job"] for attempt in a.history("r1")] == ["a", "b"]


def test_a_beating_holder_keeps_its_claim(tmp_path: Path) -> None:
    clock = Clock()
    a, b = make_claims(tmp_path, clock), make_claims(tmp_path, clock, "b")
    claim = a.take("r1")
    assert claim is not None
    for _ in range(5):
        assert b.take("r1") is None
        clock.now += LEASE_S - 1
        claim.beat()
    assert b.take("r1") is None
    assert b.is_seen_alive("r1")


def test_clocks_of_machines_are_never_compared(tmp_path: Path) -> None:
    fast, slow = Clock(), Clock()
    fast.now = 1e9
    a, b = make_claims(tmp_path, slow), make_claims(tmp_path, fast, "b")
    assert a.take("r1") is not None
    assert b.take("r1") is None
    for path in (tmp_path / "r1").iterdir():
        os.utime(path, (0, 0))  # the file server's clock is wrong too
    assert b.take("r1") is None


def test_who_lets_go_is_not_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    a, b = make_claims(tmp_path, clock), make_claims(tmp_path, clock, "b")
    claim = a.take("r1")
    assert claim is not None
    claim.end("preempted")
    assert b.take("r1") is not None
    assert [attempt["ended"] for attempt in b.history("r1")] == ["preempted", None]


def test_a_damaged_claim_costs_its_lease_and_is_fenced(tmp_path: Path) -> None:
    clock = Clock()
    a, b = make_claims(tmp_path, clock), make_claims(tmp_path, clock, "b")
    claim = a.take("r1")
    assert claim is not None
    (tmp_path / "r1" / "1.json").write_bytes(b'{"ticket": \xff')
    assert b.take("r1") is None
    clock.now += LEASE_S + 1
    assert b.take("r1") is not None
    with pytest.raises(LostClaimError):
        publish(claim, tmp_path / "record.json")


def test_an_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="not a run id"):
        make_claims(tmp_path, Clock()).take("../../etc")


@pytest.mark.parametrize("number", [28, 122], ids=["ENOSPC", "EDQUOT"])
def test_a_full_disk_is_named_and_the_claim_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    claim = make_claims(tmp_path, Clock()).take("r1")
    assert claim is not None

    def fill(descriptor: int) -> None:
        raise OSError(number, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill)
        with pytest.raises(DiskFullError, match="no space"):
            publish(claim, tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()
    publish(claim, tmp_path / "record.json")


# --- a death at every step -------------------------------------------------------------------------------

STEPS = {"link": os.link, "unlink": os.unlink, "rename": os.rename, "fsync": os.fsync, "open": os.open}


class KilledError(BaseException):
    """The process ends here: not even ``finally`` would run, so clean-up is undone by refusing every later step."""


def die_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Let the first ``step`` calls that touch the folder through, and none after."""
    done = 0

    def guard(call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done > step:
                raise KilledError
            return call(*arguments, **options)

        return guarded

    for name, call in STEPS.items():
        patch.setattr(os, name, guard(call))
    patch.setattr(Path, "unlink", guard(Path.unlink))
    patch.setattr(Path, "rename", guard(Path.rename))
    patch.setattr(Path, "touch", guard(Path.touch))


@pytest.mark.parametrize("step", range(12))
def test_a_death_at_any_step_neither_loses_nor_doubles_the_run(tmp_path: Path, step: int) -> None:
    clock = Clock()
    record = tmp_path / "record.json"
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, step)
        try:
            claim = make_claims(tmp_path, clock).take("r1")
            assert claim is not None
            publish(claim, record)
        except KilledError:
            pass
    survivor = make_claims(tmp_path, clock, "b")
    if record.exists():
        assert json.loads(record.read_text()) == {"claim": 1}
        return
    taken = survivor.take("r1")
    if taken is None:
        clock.now += LEASE_S + 1
        taken = survivor.take("r1")
    assert taken is not None
    publish(taken, record)
    assert json.loads(record.read_text()) == {"claim": taken.number}


# --- real processes -----------------------------------------------------------------------------------


def take_all(root: str, names: list[str], won: Any, stay: Any) -> None:
    claims = Claims(Path(root))
    won.put([name for name in names if claims.take(name)])
    stay.wait(60)  # a process that ended would be known to be gone


def test_of_many_processes_each_run_goes_to_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    names = [f"r{at}" for at in range(60)]
    won, stay = context.Queue(), context.Event()
    processes = [context.Process(target=take_all, args=(str(tmp_path), names, won, stay)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [name for _ in processes for name in won.get(timeout=60)]
    stay.set()
    for process in processes:
        process.join()
    assert sorted(found) == sorted(names)
    assert all(list_numbers(tmp_path / name) == [1] for name in names)


def test_a_killed_process_of_this_machine_is_not_waited_for(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from causalmix.sweep.claims import Claims;"
        "assert Claims(Path(sys.argv[1])).take('r1'); print('held', flush=True); time.sleep(60)"
    )
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={**os.environ, **paths}
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    claims = Claims(tmp_path)
    assert claims.take("r1") is None
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert claims.take("r1") is not None
    assert Claims(tmp_path).take("r1") is None  # this process lives


def test_a_process_elsewhere_may_live(tmp_path: Path) -> None:
    own = describe_process()
    assert not is_gone(ELSEWHERE, own)
    assert not is_gone(own, own)
    assert is_gone({**own, "started": -1}, own), "the number was given to another process since"


def test_the_heart_beats_and_hears_of_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causalmix.sweep.heart.BEATS_A_LEASE", 50)
    claim = make_claims(tmp_path, Clock()).take("r1")
    assert claim is not None
    with Heart(claim, lease_s=1.0) as heart:
        for _ in range(200):
            if claim.beats > 2:
                break
            heart._stop.wait(0.02)
        assert claim.beats > 2
        heart.check()
        module.remove_ticket(claim.folder, claim.number)
        heart._thread.join(timeout=10)
        with pytest.raises(LostClaimError):
            heart.check()
