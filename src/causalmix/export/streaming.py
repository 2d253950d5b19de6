"""MosaicML Streaming: ``streams`` with ``choose`` or ``proportion``, as YAML and as a script.

Looked at: Streaming 0.13.0 (``streaming/base/stream.py``, ``mixing_data_sources.md``). All streams use one
of two ways: ``choose``, exact samples an epoch (repeated where a stream is shorter), or ``proportion``, relative.
The YAML is what LLM Foundry reads under ``train_loader.dataset.streams``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from causalmix.export.blend import Blend, write_files

SCRIPT = '''"""Build the mixture: from build_streams import build_dataset."""

from pathlib import Path

import yaml
from streaming import Stream, StreamingDataset


def build_dataset(**settings) -> StreamingDataset:
    """Build the dataset of streams.yaml; settings go to StreamingDataset (shuffle, batch_size ...)."""
    streams = yaml.safe_load(Path(__file__).with_name("streams.yaml").read_text(encoding="utf-8"))["streams"]
    return StreamingDataset(streams=[Stream(**stream) for stream in streams.values()], **settings)
'''


def write(blend: Blend, output: Path) -> list[Path]:
    """Write ``streams.yaml`` and ``build_streams.py``, which reads it."""
    streams: dict[str, dict[str, Any]] = {}
    for name in blend.domains:
        path = blend.path(name)
        place = {"remote": path} if "://" in path else {"local": path}
        weight = {"proportion": blend.shares[name]} if blend.counts is None else {"choose": blend.counts[name]}
        streams[name] = {**place, **weight}
    texts = {
        "streams.yaml": blend.comment("Samples are documents: write one document a sample (MDSWriter).")
        + yaml.safe_dump({"streams": streams}, sort_keys=False),
        "build_streams.py": blend.comment() + SCRIPT,
    }
    return write_files(output, texts)
