"""The framing of a ``.wandb`` file: a log in the manner of LevelDB, cut short where its writer was killed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from causalmix.errors import TableError
from causalmix.files import write_atomically

BLOCK = 32768
_START = struct.Struct("<4sHB")  # name, magic number, version
_CHUNK = struct.Struct("<IHB")  # crc32 of kind and data, length, kind
_NAME, _MAGIC, _VERSION = b":W&B", 0xBEE1, 0
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_log(path: Path) -> Iterator[Any]:
    """Read a ``.wandb`` file, record by record.

    The file ends where it was torn: at the first chunk that is not whole or whose checksum is wrong,
    for what follows cannot be placed. That is what a killed run leaves, and a live one.

    Yields
    ------
    wandb.proto.wandb_internal_pb2.Record

    Raises
    ------
    TableError
        A file that is none of W&B's, of another version, or that cannot be read.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    for data, _ in _read_chunks(path):
        record = Record()
        try:
            record.ParseFromString(data)
        except DecodeError:  # the checksum was right, so this is no torn tail but another format
            raise TableError(
                f"{path}: holds records that this version of W&B ({_find_version()}) cannot read."
            ) from None
        yield record


def cut_torn_tail(path: Path) -> bool:
    """Shorten a file to its last whole record, where it was torn behind that; W&B itself uploads no torn file.

    Only for a file whose writer is dead.

    Returns
    -------
    bool
        Whether something was cut off: bytes that nothing could read.
    """
    ends = [_START.size, *(end for _, end in _read_chunks(path))]
    content = path.read_bytes()
    if len(content) <= ends[-1]:
        return False

    def write(temporary: Path) -> None:
        temporary.write_bytes(content[: ends[-1]])

    write_atomically(path, write)
    return True


def _read_chunks(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the data of every whole record, and where it ends in the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error}).") from error
    if len(content) < _START.size:
        return  # killed before the first byte was written out
    if _START.unpack_from(content) != (_NAME, _MAGIC, _VERSION):
        raise TableError(f"{path}: is no W&B file, for it begins with {content[: _START.size]!r}.")
    at, parts = _START.size, b""
    while at + _CHUNK.size <= len(content):
        left = BLOCK - at % BLOCK
        if left < _CHUNK.size:  # too short for a chunk: padding
            at += left
            continue
        checksum, length, kind = _CHUNK.unpack_from(content, at)
        data = content[at + _CHUNK.size : at + _CHUNK.size + length]
        if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            return
        at += _CHUNK.size + length
        parts = data if kind in (_WHOLE, _FIRST) else parts + data
        if kind in (_WHOLE, _LAST):
            yield parts, at


def _find_version() -> str:
    import wandb

    return str(wandb.__version__)
