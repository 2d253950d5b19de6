from __future__ import annotations

import contextlib
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from causalmix.config import LoraConfig, TrainConfig
from causalmix.errors import TrainError
from causalmix.train.checkpoint import load_checkpoint
from causalmix.train.checks import check_documents, check_domains
from causalmix.train.ledger import Entry, Ledger
from causalmix.train.loop import train
from causalmix.train.lora import add_lora, merge_lora
from causalmix.train.row_optimizer import make_adamw
from causalmix.train.schedule import learning_rate, plan_steps
from causalmix.train.tokens import TokenStore
from tests.train.stores import VOCAB, make_config, make_model, make_store

torch.set_num_threads(1)
STORE = make_store([20, 14, 30, 25, 11, 40, 9, 22, 17, 35, 28, 13])
IDS = np.arange(len(STORE))


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


class Killed(Exception):  # noqa: N818
    """Stands for a signal that ends the process at a step."""


def run(
    cfg: TrainConfig, stop_at: int | None = None, **options: Any
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    model, lines = make_model(), []

    def log(values: dict[str, Any]) -> None:
        lines.append({key: values[key] for key in ("step", "loss", "lr", "grad_norm", "n_tokens")})
        if values["step"] == stop_at:
            raise Killed

    with contextlib.suppress(Killed):
        train(model, STORE, IDS, cfg, seed=5, log=log, **options)
    return weights(model), lines


def test_training_lowers_the_loss_and_reports_what_it_saw() -> None:
    model = make_model()
    result = train(model, STORE, IDS, make_config(n_epochs=20, lr_peak=1e-2), seed=0)
    assert result.loss_first == pytest.approx(math.log(VOCAB), rel=0.1)
    assert result.loss_last < result.loss_first - 0.5
    assert (result.n_samples, result.n_truncated, result.n_untargeted) == (240, 0, 0)
    assert result.n_tokens == 20 * len(STORE.tokens)
    assert result.n_target_tokens == 20 * STORE.count_targets(IDS, 48).sum()
    assert not model.training


def test_same_seed_same_bits_and_another_seed_other_bits() -> None:
    first, lines = run(make_config())
    second, again = run(make_config())
    assert_same(first, second)
    assert lines == again
    other = make_model()
    train(other, STORE, IDS, make_config(), seed=6)
    assert not torch.equal(first["model.embed_tokens.weight"], weights(other)["model.embed_tokens.weight"])


@pytest.mark.parametrize("lora", [LoraConfig(), LoraConfig(rank=2, dropout=0.3)], ids=["full", "lora"])
def test_a_kill_at_any_step_resumes_to_the_same_bits(tmp_path: Path, lora: LoraConfig) -> None:
    cfg = make_config(checkpoint_every=2, n_epochs=2, lora=lora)
    reference, lines = run(cfg)
    n_steps = len(lines)
    assert n_steps >= 6
    for step in range(1, n_steps + 1):
        folder = tmp_path / str(step)
        run(cfg, stop_at=step, checkpoint_dir=folder)
        resumed, rest = run(cfg, checkpoint_dir=folder)
        assert_same(resumed, reference)
        done = (step - 1) // 2 * 2  # the log is called before the checkpoint of its step is written
        assert rest == lines[done:]


def test_gradient_accumulation_changes_nothing_but_rounding() -> None:
    whole, lines = run(make_config(batch_rows=4))
    parts, again = run(make_config(batch_rows=4, rows_per_pass=1))
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=0, atol=2e-5)
    assert [line["loss"] for line in again] == pytest.approx([line["loss"] for line in lines], rel=1e-5)


def test_a_checkpoint_is_whole_and_alone(tmp_path: Path) -> None:
    run(make_config(checkpoint_every=1), checkpoint_dir=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path, name: str) -> None:
    cfg = make_config(checkpoint_every=2)
    run(cfg, stop_at=3, checkpoint_dir=tmp_path)
    (folder,) = tmp_path.iterdir()
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2 :] = b""
    (folder / name).write_bytes(content)
    with pytest.raises(TrainError, match=rf"{name} is damaged .* delete .*{folder.name} to restart"):
        run(cfg, checkpoint_dir=tmp_path)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    run(make_config(checkpoint_every=2), stop_at=3, checkpoint_dir=tmp_path)
    with pytest.raises(TrainError, match="checkpoint of another training"):
        run(make_config(checkpoint_every=2, lr_peak=1e-3), checkpoint_dir=tmp_path)
    with pytest.raises(TrainError, match="checkpoint of another training"):
        train(make_model(seed=9), STORE, IDS, make_config(checkpoint_every=2), seed=5, checkpoint_dir=tmp_path)
    # How often it is written and logged is no part of what is trained.
    run(make_config(checkpoint_every=1, log_every=3), checkpoint_dir=tmp_path)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = make_config(checkpoint_every=2, n_epochs=2)
    reference, _ = run(make_config(n_epochs=2))
    rename = Path.rename

    def die_at_step_4(self: Path, target: Path) -> Path:
        if target.name.endswith("4"):
            raise Killed
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die_at_step_4)
        run(cfg, checkpoint_dir=tmp_path)
    assert {path.name[:8] for path in tmp_path.iterdir()} >= {"step-000", ".writing"}
    resumed, rest = run(cfg, checkpoint_dir=tmp_path)
    assert rest[0]["step"] == 3
    assert_same(resumed, reference)


def test_an_unfinished_write_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".writing-0").mkdir()
    parameters = dict(make_model().named_parameters())
    assert load_checkpoint(tmp_path, parameters, make_adamw(parameters, make_config()), "x") is None
    run(make_config(checkpoint_every=2), checkpoint_dir=tmp_path)
    assert [path.name[:5] for path in tmp_path.iterdir()] == ["step-"]


def test_a_loss_that_is_not_a_number_names_the_documents() -> None:
    model = make_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[int(STORE.document(3)[0][0])] = float("nan")
    with pytest.raises(TrainError, match=r"Step \d+ has loss nan .* Its documents: .*\b3\b"):
        train(model, STORE, np.array([3, 4]), make_config(batch_rows=9), seed=0)


def test_documents_without_targets_are_named() -> None:
    labels = STORE.labels.copy()
    for index in (2, 5):
        labels[STORE.offsets[index] : STORE.offsets[index + 1]] = 0
    labels[STORE.offsets[7]] = 1  # a first token is predicted by nothing
    labels[STORE.offsets[7] + 1 : STORE.offsets[8]] = 0
    store = TokenStore(STORE.tokens, labels, STORE.offsets)
    with pytest.raises(TrainError, match=r"no target token .*: 2, 5, 7\. Remove"):
        train(make_model(), store, IDS, make_config(), seed=0)


def test_long_documents_are_cut_and_counted() -> None:
    result = train(make_model(), STORE, IDS, make_config(max_length=16, n_epochs=2), seed=0)
    lengths = STORE.lengths()
    assert result.n_truncated == 2 * int((lengths > 16).sum())
    lost = STORE.count_targets(IDS, 16) == 0
    assert result.n_untargeted == 2 * int(lost.sum()) > 0
    assert result.n_tokens == 2 * int(np.minimum(lengths, 16)[~lost].sum())
    assert result.n_samples == 2 * len(IDS)


def test_a_cut_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(TrainError, match=r"All 12 documents lose their targets when cut to train.max_length=3"):
        train(make_model(), STORE, IDS, make_config(max_length=3), seed=0)


def test_unknown_documents_and_bad_settings_are_refused_at_once() -> None:
    with pytest.raises(TrainError, match=r"documents 0 to 11, but these were given: -1, 12"):
        train(make_model(), STORE, np.array([0, -1, 12, 12]), make_config(), seed=0)
    with pytest.raises(TrainError, match="no documents to train on"):
        train(make_model(), STORE, np.array([], dtype=np.int64), make_config(), seed=0)
    with pytest.raises(TrainError, match=r"batch_rows=0 \(at least 1\), train.lr_peak=nan .*warmup_fraction=2"):
        train(
            make_model(),
            STORE,
            IDS,
            make_config(batch_rows=0, lr_peak=float("nan"), warmup_fraction=2.0),
            seed=0,
        )
    with pytest.raises(TrainError, match=r"max_length=2000 \(at most the model's 1024 positions\), n_steps=0"):
        train(make_model(), STORE, IDS, make_config(max_length=2000), seed=0, n_steps=0)
    with pytest.raises(TrainError, match="not one of auto, cpu, cuda"):
        train(make_model(), STORE, IDS, make_config(device="tpu"), seed=0)


def test_a_number_of_steps_takes_as_many_epochs_as_it_needs() -> None:
    result = train(make_model(), STORE, IDS, make_config(), seed=0, n_steps=11)
    assert result.n_steps == 11
    steps = plan_steps(STORE.lengths(), IDS, make_config(), 0, 11)
    assert result.n_samples == sum(len(row) for rows in steps for row in rows) > len(IDS)


def test_the_learning_rate_rises_to_the_peak_and_falls_to_the_end() -> None:
    cfg = make_config(lr_peak=1.0, warmup_fraction=0.1, lr_final_fraction=0.1)
    rates = [learning_rate(cfg, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == 1.0 == max(rates)
    assert rates[55] == pytest.approx(0.55)
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert 0.1 < rates[-1] < 0.102


def test_merged_adapters_equal_unmerged_ones() -> None:
    model = make_model(dtype=torch.float64).eval()
    adapted = add_lora(model, LoraConfig(rank=4), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    ids = torch.arange(30)[None]
    before = model(input_ids=ids).logits.detach()
    merge_lora(adapted)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    assert all(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(model(input_ids=ids).logits.detach(), before, rtol=1e-9, atol=1e-9)


def test_adapters_train_and_leave_what_they_do_not_adapt() -> None:
    before, after = weights(make_model()), run(make_config(lora=LoraConfig(rank=2), lr_peak=1e-2))[0]
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj.weight" in name and "self_attn" in name}
    with pytest.raises(TrainError, match=r"train.lora.target_modules=\['nothing'\]"):
        run(make_config(lora=LoraConfig(rank=2, target_modules=["nothing"])))


def test_bfloat16_follows_float32() -> None:
    _, lines = run(make_config(n_epochs=3))
    model, losses = make_model(dtype=torch.bfloat16), []
    train(model, STORE, IDS, make_config(n_epochs=3), seed=5, log=lambda values: losses.append(values["loss"]))
    assert model.dtype == torch.bfloat16
    assert losses == pytest.approx([line["loss"] for line in lines], abs=0.02)


@pytest.mark.parametrize("rule", ["truncate", "drop", "refuse"])
def test_the_rule_for_long_documents_is_kept_and_counted(rule: str) -> None:
    cfg = make_config(max_length=29, too_long=rule)
    lengths = STORE.lengths()
    is_long = lengths > 29
    if rule == "refuse":
        with pytest.raises(TrainError, match=r"longer than train.max_length=29 .*: 2, 5, 9 \(the longest has 40"):
            train(make_model(), STORE, IDS, cfg, seed=0)
        return
    result = train(make_model(), STORE, IDS, cfg, seed=0)
    assert result.n_samples == len(IDS)
    if rule == "truncate":
        assert (result.n_truncated, result.n_dropped) == (is_long.sum(), 0)
        assert result.n_tokens == np.minimum(lengths, 29).sum()
    else:
        assert (result.n_truncated, result.n_dropped, result.n_untargeted) == (0, is_long.sum(), 0)
        assert result.n_tokens == lengths[~is_long].sum()


def test_nothing_left_after_dropping_and_an_unknown_rule_are_refused() -> None:
    with pytest.raises(TrainError, match=r"All 12 documents are longer than train.max_length=3"):
        train(make_model(), STORE, IDS, make_config(max_length=3, too_long="drop"), seed=0)
    with pytest.raises(TrainError, match=r"too_long=cut \(one of truncate, drop, refuse\)"):
        train(make_model(), STORE, IDS, make_config(too_long="cut"), seed=0)


def test_a_domain_without_a_target_left_is_refused_by_name() -> None:
    domains = np.array(["math"] * 5 + ["code"] + ["chat"] * 6, dtype=object)  # document 5 has 40 tokens
    cfg = make_config(max_length=35, too_long="drop")
    kept = check_documents(STORE, IDS, cfg)
    with pytest.raises(TrainError, match=r"No document of code has a target .*max_length=35 under .*too_long=drop"):
        check_domains(kept, IDS, domains, cfg)
    check_domains(check_documents(STORE, IDS, make_config()), IDS, domains, make_config())


def test_processes_that_have_not_joined_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(TrainError, match=r"cannot use 4 processes .*have not joined"):
        train(make_model(), STORE, IDS, make_config(), seed=0)


def test_a_loss_that_is_read_later_still_names_its_own_documents() -> None:
    """On a GPU losses are read when they are logged; the step that broke is named, not the one that was read."""
    ledger = Ledger(None)
    for step, loss in enumerate([1.0, float("nan"), 2.0]):
        ledger.add(Entry(step, [torch.tensor(loss)], torch.tensor(1.0), [10 * step, 10 * step + 1]), 5, 3)
    with pytest.raises(TrainError, match=r"Step 2 has loss nan .*documents: 10, 11\."):
        ledger.read()


def test_a_checkpoint_that_cannot_be_written_ends_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("causalmix.train.checkpoint.sync", fail)
    with pytest.raises(OSError, match="no space left"):
        train(make_model(), STORE, IDS, make_config(checkpoint_every=1), seed=5, checkpoint_dir=tmp_path)


def test_a_snapshot_does_not_follow_the_training(tmp_path: Path) -> None:
    """Written beside the training, a checkpoint holds the weights of its own step."""
    cfg = make_config(checkpoint_every=1)
    run(cfg, stop_at=3, checkpoint_dir=tmp_path / "early")
    reference, _ = run(cfg)
    resumed, rest = run(cfg, checkpoint_dir=tmp_path / "early")
    assert rest[0]["step"] == 3
    assert_same(resumed, reference)
