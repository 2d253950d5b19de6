"""Files that are whole or absent, and fingerprints of what they hold."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from causalmix.errors import CausalMixError, OtherVersionError, RecordError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""What a full disk, or a used-up quota, says."""

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems without locks say (Lustre without the ``flock`` option, NFS without a lock manager)."""


class DiskFullError(CausalMixError, OSError):
    """The disk filled up while a file was written; the file of before, if any, is untouched."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` on a temporary neighbour of ``path``, sync it, and move it into place.

    A reader sees the old file or the new one, never a part: the temporary name is unique, the data
    and the folder entry are synced, and a failure leaves nothing behind.

    Raises
    ------
    DiskFullError
        Where no space is left, naming the file and what to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(temporary)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFullError(
                f"no space left on the disk ({error.strerror}) while writing {path}; nothing that was there is lost. "
                f"Free some space and run the same command again: what is complete is not repeated."
            ) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, atomically. NaN and infinity are refused: JSON has no such numbers."""
    text = json.dumps(content, indent=1, sort_keys=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a damaged one is named instead of guessed at.

    Raises
    ------
    RecordError
        Where the file is not whole JSON (a half-written or flipped file).
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{path} is not whole JSON ({error}). It was cut short or damaged; "
            f"delete it and run the same command again."
        ) from error


def seal(content: dict[str, Any]) -> dict[str, Any]:
    """Add the hash of JSON-like content to it, so that a reader can tell whether a bit of it was flipped."""
    return {**content, "sha256": fingerprint(content, 64)}


def break_seal(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Take the hash off again; content without one (of an earlier version) passes as it is.

    Raises
    ------
    RecordError
        Where content and hash differ, naming ``path``.
    """
    bare = {key: value for key, value in content.items() if key != "sha256"}
    if "sha256" in content and content["sha256"] != fingerprint(bare, 64):
        raise RecordError(
            f"{path} is not what was written: a disk, a network or a hand changed it. Delete it and run the same "
            f"command again."
        )
    return bare


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with the hash of it, atomically."""
    write_json(path, seal(content))


def read_sealed(path: Path, version: int) -> dict[str, Any]:
    """Read a JSON object of this version, without its hash.

    Raises
    ------
    RecordError
        Where the file is damaged, or was changed by hand.
    OtherVersionError
        Where its ``format`` is not ``version``.
    """
    content = read_json(path)
    if isinstance(content, dict):
        content = break_seal(path, content)  # first: a flipped bit makes no other version
    if not isinstance(content, dict) or content.get("format") != version:
        given = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise OtherVersionError(
            f"{path} has format {given!r}; this version reads format {version}. "
            f"Read it with the version that wrote it, or use another sweep_dir."
        )
    return content


def fingerprint(content: Any, length: int = 16) -> str:
    """Hash JSON-like content into ``length`` hexadecimal digits; the order of keys does not matter."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def is_folder_name(name: str) -> bool:
    """Tell whether a name can stand in a path and lead nowhere else."""
    return re.fullmatch(r"\w[\w.+-]*", name) is not None


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
