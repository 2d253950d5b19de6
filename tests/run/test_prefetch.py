"""What a config needs is listed, fetched and missed by name; no test asks the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from causalmix.cli import compose_bare
from causalmix.errors import CausalMixError
from causalmix.run import prefetch
from causalmix.run.prefetch import Need, list_needs, obtain_all, refuse_missing
from tests.tiny import launch

COMMIT = "0" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A Hub of folders, which writes down what it is asked; ``repositories`` of it may be changed."""
    state: dict[str, Any] = {"asked": [], "repositories": {}}

    def snapshot_download(name: str, *, revision: str, allow_patterns: list[str], local_files_only: bool) -> str:
        state["asked"].append((name, revision, local_files_only, tuple(allow_patterns)))
        if name not in state["repositories"]:
            raise FileNotFoundError(f"no snapshot of {name}")
        return str(state["repositories"][name])

    def load_dataset(path: str, **options: Any) -> None:
        state["asked"].append((path, options))

    class Tasks:
        def load(self, names: list[str]) -> None:
            if names == ["mmlu"]:
                raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr(prefetch, "find_tasks", lambda include_path: Tasks())
    return state


def make_model(folder: Path, shards: int) -> Path:
    folder.mkdir(parents=True)
    names = [f"model-{at}.safetensors" for at in range(shards)] or ["model.safetensors"]
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", *names):
        (folder / name).write_text("{}")
    if shards:
        (folder / prefetch.INDEX).write_text(json.dumps({"weight_map": dict(zip("abc", names))}))
    return folder


def test_every_need_of_an_experiment_is_listed_once() -> None:
    plain = compose_bare(
        [
            *("experiment=causalmix_sft_target", "pool=jsonl", "pool.tokenizer.kind=pretrained"),
            *("pool.tokenizer.path=Qwen/Qwen2.5-7B", "pool.scores.reference_lm.path=Qwen/Qwen2.5-7B"),
            "pool.scores.reference_lm.revision=d149729398750b98c0af14eb82c78cfe92750796",
        ]
    )
    plain["pool"] |= {"source": "hf", "path": "some/documents"}
    plain["pool"]["hf"] = {"revision": COMMIT, "subset": None, "data_files": {"math": "math.jsonl"}, "splits": []}
    needs = list_needs(plain)
    assert [(need.kind, need.key) for need in needs if need.kind != "task"] == [
        ("model", "model"),  # the reference model is the same at the same commit
        ("tokenizer", "pool.tokenizer"),
        ("dataset", "pool.hf"),
    ]
    assert needs[0].revision == "d149729398750b98c0af14eb82c78cfe92750796"
    assert {need.path for need in needs if need.kind == "task"} >= {"mmlu", "gsm8k", "hendrycks_math"}
    assert list_needs(compose_bare([])) == []  # the demo needs nothing


def test_what_is_here_is_found_and_what_is_not_is_named(hub: dict[str, Any], tmp_path: Path) -> None:
    whole = make_model(tmp_path / "whole", 3)
    hub["repositories"] = {"a/whole": whole, "a/partial": make_model(tmp_path / "partial", 2)}
    (tmp_path / "partial" / "model-1.safetensors").unlink()
    needs = [
        Need("model", "a/whole", "model", COMMIT),
        Need("model", "a/partial", "study.confirm_model", COMMIT),
        Need("model", "a/absent", "pool.scores.rater", COMMIT),
        Need("model", "a/whole", "pool.scores.reference_lm", "main"),
        Need("model", str(make_model(tmp_path / "local", 0)), "model"),
        Need("tokenizer", str(tmp_path / "local"), "pool.tokenizer"),
        Need("dataset", "a/data", "pool.hf", COMMIT, '{"name": null, "data_files": null}'),
        Need("task", "gsm8k", "evaluate.dev.math", None, '{"include_path": null}'),
        Need("task", "mmlu", "evaluate.dev.knowledge", None, '{"include_path": null}'),
    ]
    found = list(obtain_all(needs, offline=True))
    causes = {(one.need.path, one.need.key): one.cause for one in found if one.cause}
    assert set(causes) == {
        ("a/partial", "study.confirm_model"),
        ("a/absent", "pool.scores.rater"),
        ("a/whole", "pool.scores.reference_lm"),
        ("mmlu", "evaluate.dev.knowledge"),
    }
    assert "lacks model-1.safetensors" in str(causes["a/partial", "study.confirm_model"])
    assert "is not a commit: pin one" in str(causes["a/whole", "pool.scores.reference_lm"])
    assert causes["mmlu", "evaluate.dev.knowledge"] == "no route to host"
    assert ("a/data", {"revision": COMMIT, "name": None, "data_files": None}) in hub["asked"]
    assert all(asked[2] for asked in hub["asked"] if len(asked) == 4)  # nothing was fetched
    with pytest.raises(
        CausalMixError, match=r"4 of 9 are missing: model a/partial \(study.confirm_model\), .*"
    ) as told:
        refuse_missing(found, ["experiment=x"], offline=True)
    assert str(told.value).endswith("with internet and the same HF_HOME: causalmix prefetch experiment=x")
    refuse_missing([one for one in found if one.cause is None], [], offline=True)


def test_no_pickle_and_no_code_is_fetched(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["repositories"] = {"a/whole": make_model(tmp_path / "whole", 1)}
    list(obtain_all([Need("model", "a/whole", "model", COMMIT)], offline=False))
    ((_, revision, offline, patterns),) = hub["asked"]
    assert (revision, offline) == (COMMIT, False)
    assert not [name for name in patterns if name.endswith((".py", ".bin", ".pt", "*"))]


@pytest.mark.slow
def test_the_command_names_what_the_cache_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    ended = launch("prefetch", "--check", "--json", "model=qwen3_4b_base", module="causalmix.cli")
    assert ended.returncode == 2
    assert "1 of 1 are missing: model Qwen/Qwen3-4B-Base (model). Run, on a machine with internet" in ended.stderr
    (row,) = json.loads(ended.stdout)
    assert row["revision"] == "906bfd4b4dc7f14ee4320094d8b41684abff8539"
    assert row["missing"]
    assert "Traceback" not in ended.stderr
