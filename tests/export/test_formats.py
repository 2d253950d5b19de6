"""Every format by ``datasets``, which is installed, or by its published schema, written here as a test.

The trainers themselves read what is exported in ``test_loaders``, where they are installed.
"""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.errors import ConfigError, MixtureError
from causalmix.export.formats import FORMATS, export
from causalmix.export.request import ExportRequest, parse_stages
from tests.export.conftest import make_counts, write_mixture

WEIGHTS = {"code": 0.5, "math": 0.3, "safety": 0.2, "empty": 0.0}
COUNTS = {"code": 10, "math": 6, "safety": 4, "empty": 0}
AVAILABLE = {"code": 20, "math": 4, "safety": 2, "empty": 5}


@pytest.fixture
def plain(tmp_path):
    """Weights and nothing else: what a person would write by hand."""
    return write_mixture(tmp_path / "plain.json", WEIGHTS)


@pytest.fixture
def counted(tmp_path):
    """As an analysis with a target size writes it; math and safety repeat."""
    counts = make_counts(COUNTS, AVAILABLE)
    counts["empty"] = {"n": 0, "repeats": 0.0}
    return write_mixture(tmp_path / "counted.json", WEIGHTS, counts=counts)


def write_corpus(folder, available=AVAILABLE):
    """JSONL of each domain, every message naming its document."""
    folder.mkdir()
    for name, n in available.items():
        rows = [
            {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": f"{name} {at}"}]}
            for at in range(n)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "{domain}.jsonl")


def ask(mixture, **more):
    return ExportRequest(mixture, more.pop("data", ""), **more)


def read_yaml(folder, name):
    return yaml.safe_load((folder / name).read_text())


def load_exported(folder, monkeypatch, tmp_path):
    """Run the exported script with the real ``datasets``; return every document that it gives out."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    loaded = runpy.run_path(str(folder / "load_mixture.py"))["load_mixture"]()
    return [row["messages"][-1]["content"] for row in loaded]


# ---- datasets, TRL: loaded by datasets itself


@pytest.mark.parametrize("name", ["hf", "trl"])
def test_the_script_gives_out_exact_counts_and_spreads_repeats(name, counted, tmp_path, monkeypatch):
    data = write_corpus(tmp_path / "corpus")
    export(name, ask(counted, data=data), tmp_path / "out")
    drawn = load_exported(tmp_path / "out", monkeypatch, tmp_path)
    assert Counter(text.split()[0] for text in drawn) == {"code": 10, "math": 6, "safety": 4}
    seen = Counter(drawn)
    assert {seen[f"math {at}"] for at in range(4)} == {1, 2}  # whole passes, then a part of one
    assert {seen[f"safety {at}"] for at in range(2)} == {2}
    assert drawn != sorted(drawn)
    assert drawn == load_exported(tmp_path / "out", monkeypatch, tmp_path)


def test_without_counts_the_shares_are_kept_and_nothing_is_repeated(plain, tmp_path, monkeypatch):
    data = write_corpus(tmp_path / "corpus", {"code": 300, "math": 300, "safety": 300, "empty": 3})
    export("hf", ask(plain, data=data), tmp_path / "out")
    drawn = load_exported(tmp_path / "out", monkeypatch, tmp_path)
    counted = Counter(text.split()[0] for text in drawn)
    assert max(Counter(drawn).values()) == 1
    assert counted["code"] == pytest.approx(0.5 * len(drawn), abs=0.1 * len(drawn))
    assert "empty" not in counted


def test_trl_reads_its_list_and_keeps_the_shares(counted, tmp_path, monkeypatch):
    """TRL's ``get_dataset``: fractions for all, their sum is one, the first round(fraction N) rows of each."""
    data = write_corpus(tmp_path / "corpus")
    export("trl", ask(counted, data=data), tmp_path / "out")
    entries = read_yaml(tmp_path / "out", "datasets.yaml")["datasets"]
    known = {"path", "name", "data_dir", "data_files", "split", "columns", "fraction"}
    assert all(set(entry) <= known for entry in entries)
    assert [entry["fraction"] for entry in entries] == [0.5, 0.3, 0.2]
    assert all(Path(entry["data_files"]).is_file() for entry in entries)
    compile((tmp_path / "out" / "train.py").read_text(), "train.py", "exec")


# ---- by the published schema


def test_llama_factory(counted, plain, tmp_path):
    """``dataset_info.json`` (data/README.md) and the checks of ``DataArguments.__post_init__``."""
    export("llama_factory", ask(counted, data=str(tmp_path / "corpus/{domain}.jsonl")), tmp_path / "out")
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    settings = read_yaml(tmp_path / "out", "train.yaml")
    names = settings["dataset"].split(",")
    probabilities = [float(part) for part in settings["interleave_probs"].split(",")]
    assert names == list(info) == ["code", "math", "safety"]
    assert probabilities == [0.5, 0.3, 0.2]
    assert settings["mix_strategy"] in ("concat", "interleave_under", "interleave_over", "interleave_once")
    assert settings["mix_strategy"] == "interleave_once"
    assert not settings["streaming"]  # num_samples is not read there
    allowed = {"file_name", "formatting", "columns", "tags", "num_samples", "split", "folder", "subset", "ranking"}
    for name, entry in info.items():
        assert set(entry) <= allowed
        assert (tmp_path / "out" / entry["file_name"]).resolve() == tmp_path / "corpus" / f"{name}.jsonl"
        assert entry["num_samples"] == COUNTS[name]
        assert entry["tags"]["assistant_tag"] == "assistant"
    export("llama_factory", ask(plain), tmp_path / "shares")
    assert read_yaml(tmp_path / "shares", "train.yaml")["mix_strategy"] == "interleave_under"
    assert "num_samples" not in json.loads((tmp_path / "shares" / "dataset_info.json").read_text())["code"]


def test_axolotl_spells_counts_as_passes_and_slices(counted, tmp_path, monkeypatch):
    """``SFTDataset`` has no weight; local files keep a slice in ``split``, so ``datasets`` can read every entry."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    export("axolotl", ask(counted, data=write_corpus(tmp_path / "corpus")), tmp_path / "out")
    content = read_yaml(tmp_path / "out", "datasets.yaml")
    rows = Counter()
    for entry in content["datasets"]:
        assert set(entry) == {"path", "ds_type", "type", "field_messages", "split"}
        loaded = datasets.load_dataset(
            entry["ds_type"], data_files=entry["path"], split=entry["split"], cache_dir=str(tmp_path / "cache")
        )
        rows[Path(entry["path"]).stem] += len(loaded)
    assert rows == {"code": 10, "math": 6, "safety": 4}
    assert content["dataset_exact_deduplication"] is False  # or repeats would be taken out again


def test_torchtune(plain, tmp_path):
    """What the recipe takes out of an entry; the rest are arguments of ``load_dataset``."""
    export("torchtune", ask(plain), tmp_path / "out")
    entries = read_yaml(tmp_path / "out", "datasets.yaml")["datasets"]
    assert [entry.pop("weight") for entry in entries] == [0.5, 0.3, 0.2]
    for entry in entries:
        assert entry.pop("transform") == {"_component_": "torchtune.data.OpenAIToMessages"}
        assert set(entry) == {"source", "data_files", "split"}


def test_streaming(counted, plain, tmp_path):
    """``Stream``: a local or remote place, and one of proportion, repeat and choose, the same one for all."""
    export("streaming", ask(counted), tmp_path / "out")
    streams = read_yaml(tmp_path / "out", "streams.yaml")["streams"]
    assert {name: stream["choose"] for name, stream in streams.items()} == {"code": 10, "math": 6, "safety": 4}
    export("streaming", ask(plain, data="s3://bucket/{domain}"), tmp_path / "shares")
    streams = read_yaml(tmp_path / "shares", "streams.yaml")["streams"]
    assert streams["math"] == {"remote": "s3://bucket/math", "proportion": 0.3}
    compile((tmp_path / "out" / "build_streams.py").read_text(), "build_streams.py", "exec")


def test_lingua(plain, tmp_path):
    export("lingua", ask(plain, data="/corpus/web/{domain}/shuffled"), tmp_path / "out")
    content = read_yaml(tmp_path / "out", "data.yaml")["data"]
    assert content["root_dir"] == "/corpus/web"
    assert content["sources"] == {"code/shuffled": 0.5, "math/shuffled": 0.3, "safety/shuffled": 0.2}
    known = "root_dir sources batch_size seq_len n_views seed add_bos add_eos load_async prefetch_size tokenizer"
    assert set(content) <= set(known.split())


def test_levanter_with_stages(plain, tmp_path):
    """``LMMixtureDatasetConfig.__post_init__``: weights name configs; stages begin at 0 and rise."""
    later = write_mixture(tmp_path / "later.json", {"math": 0.9, "code": 0.1, "safety": 0.0, "empty": 0.0})
    export("levanter", ask(plain, stages=parse_stages([f"2048={later}"])), tmp_path / "out")
    content = read_yaml(tmp_path / "out", "data.yaml")["data"]
    first, second = content["train_weights"]
    assert first == [0, {"code": 0.5, "math": 0.3, "safety": 0.2}]
    assert second == [2048, {"code": 0.1, "math": 0.9, "safety": 0.0}]
    assert set(first[1]) <= set(content["configs"])
    assert content["configs"]["math"] == {
        "train_urls": ["data/math.jsonl"],
        "format": {"type": "chat", "messages_field": "messages"},
    }
    export("levanter", ask(plain), tmp_path / "one")
    assert read_yaml(tmp_path / "one", "data.yaml")["data"]["train_weights"] == first[1]


def test_olmo_core(counted, plain, tmp_path):
    """``SourceMixtureConfig.validate`` and ``SourceMixtureList.validate``."""
    for at, mixture in enumerate((counted, plain)):
        export("olmo_core", ask(mixture), tmp_path / str(at))
        sources = read_yaml(tmp_path / str(at), "sources.yaml")["sources"]
        assert sum(source["target_ratio"] for source in sources) == pytest.approx(1.0)
        for source in sources:
            assert set(source) == {"source_name", "target_ratio", "paths", "max_repetition_ratio"}
            assert 0 < source["target_ratio"] <= 1
            assert source["paths"]
            assert source["max_repetition_ratio"] >= 1
    repeats = {
        s["source_name"]: s["max_repetition_ratio"] for s in read_yaml(tmp_path / "0", "sources.yaml")["sources"]
    }
    assert repeats == {"code": 1.0, "math": 1.6, "safety": 2.1}


def test_megatron(plain, tmp_path):
    """``get_blend_from_list`` on the words of the file: weights at even places, prefixes at odd ones."""
    export("megatron", ask(plain), tmp_path / "out")
    words = (tmp_path / "out" / "blend.txt").read_text().split()
    assert len(words) % 2 == 0
    assert [float(word) for word in words[::2]] == [0.5, 0.3, 0.2]
    assert words[1::2] == [f"data/{name}_text_document" for name in ("code", "math", "safety")]
    assert read_yaml(tmp_path / "out", "nemo.yaml")["paths"] == [
        float(word) if at % 2 == 0 else word for at, word in enumerate(words)
    ]
    with pytest.raises(MixtureError, match="white space, which stands in my data/code, my data/math, my data/safety"):
        export("megatron", ask(plain, data="my data/{domain}"), tmp_path / "out")


# ---- what holds for all


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"jsonl", "parquet"}))
def test_every_format_says_that_advice_was_withheld(name, tmp_path):
    mixture = write_mixture(
        tmp_path / "mixture.json",
        {"code": 0.5, "math": 0.5},
        candidate={"code": 0.9, "math": 0.1},
        advice="withheld",
        reason="not above\nzero",
        counts=make_counts({"code": 50, "math": 50}, {"code": 30, "math": 60}),
    )
    facts = export(name, ask(mixture), tmp_path / "reference")
    assert facts["weights"] == {"code": 0.5, "math": 0.5}
    assert facts["counts"] == {"code": 50, "math": 50}
    assert "ADVICE WAS WITHHELD: not above zero" in facts["about"]
    assert any("reference's; --candidate takes" in line for line in facts["about"])
    facts = export(name, ask(mixture, candidate=True), tmp_path / "candidate")
    assert facts["weights"] == {"code": 0.9, "math": 0.1}
    assert facts["counts"] == {"code": 90, "math": 10}  # counted anew, of what is known to be there
    assert any("own answer all the same" in line for line in facts["about"])
    written = [Path(path) for path in facts["files"]]
    assert any("ADVICE WAS WITHHELD" in path.read_text() for path in written)
    assert json.loads((tmp_path / "candidate" / "export.json").read_text()) == facts


def test_shares_of_tokens_are_told_from_shares_of_documents(plain, tmp_path):
    for name, chosen in FORMATS.items():
        if not chosen.is_file and name != "axolotl":
            facts = export(name, ask(plain), tmp_path / name)
            said = any("mixes tokens, CausalMix documents" in line for line in facts["about"])
            assert said == (name in ("levanter", "megatron", "olmo_core")), name


def test_an_unknown_format_is_answered_with_the_nearest(plain):
    with pytest.raises(ConfigError, match=r"no such format \(did you mean 'levanter'\?\); allowed: axolotl, hf"):
        export("levantar", ask(plain))


def test_what_is_missing_or_wrong_is_named(plain, counted, tmp_path):
    cases = [
        ("axolotl", ask(plain), "needs counts of documents.*--n-samples"),
        ("axolotl", ask(plain, n_samples=10), "must know how many documents each domain has; not known for code, math"),
        ("jsonl", ask(counted), "needs the pool that has them: --pool STORE"),
        ("hf", ask(plain, data="data/train.jsonl"), r"must stand in it, for example data/\{domain\}.jsonl"),
        ("trl", ask(plain, stages=parse_stages([f"10={counted}"])), "stages are for levanter"),
        (
            "hf",
            ask(counted, n_samples=60),
            r"more documents than there are: math \(18 asked; 4 documents x 4 repeats\)",
        ),
        ("hf", ask(plain, n_samples=0), "at least one document"),
        ("hf", ask(write_mixture(tmp_path / "a.json", {"code": 0.5})), "the shares sum to 0.5"),
        (
            "hf",
            ask(write_mixture(tmp_path / "b.json", {"code": 1.0}, counts={"code": {"n": "many"}})),
            "whole number 'n', but not for code",
        ),
        (
            "hf",
            ask(write_mixture(tmp_path / "c.json", {"a": 0.5, "b": 0.5}, counts={"a": {"n": 9}, "b": {"n": 1}})),
            "the counts of a, b are not the shares'",
        ),
        (
            "hf",
            ask(write_mixture(tmp_path / "d.json", {"a": 1.0}, counts={"b": {"n": 9}})),
            "counts and weights differ in a, b",
        ),
        ("jsonl", ask(counted), "needs the pool"),
    ]
    for name, request, message in cases:
        with pytest.raises((ConfigError, MixtureError), match=message):
            export(name, request, tmp_path / ("out.jsonl" if name == "jsonl" else "out"))
    with pytest.raises(ConfigError, match=r"writes a file that ends in \.jsonl"):
        export("jsonl", ask(counted), tmp_path / "out.txt")
    with pytest.raises(ConfigError, match=r"--stage x=1, 0=a\.json: STEP=mixture\.json"):
        parse_stages(["x=1", "0=a.json", "5=b.json"])
    with pytest.raises(ConfigError, match="stages start one after the other, each after step 9"):
        export("levanter", ask(plain, stages=((9, plain), (9, plain))), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6).filter(lambda w: sum(w) > 0.1), st.integers(1, 500))
def test_counts_are_exact_and_shares_sum_to_one_for_any_mixture(tmp_path_factory, parts, n):
    folder = tmp_path_factory.mktemp("any")
    mixture = write_mixture(folder / "m.json", {f"d{k}": part / sum(parts) for k, part in enumerate(parts)})
    request = ask(mixture, n_samples=n)
    assert sum(export("hf", request, folder / "hf")["counts"].values()) == n
    sources = json.loads((folder / "hf" / "sources.json").read_text())
    assert sum(source["count"] for source in sources["datasets"]) == n
    assert all(source["count"] > 0 for source in sources["datasets"])
    export("olmo_core", request, folder / "olmo_core")
    ratios = [source["target_ratio"] for source in read_yaml(folder / "olmo_core", "sources.yaml")["sources"]]
    for shares in (sources["probabilities"], ratios):
        assert min(shares) > 0
        assert sum(shares) == pytest.approx(1.0, abs=1e-12)


def test_a_domain_that_rounds_to_no_document_leaves_the_probabilities_whole(tmp_path):
    mixture = write_mixture(tmp_path / "m.json", {"a": 0.7, "b": 0.299, "c": 0.001})
    export("hf", ask(mixture, n_samples=10), tmp_path / "out")
    content = json.loads((tmp_path / "out" / "sources.json").read_text())
    assert [source["count"] for source in content["datasets"]] == [7, 3]
    assert sum(content["probabilities"]) == pytest.approx(1.0, abs=1e-12)
