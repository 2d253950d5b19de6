"""Megatron-LM and NeMo: blends, weights and prefixes in turn.

Looked at: Megatron-LM core 0.16.1 and 0.20 (``get_blend_from_list`` in ``core/datasets/utils.py``,
``--data-args-path``) and the NeMo 2.0 guide (``PreTrainingDataModule(paths=[weight, prefix, ...])``). A file for
``--data-args-path`` is split at white space; weights are of sequences of a fixed length, so of tokens, and are
normalised.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from causalmix.errors import MixtureError, name_some
from causalmix.export.blend import Blend, write_files


def write(blend: Blend, output: Path) -> list[Path]:
    """Write ``blend.txt`` for Megatron's ``--data-args-path`` and ``nemo.yaml`` for NeMo's ``paths``.

    Raises
    ------
    MixtureError
        Where a path holds white space, at which Megatron would split it.
    """
    weights = blend.token_weights
    paths = {name: blend.path(name) for name in blend.domains}
    broken = [path for path in paths.values() if any(character.isspace() for character in path)]
    if broken:
        raise MixtureError(f"Megatron splits its list of data at white space, which stands in {name_some(broken)}.")
    pairs = [(weights[name], path) for name, path in paths.items()]
    flat = [part for pair in pairs for part in pair]
    header = blend.comment("PreTrainingDataModule(paths=...); the same list is data_prefix in NeMo 1.0.")
    texts = {
        # No comment: Megatron reads every word.
        "blend.txt": "".join(f"{weight!r} {path}\n" for weight, path in pairs),
        "nemo.yaml": header + yaml.safe_dump({"paths": flat}, sort_keys=False),
    }
    return write_files(output, texts)
