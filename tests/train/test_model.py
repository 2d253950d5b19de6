from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from causalmix.config import BaseConfig, ModelConfig
from causalmix.errors import TrainError
from causalmix.train import base, loop
from causalmix.train.base import ensure_base
from causalmix.train.model import build_model, count_parameters, load_base
from tests.train.stores import VOCAB, make_model, make_store

torch.set_num_threads(1)
STORE = make_store([20, 14, 30, 25])
IDS = np.arange(4)
SIZES = {"hidden_size": 32, "n_layers": 1, "intermediate_size": 48}
CONFIG = ModelConfig(name="test", **SIZES, base=BaseConfig(n_steps=3, max_length=32))  # type: ignore[arg-type]


def ensure(root: Path, cfg: ModelConfig = CONFIG, tokenizer: str = "tok") -> Path:
    return ensure_base(cfg, STORE, IDS, tokenizer, VOCAB, root, progress=False)


def test_random_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, second, other = (build_model(CONFIG, VOCAB, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert first.lm_head.weight is first.model.embed_tokens.weight
    assert count_parameters(first) == sum(p.numel() for p in {id(p): p for p in first.parameters()}.values())


def test_a_base_is_trained_once_and_loaded_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ensure(tmp_path)
    assert sorted(file.name for file in path.iterdir()) == ["base.json", "config.json", "model.safetensors"]
    assert path.name.startswith("test-")
    assert [folder.name for folder in tmp_path.iterdir()] == [path.name]
    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("trained again"))
    assert ensure(tmp_path) == path
    first, second = load_base(path), load_base(path)
    with torch.no_grad():
        first.lm_head.weight.zero_()
    assert second.lm_head.weight.abs().sum() > 0  # each call gives a model of its own
    assert second.lm_head.weight is second.model.embed_tokens.weight
    from transformers import AutoModelForCausalLM

    other = AutoModelForCausalLM.from_pretrained(path)
    assert all(torch.equal(a, b) for a, b in zip(second.parameters(), other.parameters()))


def test_the_fingerprint_moves_with_what_matters(tmp_path: Path) -> None:
    def name(cfg: ModelConfig = CONFIG, tokenizer: str = "tok", ids: object = IDS) -> str:
        return base.fingerprint_base(cfg, STORE, ids, tokenizer, VOCAB)  # type: ignore[arg-type]

    deeper = ModelConfig(name="test", **{**SIZES, "n_layers": 2}, base=CONFIG.base)  # type: ignore[arg-type]
    names = [name(), name(deeper), name(tokenizer="other"), name(ids=IDS[:3])]
    assert len(set(names)) == 4
    assert name() == names[0]


def test_a_base_without_steps_has_random_weights(tmp_path: Path) -> None:
    cfg = ModelConfig(name="raw", **SIZES, base=BaseConfig(n_steps=0, seed=3))  # type: ignore[arg-type]
    loaded = load_base(ensure(tmp_path, cfg))
    assert torch.equal(loaded.lm_head.weight, build_model(cfg, VOCAB, 3).lm_head.weight)


def test_a_damaged_base_is_refused_by_name(tmp_path: Path) -> None:
    path = ensure(tmp_path)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")
    with pytest.raises(TrainError, match=rf"{path.name} are not what was written: delete the folder"):
        ensure(tmp_path)
    (path / "base.json").write_text("{")
    with pytest.raises(TrainError, match=rf"{path.name} cannot be read .*delete the folder"):
        ensure(tmp_path)


def test_a_pretrained_model_is_loaded_from_a_folder(tmp_path: Path) -> None:
    saved = make_model(seed=4)
    saved.save_pretrained(tmp_path)
    cfg = ModelConfig(name="p", source="pretrained", path=str(tmp_path))
    loaded = build_model(cfg, VOCAB, 0)
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), loaded.parameters()))
    cfg.dtype = "bfloat16"
    assert build_model(cfg, VOCAB, 0).dtype == torch.bfloat16
    with pytest.raises(TrainError, match=r"97 embeddings, the pool's tokenizer 98 tokens"):
        build_model(cfg, VOCAB + 1, 0)
    with pytest.raises(TrainError, match=r"only model.source=config has a base"):
        ensure(tmp_path, cfg)


@pytest.mark.parametrize("revision", [None, "main", "060db64"])
def test_a_hub_name_needs_a_commit(revision: str | None) -> None:
    cfg = ModelConfig(name="q", source="pretrained", path="Qwen/Qwen2.5-0.5B", revision=revision)
    with pytest.raises(TrainError, match="is not a commit: pin one of 40 hexadecimal digits"):
        build_model(cfg, VOCAB, 0)


def test_weights_in_a_pickle_are_never_read(tmp_path: Path) -> None:
    model = make_model()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(TrainError, match=r"cannot be loaded.*safetensors"):
        build_model(ModelConfig(name="p", source="pretrained", path=str(tmp_path)), VOCAB, 0)


def test_code_of_a_repository_and_other_families_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    auto = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto}))
    cfg = ModelConfig(name="p", source="pretrained", path=str(tmp_path))
    with pytest.raises(TrainError, match="cannot be loaded"):
        build_model(cfg, VOCAB, 0)
    assert not marker.exists()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(TrainError, match=r"is a gpt2 .*supported are the families qwen2, qwen3"):
        build_model(cfg, VOCAB, 0)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "attention_dropout": 0.1}))
    with pytest.raises(TrainError, match=r"attention_dropout\), which is not supported"):
        build_model(cfg, VOCAB, 0)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "hidden_act": "gelu"}))
    with pytest.raises(TrainError, match="hidden_act=gelu; supported is silu"):
        build_model(cfg, VOCAB, 0)


def test_settings_that_no_model_has_are_refused() -> None:
    with pytest.raises(TrainError, match="not one of config, pretrained"):
        build_model(ModelConfig(name="x", source="magic"), VOCAB, 0)
    with pytest.raises(TrainError, match="not one of float32, bfloat16"):
        build_model(ModelConfig(name="x", dtype="float8"), VOCAB, 0)
    with pytest.raises(TrainError, match="must divide"):
        build_model(ModelConfig(name="x", hidden_size=30, n_heads=4), VOCAB, 0)
    with pytest.raises(TrainError, match=r"needs model.path"):
        build_model(ModelConfig(name="x", source="pretrained"), VOCAB, 0)
