"""The registry of formats, and the one call that exports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalmix.errors import ConfigError, nearest_name
from causalmix.export import (
    axolotl,
    hf_datasets,
    levanter,
    lingua,
    llama_factory,
    megatron,
    olmo_core,
    streaming,
    torchtune,
    training_set,
    trl,
)
from causalmix.export.blend import Blend
from causalmix.export.request import ExportRequest, read_blend
from causalmix.files import write_json

MESSAGES = "{domain}.jsonl"  # one conversation a line: what --pool can write


@dataclass(frozen=True)
class Format:
    """One way out.

    Attributes
    ----------
    about : str
        What is written, in a line.
    write : callable
        ``write(blend, output) -> paths``; ``output`` is a folder, or a file where ``is_file``.
    data : str
        Where a domain's data lies unless ``--data`` says so, below ``data/``.
    has_stages : bool
        Whether a schedule of mixtures can be written.
    mixes_tokens : bool
        Whether the trainer's shares are of tokens (or packed sequences), not of documents.
    is_file : bool
        Whether the export is one file of documents.
    """

    about: str
    write: Callable[[Blend, Path], list[Path]]
    data: str = MESSAGES
    has_stages: bool = False
    mixes_tokens: bool = False
    is_file: bool = False


FORMATS: dict[str, Format] = {
    "axolotl": Format("datasets.yaml: whole passes and slices of each domain", axolotl.write),
    "hf": Format("sources.json and a script that interleaves them with datasets", hf_datasets.write),
    "jsonl": Format("a training set, counts and repeats exact", training_set.write, is_file=True),
    "levanter": Format(
        "data.yaml with train_weights, stages allowed", levanter.write, has_stages=True, mixes_tokens=True
    ),
    "lingua": Format("data.yaml with root_dir and sources", lingua.write, "{domain}"),
    "llama_factory": Format("dataset_info.json and train.yaml with interleave_probs", llama_factory.write),
    "megatron": Format(
        "blend.txt for --data-args-path, nemo.yaml", megatron.write, "{domain}_text_document", mixes_tokens=True
    ),
    "olmo_core": Format("sources.yaml: a SourceMixtureList", olmo_core.write, "{domain}/*.npy", mixes_tokens=True),
    "parquet": Format("a training set, counts and repeats exact", training_set.write, is_file=True),
    "streaming": Format("streams.yaml with choose or proportion, and a script", streaming.write, "{domain}"),
    "torchtune": Format("datasets.yaml with weights", torchtune.write),
    "trl": Format("datasets.yaml with fractions, and train.py with exact counts", trl.write),
}
"""Formats by name."""


def export(name: str, request: ExportRequest, output: Path | None = None) -> dict[str, Any]:
    """Write a mixture in a format.

    Parameters
    ----------
    name : str
        Key of :data:`FORMATS`.
    request : ExportRequest
        ``data`` may be empty: then it is ``data/`` with the format's own file names, or, with a pool and a format
        that reads conversations, the files that are written from the pool.
    output : Path, optional
        A folder (a file for ``jsonl`` and ``parquet``); by default beside the mixture, named after the format.

    Returns
    -------
    dict
        What was written and of what: the content of ``export.json``, which lies beside it.

    Raises
    ------
    ConfigError
        An unknown format, stages for one that has none, an ending that is not the format's.
    MixtureError
        See :func:`~causalmix.export.request.read_blend`.
    """
    chosen = find_format(name)
    if request.stages and not chosen.has_stages:
        able = ", ".join(key for key, value in FORMATS.items() if value.has_stages)
        raise ConfigError(f"--stage: {name} has one mixture for all of training; stages are for {able}")
    output = output or request.mixture.parent / (f"train.{name}" if chosen.is_file else name)
    if chosen.is_file and output.suffix != f".{name}":
        raise ConfigError(f"--output={output}: --to {name} writes a file that ends in .{name}")
    from_pool = request.pool is not None and not request.data and chosen.data == MESSAGES and not chosen.is_file
    folder = output / "data" if from_pool else Path("data")
    blend = read_blend(dataclasses.replace(request, data=request.data or str(folder / chosen.data)))
    if chosen.mixes_tokens:
        blend = dataclasses.replace(blend, about=(*blend.about, blend.token_note))
    paths = chosen.write(blend, output)
    if from_pool:
        from causalmix.export.documents import write_domains

        assert request.pool is not None
        used = tuple(domain for domain in blend.weights if any(stage.weights[domain] > 0 for stage in blend.stages))
        paths += write_domains(request.pool, folder, used, request.seed)
    facts = {
        "format": name,
        "mixture": str(request.mixture),
        "about": list(blend.about),
        "weights": blend.weights,
        "counts": blend.counts,
        "files": [str(path) for path in paths],
        "seed": request.seed,
    }
    write_json(output.with_name(f"{output.name}.export.json") if chosen.is_file else output / "export.json", facts)
    return facts


def find_format(name: str) -> Format:
    """Find a format by name.

    Raises
    ------
    ConfigError
        With the nearest name and every name there is.
    """
    if name not in FORMATS:
        raise ConfigError(f"--to {name}: no such format{nearest_name(name, FORMATS)}; allowed: {', '.join(FORMATS)}")
    return FORMATS[name]
