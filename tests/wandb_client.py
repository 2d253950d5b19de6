"""The real W&B client, its core process included, talking to a server on the loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from causalmix.track import session
from tests.wandb_server import KEY, WandbServer


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A W&B server that the client of this process asks, and nobody else; the client's process ends with the test."""
    import wandb

    own = tmp_path_factory.mktemp("wandb")
    wandb.teardown()  # settings are read from the environment once
    with WandbServer() as started:
        monkeypatch.setenv("WANDB_BASE_URL", started.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_ENTITY", "WANDB_PROJECT"):
            monkeypatch.delenv(name, raising=False)
        for name in ("CONFIG", "CACHE", "DATA"):
            monkeypatch.setenv(f"WANDB_{name}_DIR", str(own))
        monkeypatch.setattr(session, "_process", {})
        yield started
        started.fault = lambda _what, _n: "500"
        started.closing.set()
        wandb.teardown()


def find_clients(server: WandbServer) -> set[int]:
    """List the processes, of whatever parent, that were started to talk to a server."""
    asked = f"WANDB_BASE_URL={server.url}".encode()
    found = set()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if asked in environment.read_bytes().split(b"\0"):
                found.add(int(environment.parent.name))
        except OSError:
            continue
    return found


def list_children() -> set[int]:
    """List the processes that this one has started and that live."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found
