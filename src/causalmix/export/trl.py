"""TRL: the ``datasets`` section of a config for ``trl sft``, and a script with exact counts.

Looked at: TRL 1.9.0 and 1.16.0 (``trl/scripts/utils.py``). ``DatasetConfig`` takes ``path, name, data_dir,
data_files, split, columns, fraction``; ``fraction`` is a share of the mixture, whose size is capped so that nothing
is repeated. Where the mixture repeats documents, ``train.py`` keeps the counts: it hands the interleaved domains to
SFTTrainer.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from causalmix.export.blend import Blend, write_files
from causalmix.export.hf_datasets import make_files, make_source

SCRIPT = '''"""Fine-tune on the mixture: python train.py MODEL OUTPUT_DIR."""

import sys

from load_mixture import load_mixture
from trl import SFTConfig, SFTTrainer

if __name__ == "__main__":
    model, output_dir = sys.argv[1:]
    trainer = SFTTrainer(model=model, args=SFTConfig(output_dir=output_dir), train_dataset=load_mixture())
    trainer.train()
    trainer.save_model()
'''


def write(blend: Blend, output: Path) -> list[Path]:
    """Write ``datasets.yaml`` for TRL's command line, and ``train.py`` with what it needs."""
    entries = []
    for name in blend.domains:
        source = make_source(blend, name)
        entry = {key: source[key] for key in ("path", "data_files", "split", "columns")}
        entries.append({**entry, "fraction": blend.shares[name]})
    note = "fraction keeps the shares and repeats nothing: the domain that is shortest for its share sets the size."
    exact = "train.py, beside this file, keeps the counts, repeats included." if blend.counts is not None else ""
    header = blend.comment(note, *filter(None, [exact]))
    texts = {
        **make_files(blend),
        "datasets.yaml": header + yaml.safe_dump({"datasets": entries}, sort_keys=False),
        "train.py": blend.comment() + SCRIPT,
    }
    return write_files(output, texts)
