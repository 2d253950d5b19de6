"""How a training computes on its device changes nothing of what it computes."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch

from causalmix.config import ModelConfig
from causalmix.errors import TrainError
from causalmix.train.batches import plan_batches
from causalmix.train.engine import Engine, make_engine
from causalmix.train.model import build_model
from tests.train.stores import VOCAB, make_config, make_model, make_store

torch.set_num_threads(1)
STORE = make_store([12, 25, 7, 40, 3, 18, 33, 2, 9])
PLAN = plan_batches(STORE.lengths(), np.arange(len(STORE)), max_length=48, batch_rows=2, seed=0)


def learn(engine: Engine) -> tuple[float, list[torch.Tensor], set[int]]:
    model = make_model(dtype=torch.float64)
    losses, sizes = 0.0, set()
    for step in range(len(PLAN)):
        prepared = engine.prepare(PLAN.build(STORE, step))
        sizes.add(len(prepared.flat.input_ids))
        loss = engine.sum_loss(model, prepared)
        loss.backward()  # type: ignore[no-untyped-call]
        losses += loss.item()
    return losses, [p.grad for p in model.parameters() if p.grad is not None], sizes


def test_passes_filled_up_to_one_shape_learn_the_same() -> None:
    engine = make_engine(make_config(), torch.float64)
    assert not engine.has_fixed_shapes
    loss, gradients, sizes = learn(engine)
    fixed = dataclasses.replace(engine, has_fixed_shapes=True)
    same_loss, same_gradients, one_size = learn(fixed)
    assert len(sizes) > 1
    assert one_size == {2 * 48}
    assert same_loss == pytest.approx(loss, rel=1e-12)
    for first, second in zip(gradients, same_gradients):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


def test_the_engine_follows_the_settings() -> None:
    half = make_engine(make_config(rows_per_pass=1, recompute=True), torch.bfloat16)
    assert (half.is_half, half.n_rows, half.decoding.recompute) == (True, 1, True)
    assert not make_engine(make_config(half_weights=True), torch.bfloat16).is_half
    assert not make_engine(make_config(), torch.float32).is_half
    with pytest.raises(TrainError, match=r"varlen needs an NVIDIA GPU"):
        make_engine(make_config(attention="varlen"), torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
@pytest.mark.parametrize("compile_layers", [False, True])
@pytest.mark.parametrize("attention", ["varlen", "flex", "documents"])
def test_a_gpu_learns_what_a_cpu_does(attention: str, compile_layers: bool) -> None:
    """In bfloat16: the loss within 1%, each gradient within 5% of its length."""
    sizes = {"hidden_size": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "intermediate_size": 96}
    build = functools.partial(build_model, ModelConfig(name="gpu", **sizes), VOCAB, 0)  # heads of 16: flex's least
    reference = build().train()
    cpu = make_engine(make_config(), torch.float32)
    cfg = make_config(device="cuda", attention=attention, compile=compile_layers)
    engine = make_engine(cfg, torch.bfloat16)
    model = build().train().to("cuda")
    for step in range(len(PLAN)):
        batch = PLAN.build(STORE, step)
        expected = cpu.sum_loss(reference, cpu.prepare(batch))
        found = engine.sum_loss(model, engine.prepare(batch))
        expected.backward()  # type: ignore[no-untyped-call]
        found.backward()  # type: ignore[no-untyped-call]
        assert found.item() == pytest.approx(expected.item(), rel=0.01)
    for right, got in zip(reference.parameters(), model.parameters()):
        assert right.grad is not None
        assert got.grad is not None
        assert (got.grad.cpu() - right.grad).norm() < 0.05 * right.grad.norm()
