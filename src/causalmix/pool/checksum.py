"""SHA-256 of files, remembered: a file is read again only where its size, inode or times say that it may differ.

``ctime`` is among them: it moves with every write and, unlike ``mtime``, no call sets it back. So a changed byte
is found whoever changed it and however; a byte that rots on the disk by itself is found by reading everything
(``fresh=True``, which ``causalmix pool verify`` asks for).
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

from causalmix.errors import RecordError
from causalmix.files import read_json, write_json

Stamp = list[int]

# A file written less than this ago is not remembered: another write within the clock's tick would look the same.
SETTLED_NS = 2_000_000_000


class Checksums:
    """Hashes of files, kept in a JSON file.

    Parameters
    ----------
    cache : Path or None
        Where the hashes are kept. None remembers nothing; a folder that cannot be written costs a reading a time.
    fresh : bool
        Read every file, whatever is remembered.
    """

    def __init__(self, cache: Path | None, *, fresh: bool = False) -> None:
        self.cache = cache
        self.known: dict[str, tuple[Stamp, str]] = {}
        self.is_changed = False
        if cache is not None and cache.is_file() and not fresh:
            with contextlib.suppress(RecordError, OSError, ValueError, TypeError, AttributeError):
                # A damaged cache is no cache.
                self.known = {name: (list(stamp), str(digest)) for name, (stamp, digest) in read_json(cache).items()}

    def hash_files(self, paths: Iterable[Path]) -> list[str]:
        """SHA-256 of each file, in hexadecimal digits."""
        digests = [self._hash(path) for path in paths]
        self._save()
        return digests

    def _hash(self, path: Path) -> str:
        name = str(path.absolute())
        stamp = read_stamp(path)
        known = self.known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        self.known.pop(name, None)
        if read_stamp(path) == stamp and time.time_ns() - max(stamp[1:3]) > SETTLED_NS:
            self.known[name] = (stamp, digest)
        self.is_changed = True
        return digest

    def _save(self) -> None:
        if self.cache is None or not self.is_changed:
            return
        with contextlib.suppress(OSError):  # a store on a read-only disk opens all the same, a little later
            write_json(self.cache, {name: [stamp, digest] for name, (stamp, digest) in sorted(self.known.items())})
            self.is_changed = False


def read_stamp(path: Path) -> Stamp:
    """Size, mtime and ctime in nanoseconds, inode."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
