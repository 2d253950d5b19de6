"""What a training says of its own speed, and what it says when it does not fit."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from causalmix.config import LoraConfig, ModelConfig
from causalmix.errors import TrainError
from causalmix.train import meter
from causalmix.train.device import keep_compiled, measure_peak
from causalmix.train.feed import Feed
from causalmix.train.loop import train
from causalmix.train.memory import describe_settings
from causalmix.train.meter import Meter, Work
from causalmix.train.model import build_model
from causalmix.train.optimizer import EndToEnd
from tests.train.stores import make_config, make_model, make_store

torch.set_num_threads(1)
CPU = torch.device("cpu")
STORE = make_store([20, 14, 30, 25, 11, 40, 9, 22, 17, 35, 28, 13])
IDS = np.arange(len(STORE))


def collect(**changes: Any) -> list[dict[str, float]]:
    lines: list[dict[str, float]] = []
    train(make_model(), STORE, IDS, make_config(**changes), seed=0, log=lines.append)
    return lines


def test_every_line_says_how_fast_it_went() -> None:
    lines = collect(log_every=2, n_epochs=3)
    for line in lines:
        assert 0 <= line["wait_s"] < line["step_s"] < 60
        assert 0 < line["targets_per_s"] < line["tokens_per_s"]
        assert 0 < line["peak_share"] < 1.2
        assert line["memory_mib"] > 50
    # Seconds of the lines' steps add up to the whole, apart from what comes before the first.
    n_steps = np.diff([0, *(line["step"] for line in lines)])
    passed = sum(n * line["step_s"] for n, line in zip(n_steps, lines))
    assert passed == pytest.approx(lines[-1]["wall_s"], rel=0.3, abs=0.05)


def test_the_work_of_a_token_is_counted_by_hand() -> None:
    """Qwen2.5-0.5B at 600 tokens a document, every one a label: 3.04 GFLOP a token."""
    cfg = ModelConfig(name="q", hidden_size=896, n_layers=24, n_heads=14, n_kv_heads=2, intermediate_size=4864)
    with torch.device("meta"):
        model = build_model(cfg, 8, seed=0)
    work = Work(model)
    attention = 2 * 896 * 896 + 2 * 896 * 128
    assert work.a_token == 6 * 24 * (attention + 3 * 896 * 4864)
    work.a_target = 6 * 151_936 * 896  # a head of the real size takes half a gigabyte
    assert work.count(np.array([600]), 600) / 600 == pytest.approx(3.04e9, rel=2e-3)


def test_two_documents_are_less_work_than_one_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(make_model())
    assert work.count(np.array([10, 10]), 5) < work.count(np.array([20]), 5)
    monkeypatch.setattr(meter, "measure_peak", lambda *_: 1e9)
    measured = Meter(work, CPU, torch.float32)
    measured.add(np.array([10, 10]), 5)
    time.sleep(0.02)
    report = measured.report(waited_s=0.01)
    flops = work.count(np.array([10, 10]), 5)
    assert report["peak_share"] == pytest.approx(flops / report["step_s"] / 1e9)
    assert report["wait_s"] == 0.01
    assert measured.report(waited_s=0.01)["tokens_per_s"] == 0  # counted anew


def test_the_peak_is_a_real_product() -> None:
    peak = measure_peak(CPU, torch.float32)
    assert 1e8 < peak < 1e14
    assert measure_peak(CPU, torch.float32) == peak  # measured once


def test_a_trace_is_written_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "log" / "trace.json.gz"
    for n_steps in (1, 2, 9):
        path.unlink(missing_ok=True)
        train(make_model(), STORE, IDS, make_config(), seed=0, n_steps=n_steps, trace_path=path)
        names = {event.get("name") for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]}
        assert {"aten::mm", "aten::baddbmm"} <= names


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
    ids=["gpu", "cpu", "python"],
)
def test_out_of_memory_names_the_settings_that_help(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(EndToEnd, "clip", fail)
    with pytest.raises(
        TrainError,
        match=r"Out of memory in step 1 with 4 rows of 48 tokens a pass\. .*train\.rows_per_pass=2 .*"
        r"train\.head_budget_mib=128 .*train\.recompute=true .*train\.lora\.rank=16 .*train\.max_length=24",
    ):
        train(make_model(), STORE, IDS, make_config(batch_rows=4), seed=0)


def test_settings_that_are_used_already_are_not_advised() -> None:
    cfg = make_config(batch_rows=4, rows_per_pass=1, recompute=True, head_budget_mib=1, lora=LoraConfig(rank=4))
    advice = describe_settings(cfg, 0, 2**20)
    assert "train.max_length=24" in advice
    assert not any(name in advice for name in ("rows_per_pass=", "recompute=", "lora.rank=", "head_budget_mib="))


def test_another_runtime_error_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(EndToEnd, "clip", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        train(make_model(), STORE, IDS, make_config(), seed=0)


@pytest.mark.parametrize("is_ahead", [False, True])
def test_a_feed_gives_every_step_in_order_and_raises_what_went_wrong(is_ahead: bool) -> None:
    built: list[int] = []

    def build(step: int) -> int:
        if step == 5:
            raise TrainError("a damaged document")
        built.append(step)
        return step * step

    with Feed(build, 10, is_ahead=is_ahead) as feed:
        assert [feed.get(step) for step in range(1, 5)] == [1, 4, 9, 16]
        with pytest.raises(TrainError, match="damaged document"):
            feed.get(5)
    assert built == [1, 2, 3, 4]
    assert feed.waited_s >= 0


def test_what_is_built_ahead_is_not_waited_for() -> None:
    def build(step: int) -> int:
        time.sleep(0.05)
        return step

    waits = []
    for is_ahead in (False, True):
        with Feed(build, 5, is_ahead=is_ahead) as feed:
            for step in range(5):
                feed.get(step)
                time.sleep(0.08)  # the step itself
        waits.append(feed.waited_s)
    assert waits[0] >= 0.25
    assert waits[1] < 0.2


def test_compiled_code_is_kept_where_the_environment_does_not_say_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compiled()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "causalmix/compiled/inductor")
    assert os.environ["TRITON_CACHE_DIR"] == "elsewhere"


def test_speed_settings_change_rounding_alone() -> None:
    plain = collect(n_epochs=2)
    for changes in ({"recompute": True}, {"head_budget_mib": 1}):
        for line, other in zip(plain, collect(n_epochs=2, **changes)):
            assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about its own jit
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch looks at it while it traces
def test_compiled_layers_train_as_plain_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain, compiled = collect(), collect(compile=True)
    for line, other in zip(plain, compiled):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert any(tmp_path.iterdir())
    counters = torch._dynamo.utils.counters  # type: ignore[attr-defined]
    assert counters["stats"]["unique_graphs"] <= 8  # of two layers and any number of shapes


def test_half_weights_stay_half() -> None:
    models: list[PreTrainedModel] = [make_model(dtype=torch.bfloat16) for _ in range(2)]
    kinds = []
    for model, half_weights in zip(models, (False, True)):
        train(
            model,
            STORE,
            IDS,
            make_config(half_weights=half_weights),
            seed=0,
            should_stop=lambda model=model: bool(kinds.append(model.dtype)),  # type: ignore[misc]
        )
        assert model.dtype == torch.bfloat16
    assert set(kinds[: len(kinds) // 2]) == {torch.float32}
    assert set(kinds[len(kinds) // 2 :]) == {torch.bfloat16}
