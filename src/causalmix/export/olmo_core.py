"""OLMo-core: a ``SourceMixtureList``.

Looked at: OLMo-core 2.5.0 and 3.0.0 (``data/source_mixture.py``, ``guides/data_mixing``). Each source has
``source_name``, ``target_ratio`` (of tokens; above zero, they sum to one), ``paths`` of token files and
``max_repetition_ratio`` (1 allows no repeat; a source too small for its ratio is refused).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from causalmix.config import MixtureConfig
from causalmix.export.blend import Blend, write_files


def write(blend: Blend, output: Path) -> list[Path]:
    """Write ``sources.yaml``: what ``SourceMixtureList`` takes."""
    ratios = blend.token_weights
    sources: list[dict[str, Any]] = [
        {
            "source_name": name,
            "target_ratio": ratios[name],
            "paths": [blend.path(name)],
            "max_repetition_ratio": _find_repeats(blend, name),
        }
        for name in blend.domains
    ]
    header = blend.comment("requested_tokens and global_batch_size belong to SourceMixtureDatasetConfig.")
    return write_files(output, {"sources.yaml": header + yaml.safe_dump({"sources": sources}, sort_keys=False)})


def _find_repeats(blend: Blend, domain: str) -> float:
    """Repeats that the counts ask for, in steps of .1 with room to round; else as many as a run may take."""
    if blend.counts is None or blend.available is None:
        return float(MixtureConfig.repeats_max)
    return max(1.0, math.ceil(10 * blend.counts[domain] / blend.available[domain] + 1) / 10)
