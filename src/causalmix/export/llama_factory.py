"""LLaMA-Factory: ``dataset_info.json`` and the data keys of a training config.

Looked at: LLaMA-Factory 0.9.5 (``data/README.md``, ``hparams/data_args.py``, ``data/loader.py``). A dataset with
``num_samples`` is cut or repeated to that many examples; ``mix_strategy: interleave_once`` then gives each of them
out once. Without counts ``interleave_under`` draws by ``interleave_probs`` until one dataset is out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from causalmix.export.blend import Blend, write_files

TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}


def write(blend: Blend, output: Path) -> list[Path]:
    """Write ``dataset_info.json`` and ``train.yaml``, whose ``dataset_dir`` is this folder."""
    info: dict[str, dict[str, Any]] = {}
    for name in blend.domains:
        info[name] = {
            "file_name": os.path.relpath(blend.path(name), output),  # read relative to dataset_dir
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": TAGS,
        }
        if blend.counts is not None:
            info[name]["num_samples"] = blend.counts[name]
    settings = {
        "dataset_dir": str(output),
        "dataset": ",".join(blend.domains),
        "mix_strategy": "interleave_under" if blend.counts is None else "interleave_once",
        "interleave_probs": ",".join(repr(share) for share in blend.shares.values()),
        "streaming": False,
    }
    note = "Put these keys into your training config. interleave_once needs LLaMA-Factory 0.9.5 or newer."
    texts = {
        "dataset_info.json": json.dumps(info, indent=1) + "\n",
        "train.yaml": blend.comment(note) + yaml.safe_dump(settings, sort_keys=False, width=10_000),
    }
    return write_files(output, texts)
