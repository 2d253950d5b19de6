"""Trainings in one computation are the trainings alone: losses, weights, counts, failures, interruptions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from causalmix.config import LoraConfig
from causalmix.errors import RunTimedOutError, StoppedEarlyError, TrainError
from causalmix.train.engine import make_engine
from causalmix.train.reader import BatchReader
from causalmix.train.result import TrainResult
from causalmix.train.side_by_side import lay_side_by_side, sum_losses
from causalmix.train.stack import Stack
from causalmix.train.together import train_together
from causalmix.train.training import Training
from tests.train.stores import make_config, make_model, make_store

STORE = make_store(np.random.default_rng(0).integers(3, 60, 300).tolist())


class Runs:
    """Trainings of different documents, seeds, weights and schedules, with what each of them logs."""

    def __init__(self, n_runs: int = 3, dtype: torch.dtype = torch.float32, **changes: Any) -> None:
        self.logs: list[list[dict[str, Any]]] = [[] for _ in range(n_runs)]
        self.trainings = []
        for run in range(n_runs):
            settings = {"lr_peak": 1e-3 * (1 + run), "weight_decay": 0.1 * run, "n_epochs": 1 + run % 2, **changes}
            documents = np.random.default_rng(run).permutation(300)[: 60 + 13 * run]
            model = make_model(run, dtype)
            cfg = make_config(**settings)
            self.trainings.append(Training(model, STORE, documents, cfg, run, log=self.logs[run].append))

    @property
    def models(self) -> list[PreTrainedModel]:
        return [training.model for training in self.trainings]

    def losses(self, run: int) -> list[float]:
        return [line["loss"] for line in self.logs[run]]

    def change(self, run: int, **changes: Any) -> None:
        self.trainings[run] = replace(self.trainings[run], **changes)


def measure_distance(one: PreTrainedModel, other: PreTrainedModel) -> float:
    """Length of the difference of all weights over the length of all weights."""
    first, second = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in (one, other))
    return float((first - second).norm() / first.norm())


def compare(alone: Runs, beside: Runs, outcomes: list[Any], losses: float, weights: float) -> None:
    """Every training of ``beside`` did what that of ``alone`` does."""
    for run, training in enumerate(alone.trainings):
        expected, found = training.train_alone(), outcomes[run]
        assert isinstance(found, TrainResult), found
        for name in ("n_steps", "n_samples", "n_tokens", "n_target_tokens", "n_truncated", "n_untargeted", "n_dropped"):
            assert getattr(found, name) == getattr(expected, name), name
        assert np.array_equal(found.documents, expected.documents)
        assert [line["step"] for line in beside.logs[run]] == [line["step"] for line in alone.logs[run]]
        assert [line["lr"] for line in beside.logs[run]] == [line["lr"] for line in alone.logs[run]]
        assert beside.losses(run) == pytest.approx(alone.losses(run), rel=losses)
        assert measure_distance(alone.models[run], beside.models[run]) < weights
        assert found.loss_last == pytest.approx(expected.loss_last, rel=losses)


@pytest.mark.parametrize(("dtype", "losses", "weights"), [(torch.float32, 1e-5, 1e-5), (torch.float64, 1e-12, 1e-12)])
def test_runs_together_are_the_runs_alone(dtype: torch.dtype, losses: float, weights: float) -> None:
    """In float64 to its rounding: what differs in float32 is rounding too, and no other computation."""
    runs = Runs(dtype=dtype)
    compare(Runs(dtype=dtype), runs, train_together(runs.trainings), losses, weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows_per_pass": 1, "batch_rows": 3},
        {"too_long": "drop"},
        {"lora": LoraConfig(rank=2)},
        {"recompute": True},
        {"grad_clip": 0.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_settings_mean_the_same(changes: dict[str, Any]) -> None:
    runs, alone = (Runs(2, torch.float64, **changes) for _ in range(2))
    if "lora" in changes:  # one frozen base
        for each in (runs, alone):
            each.change(1, model=make_model(0, torch.float64))
    compare(alone, runs, train_together(runs.trainings), 1e-9, 1e-9)


def test_a_family_with_norms_of_heads() -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    def build(seed: int) -> PreTrainedModel:
        torch.manual_seed(seed)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 97, "pad_token_id": 3}
        model: PreTrainedModel = Qwen3ForCausalLM(Qwen3Config(**sizes, **heads)).double()
        return model

    runs, alone = Runs(2, torch.float64), Runs(2, torch.float64)
    for each in (runs, alone):
        for run in range(2):
            each.change(run, model=build(run))
    compare(alone, runs, train_together(runs.trainings), 1e-9, 1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 299), min_size=1, max_size=2), max_size=3), min_size=1, max_size=4
    ).filter(any)
)
def test_what_is_filled_up_changes_nothing(passes: list[list[list[int]]]) -> None:
    """Any rows, none of some runs: losses and gradients are those of each run's own batch, to float64's rounding."""
    store = make_store(np.minimum(np.diff(STORE.offsets), 24).tolist())
    rows = [tuple(map(tuple, own)) for own in passes]
    engine, reader = make_engine(make_config(), torch.float64), BatchReader(store, 48)
    models = [make_model(run, torch.float64).train() for run in range(len(rows))]
    stack = Stack(models, engine.device)
    side = lay_side_by_side(reader, rows, engine)
    losses = sum_losses(stack.model, side, engine)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    gradients = stack.take_gradients()
    for run, own in enumerate(rows):
        if not own:
            assert losses[run] == 0
            assert gradients[run].norm() == 0
            continue
        batch = reader.read(own)
        alone = engine.sum_loss(models[run], engine.prepare(batch))
        alone.backward()  # type: ignore[no-untyped-call]
        assert (side.n_tokens[run], side.n_targets[run]) == (batch.n_tokens, batch.n_targets)
        assert losses[run].item() == pytest.approx(alone.item(), rel=1e-12)
        expected = dict(models[run].named_parameters())
        for name, gradient in stack.row.name(gradients[run]):
            assert torch.allclose(gradient, expected[name].grad, rtol=1e-9, atol=1e-11), name


def test_a_run_that_fails_fails_alone_and_names_its_documents() -> None:
    runs, alone = Runs(), Runs()
    runs.change(1, cfg=make_config(lr_peak=1e30, log_every=1))
    outcomes = train_together(runs.trainings)
    with pytest.raises(TrainError, match="Its documents: ") as expected:
        replace(runs.trainings[1], model=make_model(1)).train_alone()
    assert isinstance(outcomes[1], TrainError)
    assert str(outcomes[1]).split("Its documents")[1] == str(expected.value).split("Its documents")[1]
    for each in (runs, alone):
        each.trainings.pop(1)
        each.logs.pop(1)
    compare(alone, runs, [outcomes[0], outcomes[2]], 1e-5, 1e-5)


def test_refused_documents_and_settings_are_one_runs_own() -> None:
    runs, alone = Runs(4), Runs(4)
    runs.change(0, doc_ids=np.array([7, 999]))
    runs.change(2, cfg=make_config(warmup_fraction=2.0))
    outcomes = train_together(runs.trainings)
    assert "these were given: 999" in str(outcomes[0])
    assert "train.warmup_fraction=2.0" in str(outcomes[2])
    assert measure_after(alone, 3) == pytest.approx(measure(runs, 3), rel=1e-5)
    assert isinstance(outcomes[1], TrainResult)


def measure(runs: Runs, run: int) -> float:
    return float(sum(parameter.detach().double().sum() for parameter in runs.models[run].parameters()))


def measure_after(runs: Runs, run: int) -> float:
    runs.trainings[run].train_alone()
    return measure(runs, run)


def stop_after(n_steps: int, error: Exception | None = None) -> Callable[[], bool]:
    asked = []

    def should_stop() -> bool:
        asked.append(1)
        if error is not None and len(asked) == n_steps:
            raise error
        return len(asked) == n_steps

    return should_stop


@pytest.mark.parametrize("how", ["alone", "beside another"])
def test_an_interrupted_run_goes_on_anywhere(how: str, tmp_path: Path) -> None:
    """Stopped in a group of three at different steps; the second and third go on with another run, or by themselves."""
    runs, alone = Runs(), Runs()
    for run, n_steps in ((1, 5), (2, 9)):
        runs.change(run, checkpoint_dir=tmp_path / str(run), should_stop=stop_after(n_steps))
    first = train_together(runs.trainings)
    assert isinstance(first[0], TrainResult)
    assert [str(error)[:25] for error in first[1:]] == ["told to stop after step 5", "told to stop after step 9"]
    assert all(isinstance(error, StoppedEarlyError) for error in first[1:])

    again = Runs()
    for run in (1, 2):
        again.change(run, checkpoint_dir=tmp_path / str(run), log=runs.logs[run].append)
    second: list[Any]
    if how == "alone":
        second = [first[0], *(training.train_alone() for training in again.trainings[1:])]
    else:
        second = [first[0], *train_together([Runs(4).trainings[3], *again.trainings[1:]])[1:]]
    runs.trainings = [runs.trainings[0], *again.trainings[1:]]
    compare(alone, runs, second, 1e-5, 1e-5)


def test_a_run_alone_goes_on_in_a_group(tmp_path: Path) -> None:
    runs, alone = Runs(2), Runs(2)
    stopped = replace(runs.trainings[1], model=copy.deepcopy(runs.models[1]), should_stop=stop_after(4))
    with pytest.raises(StoppedEarlyError):
        replace(stopped, checkpoint_dir=tmp_path).train_alone()
    runs.change(1, checkpoint_dir=tmp_path)
    compare(alone, runs, train_together(runs.trainings), 1e-5, 1e-5)


def test_a_damaged_checkpoint_and_a_lost_run_are_one_runs_own(tmp_path: Path) -> None:
    runs, alone = Runs(), Runs()
    (tmp_path / "step-00000003").mkdir()
    runs.change(0, checkpoint_dir=tmp_path)
    runs.change(1, should_stop=stop_after(3, RunTimedOutError("too long")))
    outcomes = train_together(runs.trainings)
    assert "is damaged" in str(outcomes[0])
    assert isinstance(outcomes[1], RunTimedOutError)
    assert measure_after(alone, 2) == pytest.approx(measure(runs, 2), rel=1e-5)


def test_models_that_cannot_be_one_fail_together_and_say_the_mend() -> None:
    runs = Runs(2)
    runs.change(1, model=make_model(1, torch.float64))
    assert all("set train.batch_runs=1" in str(outcome) for outcome in train_together(runs.trainings))
    runs = Runs(2)
    runs.change(1, store=make_store([20] * 300), cfg=make_config(max_length=40))
    assert all("differ in pool, train.max_length" in str(outcome) for outcome in train_together(runs.trainings))
    runs = Runs(2, lora=LoraConfig(rank=2))  # two bases
    assert all("frozen weights differ" in str(outcome) for outcome in train_together(runs.trainings))


def test_seconds_are_shared() -> None:
    outcomes = train_together(Runs().trainings)
    walls = [outcome.wall_s for outcome in outcomes if isinstance(outcome, TrainResult)]
    shares = [outcome.device_s for outcome in outcomes if isinstance(outcome, TrainResult)]
    assert len(shares) == 3
    assert 0 < sum(shares) < 1.5 * max(walls) + 1.0
    assert max(shares) < max(walls)
