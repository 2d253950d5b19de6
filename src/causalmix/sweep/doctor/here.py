"""What can be found out on this machine: packages, the shared folder, its disk and clock, Weights & Biases."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from causalmix.errors import name_some
from causalmix.files import NO_SPACE, sync
from causalmix.sweep.doctor.finding import Finding, Question

LEAST_FREE = 2_000_000_000  # bytes: 512 small proxies and a pool
LEAST_FILES = 50_000  # 512 runs write some 25 files each, claims and logs included
TRIAL_BYTES = 64_000_000  # allocated and given back: a quota says no where a free disk would not
SLOW_SYNC_S = 0.5
SKEW_S = 5.0
LOCAL_KINDS = ("tmpfs", "ramfs", "overlay")
LOCK_LINE = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")

PYTHON = Question("python", "workers run with this very interpreter; older ones lack what the code uses")
PACKAGES = Question("packages", "versions other than the tested ones may fail, or give other numbers")
LINKS = Question("folder: hard links", "a run is claimed by link(2), which exactly one worker wins")
SYNC = Question("folder: fsync", "a record counts as written when it is on the disk, also after a power cut")
KIND = Question("folder: file system", "all nodes must see the sweep's folder")
SPACE = Question("disk", "a full disk or quota stops every run at once")
CLOCK = Question("clock", "`causalmix status` tells silent workers by times of files (workers compare no clocks)")
TRACKER = Question("tracker", "runs that cannot reach Weights & Biases wait for it, or lose their mirror")


def check_python() -> Iterator[Finding]:
    """Name the interpreter; an older one than the project needs cannot read this file."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield PYTHON.good(f"{version} ({sys.executable})")


def check_packages(root: Path) -> Iterator[Finding]:
    """Compare installed packages with the lock."""
    lock = root / "requirements.lock"
    if not lock.is_file():
        yield PACKAGES.skip(f"no requirements.lock in {root}")
        return
    found_lines = (LOCK_LINE.match(line) for line in lock.read_text().splitlines())
    pinned = {line[1]: line[2] for line in found_lines if line}
    missing, other = [], []
    for name, version in pinned.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found.split("+")[0] != version.split("+")[0]:  # a local build of the same version is the same version
            other.append(f"{name} {found} (lock: {version})")
    if missing:
        yield PACKAGES.fail(f"{len(missing)} of {len(pinned)} are missing: {name_some(missing)}", "`make .venv`")
    if other:
        yield PACKAGES.warn(f"{len(other)} of {len(pinned)} differ from the lock: {name_some(other)}", "`make .venv`")
    if not missing and not other:
        yield PACKAGES.good(f"{len(pinned)} as in requirements.lock")


def check_folder(folder: Path, is_shared: bool) -> Iterator[Finding]:
    """Try what claims and records do, in a new folder inside of ``folder``."""
    trial = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        trial.mkdir(parents=True)
    except OSError as error:
        yield KIND.fail(f"{folder} cannot be written: {error.strerror}", "another outputs=DIR, or ask for the right")
        return
    try:
        yield check_kind(folder, is_shared)
        yield check_links(trial)
        yield check_sync(trial)
        yield check_clock(trial)
        yield check_space(trial)
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def check_kind(folder: Path, is_shared: bool) -> Finding:
    """Look for file systems that no other node can see."""
    kind, mount = find_mount(folder)
    said = f"{folder} lies on {kind} (mounted at {mount})"
    if is_shared and kind in LOCAL_KINDS:
        return KIND.warn(f"{said}, which is this machine's own", "outputs=DIR on a file system that all nodes mount")
    return KIND.good(said)


def check_links(trial: Path) -> Finding:
    """Try link(2), as claims do."""
    first, second = trial / "first", trial / "second"
    first.touch()
    try:
        os.link(first, second)
    except OSError as error:
        return LINKS.fail(f"link(2) says {error.strerror}", "outputs=DIR on a file system with hard links")
    if first.stat().st_nlink != 2:
        return LINKS.fail("link(2) works but the file does not count its links", "outputs=DIR on another file system")
    with contextlib.suppress(FileExistsError):
        os.link(first, second)
        return LINKS.fail("link(2) replaced a file that was there", "outputs=DIR on another file system")
    return LINKS.good("made once, counted, and refused the second time")


def check_sync(trial: Path) -> Finding:
    """Write as a record is written, and time it."""
    begun = time.perf_counter()
    try:
        path = trial / "record"
        path.write_text("whole")
        sync(path)
        path.rename(trial / "record.json")
        sync(trial)
    except OSError as error:
        return SYNC.fail(f"fsync says {error.strerror}", "outputs=DIR on another file system")
    took_s = time.perf_counter() - begun
    said = f"a record takes {took_s * 1000:.0f} ms to write and sync"
    return SYNC.warn(said, "a quieter file system: runs wait for theirs") if took_s > SLOW_SYNC_S else SYNC.good(said)


def check_clock(trial: Path) -> Finding:
    """Compare this machine's clock with the file server's."""
    path = trial / "now"
    before = time.time()
    path.touch()
    skew_s = path.stat().st_mtime - before
    said = f"the file system's is {skew_s:+.1f} s off this machine's"
    return CLOCK.warn(said, "NTP on both") if abs(skew_s) > SKEW_S else CLOCK.good(said)


def check_space(trial: Path) -> Finding:
    """Look at free bytes and files, and allocate some: a quota counts too."""
    stats = os.statvfs(trial)
    free, files = stats.f_bavail * stats.f_frsize, stats.f_favail
    said = f"{free / 1e9:,.1f} GB and {files:,} files free" if stats.f_files else f"{free / 1e9:,.1f} GB free"
    try:
        with (trial / "trial").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, TRIAL_BYTES)
    except OSError as error:
        if error.errno in (*NO_SPACE, errno.EFBIG):
            return SPACE.fail(
                f"{said}, but {TRIAL_BYTES / 1e6:.0f} MB are refused: {error.strerror}", "free some space"
            )
    if free < LEAST_FREE or (stats.f_files and files < LEAST_FILES):
        return SPACE.warn(said, "free some; `plan=true` says how much a sweep takes")
    return SPACE.good(said)


def check_tracker(mode: str) -> Iterator[Finding]:
    """Look whether Weights & Biases can be reached where runs want it."""
    if mode != "online":
        yield TRACKER.skip(f"tracker.mode={mode} needs no network")
        return
    if not has_key():
        yield TRACKER.fail("no WANDB_API_KEY here, and no key in ~/.netrc", "`wandb login`, or tracker=offline")
    yield reach_tracker("here")


def reach_tracker(where: str) -> Finding:
    """Open a connection to the server of Weights & Biases."""
    address = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    port = address.port or (443 if address.scheme == "https" else 80)
    said = f"{address.hostname}:{port} from {where}"
    try:
        socket.create_connection((address.hostname or "", port), timeout=10).close()
    except OSError as error:
        return TRACKER.fail(f"{said}: {error}", "tracker=offline, then `wandb sync` where there is a network")
    return TRACKER.good(said)


def has_key() -> bool:
    """Tell whether there is a key, without reading it into anything that is written."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return "wandb" in (Path.home() / ".netrc").read_text()
    except OSError:
        return False


def find_mount(folder: Path) -> tuple[str, str]:
    """Find the kind of a folder's file system and where it is mounted; "unknown" where the system does not say."""
    found = ("unknown", "?")
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return found
    longest = -1
    for line in lines:
        _, mount, kind, *_ = line.split()
        mount = mount.replace("\\040", " ")
        if folder.resolve().is_relative_to(mount) and len(mount) >= longest:
            longest, found = len(mount), (kind, mount)
    return found
