"""Hugging Face ``datasets``: a list of sources and a script that interleaves them.

Looked at: ``datasets`` 5.2.0, ``interleave_datasets(datasets, probabilities, seed, stopping_strategy)``. With
probabilities a dataset is drawn for every example; ``first_exhausted`` stops where one of them is out,
``all_exhausted_without_replacement`` goes on until each of them was given out once. So counts come out exactly
where every source is first made as long as its count.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from causalmix.export.blend import Blend, write_files

EXACT = "all_exhausted_without_replacement"
SHARES = "first_exhausted"

LOADER = '''"""Interleave the domains that sources.json lists."""

import json
from pathlib import Path

import numpy as np
from datasets import Dataset, interleave_datasets, load_dataset


def load_source(source: dict, seed: int) -> Dataset:
    """Load one domain; with a count, in a random order, as many whole passes and the part that make it."""
    dataset = load_dataset(source["path"], data_files=source["data_files"], split=source["split"])
    dataset = dataset.select_columns(source["columns"])
    count = source.get("count")
    if count is None:
        return dataset
    rng = np.random.default_rng(seed)
    passes = [rng.permutation(len(dataset)) for _ in range(-(-count // len(dataset)))]
    return dataset.select(np.concatenate(passes)[:count])


def load_mixture() -> Dataset:
    """Load the mixture: exact counts where sources.json has them, shares otherwise."""
    config = json.loads(Path(__file__).with_name("sources.json").read_text(encoding="utf-8"))
    parts = [load_source(source, config["seed"] + at) for at, source in enumerate(config["datasets"])]
    return interleave_datasets(
        parts,
        probabilities=config["probabilities"],
        seed=config["seed"],
        stopping_strategy=config["stopping_strategy"],
    )


if __name__ == "__main__":
    print(load_mixture())
'''


def write(blend: Blend, output: Path) -> list[Path]:
    """Write ``sources.json`` and ``load_mixture.py``, which reads it."""
    return write_files(output, make_files(blend))


def make_files(blend: Blend) -> dict[str, str]:
    """Spell both files; TRL's export adds to them."""
    content: dict[str, Any] = {
        "about": list(blend.about),
        "datasets": [make_source(blend, name) for name in blend.domains],
        "probabilities": list(blend.shares.values()),
        "stopping_strategy": SHARES if blend.counts is None else EXACT,
        "seed": blend.seed,
    }
    return {
        "sources.json": json.dumps(content, indent=1) + "\n",
        "load_mixture.py": blend.comment() + LOADER,
    }


def make_source(blend: Blend, domain: str) -> dict[str, Any]:
    """Name one domain's files, and its count where it is known."""
    path = blend.path(domain)
    source = {
        "name": domain,
        "path": "parquet" if path.endswith(".parquet") else "json",
        "data_files": path,
        "split": "train",
        "columns": ["messages"],
    }
    return source if blend.counts is None else {**source, "count": blend.counts[domain]}
