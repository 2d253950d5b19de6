"""Levanter: ``configs`` and ``train_weights``, one mixture or a schedule of stages.

Looked at: Levanter 1.2, 26 September 2025 (``LMMixtureDatasetConfig`` in ``data/text.py``, ``data/mixture.py``,
``docs/guides/Training-Data-Guide.md``). ``train_weights`` is a mapping, or a list of ``[step, mapping]`` whose steps
are batches; a stage starts at a multiple of ``mixture_block_size`` sequences. Weights are normalised; a dataset with
weight 0 is kept in ``configs`` and not trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from causalmix.export.blend import Blend, write_files


def write(blend: Blend, output: Path) -> list[Path]:
    """Write ``data.yaml``, to be merged into a Levanter config."""
    used = [name for name in blend.weights if any(stage.weights[name] > 0 for stage in blend.stages)]
    configs = {
        name: {"train_urls": [blend.path(name)], "format": {"type": "chat", "messages_field": "messages"}}
        for name in used
    }
    schedule = [
        (stage.step, {name: share for name, share in blend.stage_weights(stage).items() if name in used})
        for stage in blend.stages
    ]
    weights: Any = schedule[0][1] if len(schedule) == 1 else [[step, shares] for step, shares in schedule]
    notes = ["Add tokenizer and cache_dir."]
    if len(schedule) > 1:
        notes.append("Steps are batches: step x batch size must be a multiple of mixture_block_size (2048).")
    content = {"data": {"configs": configs, "train_weights": weights, "stop_strategy": "restart"}}
    return write_files(output, {"data.yaml": blend.comment(*notes) + yaml.safe_dump(content, sort_keys=False)})
