"""A store on disk: what was changed is found on opening, in little time; what leads out of it is refused."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from causalmix.cli import app
from causalmix.errors import CausalMixError, PoolError
from causalmix.files import DiskFullError, read_json
from causalmix.pool import checksum, ingest
from causalmix.pool.checksum import Checksums
from causalmix.pool.prepare import prepare
from causalmix.pool.sources import find_sources
from causalmix.pool.store import Pool, open_pool
from tests.pool.conftest import make_records, tiny_config

FILES = ("tokens/tokens.bin", "tokens/labels.bin", "documents/documents.parquet", "scores/raw.npy", "state.json")


@pytest.fixture
def copied(pool: Pool, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pool.path, tmp_path / "store"))


def flip_byte(path: Path, *, keep_times: bool) -> None:
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def make_old(folder: Path, seconds: int = 60) -> None:
    """Let files look settled: their hashes are then remembered."""
    now = time.time_ns() - seconds * 10**9
    for path in folder.rglob("*"):
        os.utime(path, ns=(now, now))


# --- changed files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_times", [False, True])
@pytest.mark.parametrize("name", FILES[:4])
def test_a_changed_byte_is_found_on_opening(
    copied: Path, monkeypatch: pytest.MonkeyPatch, name: str, keep_times: bool
) -> None:
    monkeypatch.setattr(checksum, "SETTLED_NS", 0)  # everything is remembered at once: the hardest case
    open_pool(copied)
    open_pool(copied)
    flip_byte(copied / name, keep_times=keep_times)
    with pytest.raises(PoolError, match=f"damaged: {name} \\(its content was changed\\)"):
        open_pool(copied)


def test_every_file_is_hashed(pool: Pool) -> None:
    files = pool.facts["files"]
    assert set(FILES[:4]) <= set(files)
    assert {"bytes", "sha256"} == set(files["tokens/tokens.bin"])
    for name, written in files.items():
        assert hashlib.sha256((pool.path / name).read_bytes()).hexdigest() == written["sha256"]


def test_a_settled_store_is_not_read_again(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "SETTLED_NS", 0)
    open_pool(copied)
    monkeypatch.setattr(hashlib, "file_digest", None)
    open_pool(copied)
    with pytest.raises(TypeError):
        open_pool(copied, verify=True)


def test_a_store_just_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    checksums = Checksums(tmp_path / "cache.json")
    checksums.hash_files([path])
    assert checksums.known == {}


def test_verify_reads_what_the_times_hide(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "SETTLED_NS", 0)
    open_pool(copied)
    runner = CliRunner()
    result = runner.invoke(app, ["pool", "verify", str(copied)])
    assert result.exit_code == 0
    assert "all as they were written" in result.output
    # A byte that rots on the disk moves no time: only reading finds it.
    flip_byte(copied / FILES[0], keep_times=True)
    monkeypatch.setattr(checksum, "read_stamp", lambda path: [0, 0, 0, 0])
    result = runner.invoke(app, ["pool", "verify", str(copied)])
    assert isinstance(result.exception, PoolError)
    assert "tokens/tokens.bin (its content was changed)" in str(result.exception)


def test_a_damaged_or_foreign_cache_is_no_cache(copied: Path) -> None:
    open_pool(copied)
    for content in ("{", "[]", '{"a": 3}', '{"a": [[1], 2]}'):
        (copied / ".verified.json").write_text(content)
        open_pool(copied)


def test_a_copy_is_read_once_and_opens(copied: Path, tmp_path: Path) -> None:
    make_old(copied)
    open_pool(copied)
    moved = Path(shutil.copytree(copied, tmp_path / "other"))
    assert open_pool(moved).fingerprint == open_pool(copied).fingerprint


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_on_a_read_only_disk_opens(copied: Path) -> None:
    copied.chmod(0o555)
    open_pool(copied)


# --- what leads out of a store ---------------------------------------------------------------------------


def test_links_out_of_the_store_are_refused(copied: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.bin"
    shutil.move(copied / "tokens" / "tokens.bin", outside)
    (copied / "tokens" / "tokens.bin").symlink_to(outside)
    with pytest.raises(PoolError, match=r"tokens.bin leads out of the store \(to .*outside.bin\)"):
        open_pool(copied)


def test_names_in_pool_json_are_no_paths(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    text = (copied / "pool.json").read_text()
    (copied / "pool.json").write_text(text.replace('"tokens/labels.bin"', '"../secret"'))
    with pytest.raises(PoolError, match=r"damaged: ../secret \(no bytes instead of"):
        open_pool(copied)


def test_arrays_with_objects_are_not_unpickled(copied: Path, tmp_path: Path) -> None:
    import json

    import numpy as np

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    path = copied / "scores" / "raw.npy"
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    facts = json.loads((copied / "pool.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts["files"]["scores/raw.npy"] = {"bytes": path.stat().st_size, "sha256": digest}
    (copied / "pool.json").write_text(json.dumps(facts))
    with pytest.raises(PoolError, match=r"raw\.npy is no array of numbers"):
        open_pool(copied)
    assert not (tmp_path / "exploded").exists()


# --- sources ---------------------------------------------------------------------------------------------


def test_sources_are_hashed_once_and_again_when_they_change(
    write_lines: Callable[[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksum, "SETTLED_NS", 0)
    path = write_lines("data/a.jsonl", make_records("a", 5))
    cfg = tiny_config(source="jsonl", path=str(tmp_path / "data"))
    cache = tmp_path / "outputs" / ".hashes.json"

    def hash_sources() -> Any:
        return find_sources(cfg).hash_content(Checksums(cache))

    first = hash_sources()
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)
        assert hash_sources() == first
    flip_byte(path, keep_times=True)
    assert hash_sources() != first


# --- a disk that fills -----------------------------------------------------------------------------------


def test_a_full_disk_while_reading_keeps_the_shards_that_are_whole(
    write_lines: Callable[[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write_lines(f"data/{name}.jsonl", make_records(name, 30))
    cfg = tiny_config(source="jsonl", path=str(tmp_path / "data"), n_workers=1)
    cfg.scores.rater.pairs = "corrupted"
    expected = open_pool(prepare(cfg, tmp_path / "expected", progress=False))
    writer, made = ingest.DocumentWriter, []

    class Full(writer):  # type: ignore[misc, valid-type]
        def __init__(self, path: Path) -> None:
            if len(made) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            made.append(path)
            super().__init__(path)

    monkeypatch.setattr(ingest, "DocumentWriter", Full)
    with pytest.raises(
        DiskFullError, match=r"no space left on the disk while making .*documents; .*run the same command"
    ):
        prepare(cfg, tmp_path / "outputs", progress=False)
    made[:] = [Path("the disk has room again")]
    pool = open_pool(prepare(cfg, tmp_path / "outputs", progress=False))
    assert len(made) == 2  # one of three shards was left
    assert pool.fingerprint == expected.fingerprint
    assert not list(pool.path.glob(".*.work"))


@pytest.mark.slow
def test_a_disk_that_fills_half_way(pool: Pool, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small tmpfs; the test before fills the disk by other means")
    try:
        cfg = tiny_config(store_dir=str(disk / "store"))
        with pytest.raises(CausalMixError, match="no space left on the disk"):
            prepare(cfg, tmp_path, progress=False)
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        assert open_pool(prepare(cfg, tmp_path, progress=False)).fingerprint == pool.fingerprint
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_a_killed_preparation_goes_on(pool: Pool, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from causalmix.pool import tokens\nfrom causalmix.pool.prepare import prepare\n"
        "from tests.pool.conftest import tiny_config\n"
        "join = tokens.join_parts\n"
        "tokens.join_parts = lambda *a: (join(*a), os.kill(os.getpid(), signal.SIGKILL))\n"
        f"prepare(tiny_config(), Path({str(tmp_path)!r}), progress=False)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert ended.returncode == -9, ended.stderr.decode()
    (root,) = (tmp_path / "pools").glob("tiny-*")
    assert list((root / ".tokens.work").glob("*.json"))
    assert not (root / "tokens").exists()
    assert open_pool(prepare(tiny_config(), tmp_path, progress=False)).fingerprint == pool.fingerprint
    assert read_json(root / "pool.json")["n_documents"] == 400
    assert not list(root.glob(".*.work"))
