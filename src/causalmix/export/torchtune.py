"""torchtune: the ``datasets`` list of the recipe that mixes.

Looked at: torchtune 0.6.1 and 0.7.0 (``recipes/dev/lora_finetune_distributed_multi_dataset.py`` and its config
``dev/11B_lora_multi_dataset``). Each entry has a ``source``, ``load_dataset`` arguments, a ``transform`` and a
``weight``; torchdata's ``MultiNodeWeightedSampler`` draws by weight until all were read once.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from causalmix.export.blend import Blend, write_files


def write(blend: Blend, output: Path) -> list[Path]:
    """Write ``datasets.yaml``, to be merged into the recipe's config."""
    entries = []
    for name in blend.domains:
        path = blend.path(name)
        entries.append(
            {
                "source": "parquet" if path.endswith(".parquet") else "json",
                "data_files": path,
                "split": "train",
                "transform": {"_component_": "torchtune.data.OpenAIToMessages"},
                "weight": blend.shares[name],
            }
        )
    note = "For `tune run dev/lora_finetune_distributed_multi_dataset`: replace `datasets` in its config by this list."
    return write_files(
        output, {"datasets.yaml": blend.comment(note) + yaml.safe_dump({"datasets": entries}, sort_keys=False)}
    )
