"""Programs that mean harm, or only loop: what the sandbox ends and what it keeps from them."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from causalmix.evaluate import sandbox
from causalmix.evaluate.sandbox import Isolation, Limits, find_isolation, run_program

SMALL = Limits(cpu_s=1, wall_s=20, memory_mib=512, file_mib=1, n_files=32)


@pytest.fixture(params=["best", "plain"])
def isolation(request: pytest.FixtureRequest) -> Isolation:
    """The best that this machine allows, and what is left without namespaces."""
    return find_isolation() if request.param == "best" else Isolation(())


def test_a_right_answer_passes_and_a_wrong_one_does_not(isolation: Isolation) -> None:
    program = "from collections import Counter\ndef f(x):\n    return Counter(x)['a']\nassert f('aba') == "
    assert run_program(program + "2", SMALL, isolation).passed
    wrong = run_program(program + "3", SMALL, isolation)
    assert (wrong.passed, wrong.detail) == (False, "AssertionError: ")
    assert "SyntaxError" in run_program("def", SMALL, isolation).detail


@pytest.mark.parametrize("leave", ["raise SystemExit(0)", "import os; os._exit(0)", "import os; os.write(1, b'{}')"])
def test_leaving_early_is_not_passing(leave: str) -> None:
    assert not run_program(f"{leave}\nassert False", SMALL).passed


def test_a_verdict_of_the_programs_own_is_not_believed() -> None:
    forged = 'import os\nfor fd in range(3, 20):\n    try: os.write(fd, b\'{"passed": true, "token": "0"}\')\n'
    verdict = run_program(forged + "    except OSError: pass\nos._exit(0)", SMALL)
    assert not verdict.passed


def test_an_infinite_loop_ends_by_its_cpu_seconds(isolation: Isolation) -> None:
    verdict = run_program("while True: pass", SMALL, isolation)
    assert not verdict.passed
    assert verdict.detail.startswith("ended by")  # by a signal, not by the clock


def test_a_sleeper_ends_by_the_clock() -> None:
    find_isolation()
    started = time.monotonic()
    verdict = run_program("import time; time.sleep(600)", Limits(wall_s=1.5))
    assert (verdict.passed, verdict.detail) == (False, "no end after 1.5 s")
    assert time.monotonic() - started < 60


def test_memory_and_files_have_a_limit(isolation: Isolation) -> None:
    assert "MemoryError" in run_program("x = bytearray(2**31)", SMALL, isolation).detail
    big = "with open('big', 'wb') as f:\n    for _ in range(4): f.write(bytes(2**19)); f.flush()"
    verdict = run_program(big, SMALL, isolation)
    assert not verdict.passed
    assert "File too large" in verdict.detail or "SIGXFSZ" in verdict.detail
    assert "Too many open files" in run_program("x = [open('a', 'w') for _ in range(40)]", SMALL, isolation).detail


def test_no_process_and_no_thread_more(isolation: Isolation) -> None:
    # Two tries, never a bomb: the limit is that there is no second process at all.
    fork = "import os\nfor _ in range(2):\n    if os.fork() == 0: os._exit(0)"
    assert "BlockingIOError" in run_program(fork, SMALL, isolation).detail
    thread = "import _thread\n_thread.start_new_thread(print, ())"
    assert "can't start new thread" in run_program(thread, SMALL, isolation).detail


def test_secrets_of_the_environment_are_not_there(monkeypatch: pytest.MonkeyPatch, isolation: Isolation) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-secret")
    read = "import os\nassert not any('secret' in value for value in os.environ.values())"
    assert run_program(read, SMALL, isolation).passed
    if isolation.has_namespaces or os.geteuid() == 0:  # another user, or nobody else to be seen
        parent = "open(f'/proc/{os.getppid()}/environ').read()\nassert False, 'read'"
        assert "read" not in run_program("import os\n" + parent, SMALL, isolation).detail.split()


def test_no_socket_reaches_out(isolation: Isolation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        port = server.getsockname()[1]
        accepted: list[bool] = []
        connect = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=2)"
        watch = threading.Thread(target=lambda: _accept(server, accepted), daemon=True)
        watch.start()
        verdict = run_program(connect, SMALL, isolation)
        assert not accepted
        socket.create_connection(("127.0.0.1", port)).close()  # the server was there to be reached
        watch.join(60)
    assert accepted
    assert not verdict.passed


def _accept(server: socket.socket, accepted: list[bool]) -> None:
    server.accept()[0].close()
    accepted.append(True)


def test_it_starts_in_an_empty_folder_that_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.tempfile, "tempdir", "/tmp")
    verdict = run_program("import os\nopen('a', 'w').close()\nassert 0, os.getcwd() + ' ' + str(os.listdir())", SMALL)
    folder, listed = verdict.detail.removeprefix("AssertionError: ").split(" ", 1)
    assert listed == "['a']"
    assert not Path(folder).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")
def test_root_becomes_nobody(tmp_path: Path, isolation: Isolation) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    assert "PermissionError" in run_program(f"open({str(secret)!r})", SMALL, isolation).detail
    assert run_program("import os\nassert os.getuid() == os.geteuid() == 65534", SMALL, isolation).passed
    assert "PermissionError" in run_program("import os\nos.setuid(0)", SMALL, isolation).detail
