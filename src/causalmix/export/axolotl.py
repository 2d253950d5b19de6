"""Axolotl: a ``datasets`` list with exact counts.

Looked at: Axolotl 0.18 and 0.19 (``utils/schemas/datasets.py``, ``utils/data/shared.py``). Its datasets have no
weight: all of them are concatenated and shuffled. So a mixture is written as rows: a domain stands in the list once
for every whole pass over it, and once more with ``split: train[:n]`` for the rest. Local files keep such a slice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from causalmix.export.blend import Blend, require_available, require_counts, write_files

NAME = "axolotl"


def write(blend: Blend, output: Path) -> list[Path]:
    """Write ``datasets.yaml``, to be pasted into an Axolotl config."""
    counts, available = require_counts(blend, NAME), require_available(blend, NAME)
    entries: list[dict[str, Any]] = []
    for name in blend.domains:
        path = blend.path(name)
        entry = {
            "path": path,
            "ds_type": "parquet" if path.endswith(".parquet") else "json",
            "type": "chat_template",
            "field_messages": "messages",
        }
        passes, rest = divmod(counts[name], available[name])
        entries += [{**entry, "split": "train"} for _ in range(passes)]
        if rest:
            entries.append({**entry, "split": f"train[:{rest}]"})
    content = {"datasets": entries, "shuffle_merged_datasets": True, "dataset_exact_deduplication": False}
    note = "train[:n] takes the first n rows: files from --pool are shuffled already, shuffle your own once."
    return write_files(output, {"datasets.yaml": blend.comment(note) + yaml.safe_dump(content, sort_keys=False)})
