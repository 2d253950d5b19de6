"""The same training by TRL's SFTTrainer: the same loss at every step."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from causalmix.train.loop import train
from causalmix.train.schedule import learning_rate, plan_steps
from causalmix.train.tokens import TokenStore
from tests.evaluate.files import make_tokenizer
from tests.train.stores import VOCAB, make_config, make_model, make_store

torch.set_num_threads(1)


def make_learnable(lengths: list[int]) -> TokenStore:
    """Documents whose next token follows from the last, nine times in ten: the loss has far to fall."""
    store = make_store(lengths)
    tokens = store.tokens.astype(np.int64)
    noise = np.random.default_rng(1).random(len(tokens)) < 0.1
    for at in range(1, len(tokens)):
        if not noise[at]:
            tokens[at] = (3 * tokens[at - 1] + 1) % VOCAB
    return TokenStore(tokens.astype(np.uint16), store.labels, store.offsets)


@pytest.mark.slow
def test_two_hundred_steps_equal_trl_step_by_step(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever TRL and what it imports warn of
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        store = make_learnable(np.random.default_rng(0).integers(4, 45, 1050).tolist())
        ids = np.arange(len(store))
        cfg = make_config(lr_peak=5e-3, max_length=64)
        steps = plan_steps(store.lengths(), ids, cfg, 0, None)
        n_steps = len(steps)
        assert n_steps >= 200

        ours: list[dict[str, float]] = []
        train(make_model(), store, ids, cfg, seed=0, log=ours.append)

        columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "seq_lengths": []}
        for row in (row for rows in steps for row in rows):
            parts = [store.document(document) for document in row]
            columns["input_ids"].append(np.concatenate([tokens for tokens, _ in parts]).tolist())
            labels = [np.where(mask.astype(bool), tokens.astype(np.int64), -100) for tokens, mask in parts]
            columns["labels"].append(np.concatenate(labels).tolist())
            columns["seq_lengths"].append([len(tokens) for tokens, _ in parts])
        model = make_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr_peak, betas=(0.9, 0.95), weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(cfg, min(step, n_steps - 1), n_steps) / cfg.lr_peak
        )
        settings = SFTConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=cfg.batch_rows,
            num_train_epochs=1,
            packing=True,  # the rows are packed already; so documents are told apart
            max_length=cfg.max_length,
            dataset_kwargs={"skip_prepare_dataset": True},
            train_sampling_strategy="sequential",
            max_grad_norm=cfg.grad_clip,
            gradient_checkpointing=False,
            bf16=False,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=model,
            args=settings,
            train_dataset=Dataset.from_dict(columns),
            processing_class=make_tokenizer(),
            optimizers=(optimizer, schedule),
        )
        trainer.train()
    theirs = [line for line in trainer.state.log_history if "loss" in line]
    assert len(theirs) == len(ours) == n_steps
    assert ours[-1]["loss"] < ours[0]["loss"] - 1
    gaps = [abs(our["loss"] - their["loss"]) for our, their in zip(ours, theirs)]
    print(f"{n_steps} steps, loss {ours[0]['loss']:.3f} to {ours[-1]['loss']:.3f}, largest difference {max(gaps):.1e}")
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], abs=1e-3)
    assert [line["grad_norm"] for line in ours] == pytest.approx([line["grad_norm"] for line in theirs], rel=1e-2)
