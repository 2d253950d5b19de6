"""Lingua: ``data.root_dir`` and ``data.sources``.

Looked at: Meta Lingua, 18 June 2025 (``lingua/data.py``, ``apps/main/configs``). ``sources`` maps a folder below
``root_dir`` to a weight, normalised by the reader; a document is drawn from a source at a time, before packing.
Each folder holds ``*.chunk.*.jsonl`` with one ``text`` or ``content`` a line.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import yaml

from causalmix.export.blend import Blend, write_files


def write(blend: Blend, output: Path) -> list[Path]:
    """Write ``data.yaml``, to be merged into a Lingua config."""
    parts = PurePosixPath(blend.data).parts
    first = next(at for at, part in enumerate(parts) if "{domain}" in part)
    root, source = PurePosixPath(*parts[:first]), PurePosixPath(*parts[first:])
    sources = {str(source).replace("{domain}", name): share for name, share in blend.shares.items()}
    content = {"data": {"root_dir": str(root), "sources": sources, "seed": blend.seed}}
    note = "Each source is a folder below root_dir with files named *.chunk.*.jsonl."
    return write_files(output, {"data.yaml": blend.comment(note) + yaml.safe_dump(content, sort_keys=False)})
