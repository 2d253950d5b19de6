"""What is exported, read by the trainers themselves: each test runs where that trainer is installed."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import yaml

from causalmix.export.formats import export
from causalmix.export.request import ExportRequest, parse_stages
from tests.export.conftest import make_counts, write_mixture

pytestmark = pytest.mark.filterwarnings("ignore")  # the trainers' own

COUNTS = {"code": 100, "math": 60, "safety": 40}
AVAILABLE = {"code": 200, "math": 25, "safety": 40}
WEIGHTS = {"code": 0.5, "math": 0.3, "safety": 0.2}


@pytest.fixture
def mixture(tmp_path):
    return write_mixture(tmp_path / "mixture.json", WEIGHTS, counts=make_counts(COUNTS, AVAILABLE))


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "corpus").mkdir()
    for name, n in AVAILABLE.items():
        rows = [
            {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": f"{name} {at}"}]}
            for at in range(n)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "corpus" / f"{name}.jsonl").write_text(text)
    return str(tmp_path / "corpus" / "{domain}.jsonl")


def find(module):
    """Import a trainer's module; skip where it, or something that it needs, is not installed."""
    return pytest.importorskip(module, exc_type=ImportError)


def read_yaml(path):
    return yaml.safe_load(path.read_text())


def count_domains(answers):
    return Counter(answer.split()[0] for answer in answers)


def test_trl(mixture, corpus, tmp_path):
    trl = find("trl")
    export("trl", ExportRequest(mixture, corpus), tmp_path / "out")
    entries = read_yaml(tmp_path / "out" / "datasets.yaml")["datasets"]
    loaded = trl.get_dataset(trl.DatasetMixtureConfig(datasets=entries))["train"]
    # math has the fewest documents for its share: 25 / .3 documents in all
    assert count_domains(row[-1]["content"] for row in loaded["messages"]) == {"code": 42, "math": 25, "safety": 17}


def test_llama_factory(mixture, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    arguments = find("llamafactory.hparams.data_args")
    parser = find("llamafactory.data.parser")
    export("llama_factory", ExportRequest(mixture, corpus), tmp_path / "out")
    read = arguments.DataArguments(**read_yaml(tmp_path / "out" / "train.yaml"))
    assert read.interleave_probs == [0.5, 0.3, 0.2]
    found = parser.get_dataset_list(read.dataset, read.dataset_dir)
    for attributes in found:
        assert (attributes.load_from, attributes.formatting, attributes.messages) == ("file", "sharegpt", "messages")
        assert (Path(read.dataset_dir) / attributes.dataset_name).is_file()
    assert [attributes.num_samples for attributes in found] == list(COUNTS.values())


def test_axolotl(mixture, corpus, tmp_path):
    schema = find("axolotl.utils.schemas.datasets")
    export("axolotl", ExportRequest(mixture, corpus), tmp_path / "out")
    entries = read_yaml(tmp_path / "out" / "datasets.yaml")["datasets"]
    for entry in entries:
        read = schema.SFTDataset(**entry).model_dump(exclude_none=True)
        assert {name: read[name] for name in entry} == entry


def test_torchtune(mixture, corpus, tmp_path):
    utils = find("torchtune.data._utils")
    transforms = find("torchtune.data")
    export("torchtune", ExportRequest(mixture, corpus), tmp_path / "out")
    sources, weights = {}, {}
    for at, entry in enumerate(read_yaml(tmp_path / "out" / "datasets.yaml")["datasets"]):  # as the recipe does
        assert entry.pop("transform") == {"_component_": "torchtune.data.OpenAIToMessages"}
        weights[str(at)] = float(entry.pop("weight"))
        sources[str(at)] = utils.load_hf_dataset(**entry, transform=transforms.OpenAIToMessages())
    criteria = "CYCLE_UNTIL_ALL_DATASETS_EXHAUSTED"  # the recipe's
    node = utils.get_multi_dataset(datasets=sources, weights=weights, stop_criteria=criteria)
    node.reset()
    answers = [row["messages"][-1].content[0]["content"] for row in islice(node, 200)]
    drawn = count_domains(answers)
    assert {name: n / 200 for name, n in drawn.items()} == pytest.approx(WEIGHTS, abs=0.12)


def test_streaming(mixture, tmp_path):
    streaming = find("streaming")
    for name, n in AVAILABLE.items():
        with streaming.MDSWriter(out=str(tmp_path / "mds" / name), columns={"text": "str"}) as writer:
            for at in range(n):
                writer.write({"text": f"{name} {at}"})
    export("streaming", ExportRequest(mixture, str(tmp_path / "mds" / "{domain}")), tmp_path / "out")
    build = runpy.run_path(str(tmp_path / "out" / "build_streams.py"))["build_dataset"]
    dataset = build(batch_size=1, shuffle=True)
    seen = Counter(row["text"] for row in dataset)
    assert count_domains(seen.elements()) == COUNTS
    assert {seen[f"math {at}"] for at in range(25)} == {2, 3}


def test_levanter(mixture, tmp_path):
    text = find("levanter.data.text")
    later = write_mixture(tmp_path / "later.json", {"code": 0.1, "math": 0.9, "safety": 0.0})
    stages = parse_stages([f"2048={later}"])
    export("levanter", ExportRequest(mixture, "", stages=stages), tmp_path / "out")
    content = read_yaml(tmp_path / "out" / "data.yaml")["data"]
    configs = {
        name: text.UrlDatasetSourceConfig(train_urls=entry["train_urls"], format=text.ChatLmDatasetFormat())
        for name, entry in content["configs"].items()
    }
    read = text.LMMixtureDatasetConfig(
        configs=configs, train_weights=content["train_weights"], stop_strategy=content["stop_strategy"]
    )
    assert [step for step, _ in read.train_weights] == [0, 2048]


def test_olmo_core(mixture, tmp_path):
    module = find("olmo_core.data.source_mixture")
    types = find("olmo_core.data.types")
    (tmp_path / "tokens").mkdir()
    for name, n in AVAILABLE.items():
        np.memmap(tmp_path / "tokens" / f"{name}.npy", np.uint16, "w+", shape=(64 * n,)).flush()
    export("olmo_core", ExportRequest(mixture, str(tmp_path / "tokens" / "{domain}.npy")), tmp_path / "out")
    sources = [module.SourceMixtureConfig(**entry) for entry in read_yaml(tmp_path / "out" / "sources.yaml")["sources"]]
    listed = module.SourceMixtureList(sources)
    listed.validate()
    config = module.SourceMixtureDatasetConfig(listed, requested_tokens=64 * 200, global_batch_size=64, quiet=True)
    built = config.build(npdtype=types.NumpyDatasetDType.uint16.as_np_dtype(), sequence_length=64)
    tokens = {source.name: sum(path.tokens for path in source.path_tokens) for source in built.sources}
    assert {name: n // 64 for name, n in tokens.items()} == pytest.approx(COUNTS, abs=1)


def test_megatron(mixture, tmp_path):
    utils = find("megatron.core.datasets.utils")
    export("megatron", ExportRequest(mixture, "corpus/{domain}_text_document"), tmp_path / "out")
    prefixes, weights = utils.get_blend_from_list((tmp_path / "out" / "blend.txt").read_text().split())
    assert list(prefixes) == [f"corpus/{name}_text_document" for name in WEIGHTS]
    assert list(weights) == list(WEIGHTS.values())
