"""Records of a shard, one at a time: what is not a record is named with its line, and reading goes on."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from causalmix.errors import PoolError
from causalmix.pool.documents import Problems
from causalmix.pool.sources import Shard

Record = dict[str, Any]
LINE_BYTES = 128 * 2**20  # a longer line is named, not read: a small archive can hold one of any length
BATCH_ROWS = 256  # rows of a table in memory at once
BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
UTF8_BOM = b"\xef\xbb\xbf"


def read_shard(shard: Shard, problems: Problems, open_split: Any = None) -> Iterator[tuple[int, Record]]:
    """Yield number (of the line or row, from 1) and record; offenders go to ``problems``.

    Parameters
    ----------
    shard : Shard
        Not of kind ``demo``.
    problems : Problems
    open_split : callable, optional
        Shards of datasets: called with a split's name, it returns the rows.
    """
    if shard.kind == "parquet":
        yield from _read_parquet(shard, problems)
    elif shard.kind == "hf":
        yield from _read_split(shard, open_split(shard.name), problems)
    else:
        yield from _read_lines(shard, problems)


def decode_line(raw: bytes) -> str:
    """Decode a line as UTF-8.

    Raises
    ------
    PoolError
        Saying where the first byte that is none lies, and which encoding it may be.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        guess = BOMS.get(raw[:2]) or ("UTF-16" if b"\x00" in raw[:64] else "Latin-1 or Windows-1252")
        raise PoolError(
            f"not UTF-8 (byte {raw[error.start]:#04x} at {error.start + 1} of the line; {guess}?): "
            f"convert the file with `iconv -f ... -t UTF-8`"
        ) from None


def _read_lines(shard: Shard, problems: Problems) -> Iterator[tuple[int, Record]]:
    path = Path(shard.path)
    line = shard.first - 1
    try:
        with _open(path, shard) as handle:
            for line, raw in enumerate(_cut_into_lines(handle, shard), start=shard.first):
                try:
                    record = _parse_line(raw, is_first=line == 1)
                except PoolError as error:
                    problems.add(f"{path}:{line}", error)
                    continue
                if record is not None:
                    yield line, record
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        problems.add(f"{path}:{line + 1}", f"the gzip stream is damaged or cut short ({error})")


def _open(path: Path, shard: Shard) -> IO[bytes]:
    if shard.kind == "gzip":
        return gzip.open(path)  # type: ignore[return-value]
    handle = path.open("rb")
    handle.seek(shard.start)
    return handle


def _cut_into_lines(handle: IO[bytes], shard: Shard) -> Iterator[bytes | None]:
    """Yield the lines; None for one that is too long to hold."""
    at = shard.start
    while shard.kind == "gzip" or at < shard.stop:
        raw = handle.readline(LINE_BYTES)
        if not raw:
            return
        at += len(raw)
        if len(raw) < LINE_BYTES or raw.endswith(b"\n"):
            yield raw
            continue
        while (rest := handle.readline(2**20)) and not rest.endswith(b"\n"):
            at += len(rest)
        at += len(rest)
        yield None


def _parse_line(raw: bytes | None, *, is_first: bool) -> Record | None:
    if raw is None:
        raise PoolError(f"the line is longer than {LINE_BYTES / 2**20:.0f} MiB: no document is")
    if not raw.strip():
        return None
    if is_first and raw.startswith(UTF8_BOM):
        raw = raw[len(UTF8_BOM) :]
    text = decode_line(raw)
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        cut = "" if raw.endswith(b"\n") else "; the line has no end: was the file cut short?"
        said = str(error)
        if isinstance(error, json.JSONDecodeError):  # its own words call the line a file: "line 1 column 7"
            said = f"{error.msg.removesuffix(' at')} at character {error.pos + 1} of the line"
        raise PoolError(f"not JSON ({said}){cut}") from None
    except ValueError as error:  # an integer of more digits than Python reads
        raise PoolError(f"not JSON ({error})") from None
    if not isinstance(record, dict):
        raise PoolError(f"not a JSON object but a {type(record).__name__}")
    return record


def _read_parquet(shard: Shard, problems: Problems) -> Iterator[tuple[int, Record]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = shard.first - 1
    try:
        with pq.ParquetFile(shard.path) as table:
            for group in range(shard.start, shard.stop):
                for batch in table.iter_batches(batch_size=BATCH_ROWS, row_groups=[group]):
                    for record in batch.to_pylist():
                        row += 1
                        yield row, record
    except (pa.ArrowException, OSError) as error:
        problems.add(f"{shard.path}:{row + 1}", f"not a whole Parquet file ({error})")


def _read_split(shard: Shard, split: Any, problems: Problems) -> Iterator[tuple[int, Record]]:
    import pyarrow as pa

    row = shard.first - 1
    try:
        for start in range(shard.start, shard.stop, BATCH_ROWS):
            columns = split[start : min(start + BATCH_ROWS, shard.stop)]
            for values in zip(*columns.values()):
                row += 1
                yield row, dict(zip(columns, values))
    except (pa.ArrowException, OSError) as error:
        problems.add(f"{shard.path}:{row + 1}", f"the dataset is damaged ({error})")
