"""The same training by what a user would pick instead: TRL's SFTTrainer with packing, HF's Trainer with padding.

Each takes a job (a folder with tokens and a first model) and returns the trained model and when its steps ended.
"""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from causalmix.config import TrainConfig
from causalmix.train.tokens import TokenStore


@dataclasses.dataclass(frozen=True)
class Job:
    """One training: documents, settings, a first model in ``folder/base``."""

    folder: Path
    store: TokenStore
    doc_ids: np.ndarray[Any, np.dtype[np.int64]]
    heldout: np.ndarray[Any, np.dtype[np.int64]]
    cfg: TrainConfig

    @property
    def documents_a_step(self) -> int:
        """Documents that make a batch of as many tokens as the packed rows."""
        return max(1, round(self.cfg.batch_rows * self.cfg.max_length / self.store.lengths()[self.doc_ids].mean()))

    @property
    def is_gpu(self) -> bool:
        import torch

        return torch.cuda.is_available() and self.cfg.device != "cpu"

    def count_targets(self) -> int:
        return int(self.store.count_targets(self.doc_ids, self.cfg.max_length).sum())


def save_job(folder: Path, store: TokenStore, doc_ids: Any, heldout: Any, settings: dict[str, Any]) -> None:
    """Write a job without its model."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"tokens": store.tokens, "labels": store.labels, "offsets": store.offsets}
    np.savez(folder / "job.npz", doc_ids=doc_ids, heldout=heldout, **arrays)
    (folder / "job.json").write_text(json.dumps(settings))


def load_job(folder: Path) -> Job:
    arrays = np.load(folder / "job.npz")
    store = TokenStore(arrays["tokens"], arrays["labels"], arrays["offsets"])
    cfg = TrainConfig(name="benchmark", **json.loads((folder / "job.json").read_text()))
    return Job(folder, store, arrays["doc_ids"], arrays["heldout"], cfg)


def make_columns(job: Job) -> dict[str, list[list[int]]]:
    """Return documents as ``input_ids`` and ``labels``, as a user's dataset holds them after tokenising."""
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for document in job.doc_ids:
        tokens, mask = (part[: job.cfg.max_length].astype(np.int64) for part in job.store.document(int(document)))
        columns["input_ids"].append(tokens.tolist())
        columns["labels"].append(np.where(mask == 1, tokens, -100).tolist())
    return columns


def train_ours(job: Job, **changes: Any) -> tuple[Any, list[float]]:
    """Train with this project's loop."""
    import torch
    from transformers import Qwen2ForCausalLM

    from causalmix.train.loop import train

    dtype = torch.bfloat16 if job.is_gpu else torch.float32  # trained as TRL's are: float32 weights under autocast
    model = Qwen2ForCausalLM.from_pretrained(job.folder / "base", dtype=dtype)
    times: list[float] = []
    cfg = dataclasses.replace(job.cfg, **changes)
    train(model, job.store, job.doc_ids, cfg, seed=0, log=lambda _: None, should_stop=lambda: _note(times))
    return model, times


def train_trl(job: Job, *, liger: bool = False) -> tuple[Any, list[float]]:
    """Train with TRL's SFTTrainer, which packs the documents itself."""
    warnings.simplefilter("ignore")
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM
    from trl import SFTConfig, SFTTrainer

    model = Qwen2ForCausalLM.from_pretrained(job.folder / "base", attn_implementation=_attention())
    times: list[float] = []
    settings = SFTConfig(
        **_settings(job, job.cfg.batch_rows),
        packing=True,
        max_length=job.cfg.max_length,
        gradient_checkpointing=False,
        use_liger_kernel=liger,
    )
    trainer = SFTTrainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_dict(make_columns(job)),
        processing_class=PreTrainedTokenizerFast.from_pretrained(job.folder / "tokenizer"),
        callbacks=[_make_clock(times)],
    )
    trainer.train()
    return trainer.model, times


def train_padded(job: Job) -> tuple[Any, list[float]]:
    """Train with Hugging Face's Trainer, each batch padded to its longest document."""
    warnings.simplefilter("ignore")
    from datasets import Dataset
    from transformers import (
        DataCollatorForSeq2Seq,
        PreTrainedTokenizerFast,
        Qwen2ForCausalLM,
        Trainer,
        TrainingArguments,
    )

    model = Qwen2ForCausalLM.from_pretrained(job.folder / "base")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(job.folder / "tokenizer")
    times: list[float] = []
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**_settings(job, job.documents_a_step)),
        train_dataset=Dataset.from_dict(make_columns(job)),
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100),
        callbacks=[_make_clock(times)],
    )
    trainer.train()
    return trainer.model, times


ARMS = {"ours": train_ours, "trl": train_trl, "padded": train_padded}


def _settings(job: Job, batch_size: int) -> dict[str, Any]:
    cfg = job.cfg
    return {
        "output_dir": str(job.folder / "trainer"),
        "per_device_train_batch_size": batch_size,
        "num_train_epochs": cfg.n_epochs,
        "learning_rate": cfg.lr_peak,
        "lr_scheduler_type": "cosine",
        "warmup_steps": cfg.warmup_fraction,  # below 1 it is a share
        "adam_beta1": cfg.beta1,
        "adam_beta2": cfg.beta2,
        "max_grad_norm": cfg.grad_clip,
        "optim": "adamw_torch_fused",
        "bf16": job.is_gpu,
        "use_cpu": not job.is_gpu,
        "logging_steps": cfg.log_every,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 0,
    }


def _attention() -> str:
    import importlib.util

    return "flash_attention_2" if importlib.util.find_spec("flash_attn") else "sdpa"


def _make_clock(times: list[float]) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            _note(times)

    return Clock()


def _note(times: list[float]) -> bool:
    """Write down when a step ended; the answer tells our loop to go on.

    On a CPU in seconds of this process's own: with one thread they are those of the clock on a quiet machine,
    and other work on a busy one does not count. On a GPU by the clock, once the step is really done.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times.append(time.perf_counter() if torch.cuda.is_available() else time.process_time())
    return False
