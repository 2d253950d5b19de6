"""How close to its device does a training come? Qwen2.5-0.5B's architecture, random weights, documents of 600 tokens.

Ours, TRL's SFTTrainer with packing (and with Liger's kernels where they are installed) and HF's Trainer with padding,
each in a process of its own. Every token is a label, so a token costs six operations a weight and its attention:
3.04 GFLOP, the floor. "of peak" is that floor against a matrix product measured on the same device. The head alone is
timed at 8,192 labels against the time of its operations at that peak.

    python benchmarks/train_gpu.py [--size toy] [--json FILE]

Without a GPU use ``--size toy``: it runs the same code on the CPU, so that the script keeps working; its figures say
nothing about a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from peers import Job, load_job, save_job, train_ours, train_padded, train_trl

from causalmix.config import ModelConfig
from causalmix.train.device import measure_peak, synchronise
from causalmix.train.head import sum_cross_entropy
from causalmix.train.meter import Work, measure_memory
from causalmix.train.model import build_model
from causalmix.train.tokens import TokenStore

HERE = str(Path(__file__).resolve().parent)
# A script's folder stands first on the path, and coverage.py in it would hide the package that numba imports.
sys.path = [entry for entry in sys.path if entry != HERE]

AIMS = {"tokens_per_s on one H200": 130_000, "times faster than TRL packed": 2.0, "head, times its operations": 2.0}
WARM_UP = 5  # steps before the clock starts: compilation, autotuning


@dataclasses.dataclass(frozen=True)
class Size:
    """What is trained."""

    model: ModelConfig
    vocab_size: int
    document: int  # tokens
    max_length: int
    batch_rows: int
    n_steps: int
    head_rows: int
    head_budget_mib: int


SIZES = {
    "qwen": Size(
        ModelConfig(
            name="qwen2.5-0.5b",
            hidden_size=896,
            n_layers=24,
            n_heads=14,
            n_kv_heads=2,
            intermediate_size=4864,
            max_position=4096,
        ),
        vocab_size=151_936,
        document=600,
        max_length=4096,
        batch_rows=4,
        n_steps=40,
        head_rows=8192,
        head_budget_mib=2048,
    ),
    "toy": Size(
        ModelConfig(name="toy", hidden_size=32, n_layers=2, n_heads=4, n_kv_heads=2, intermediate_size=64),
        vocab_size=1000,
        document=60,
        max_length=256,
        batch_rows=2,
        n_steps=8,
        head_rows=256,
        head_budget_mib=1,
    ),
}
ARMS: dict[str, Any] = {
    "ours": train_ours,
    "ours compiled": lambda job: train_ours(job, compile=True),
    "trl packed": train_trl,
    "trl packed, liger": lambda job: train_trl(job, liger=True),
    "hf padded": train_padded,
}


def main() -> None:
    started = time.perf_counter()
    options = parse_options()
    size = SIZES[options.size]
    if options.arm:
        print(json.dumps(time_arm(options.arm, options.job, size)))
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and options.size != "toy":
        raise SystemExit("torch sees no GPU here: run it with --size toy, whose figures say nothing about a GPU.")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {platform.machine()}"
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    peak = measure_peak(device, dtype)
    print(f"{name}: {peak / 1e12:.3g} TFLOP/s in matrix products of {str(dtype).removeprefix('torch.')}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        floor = make_job(Path(folder), size)
        print(f"floor {floor / 1e9:.3g} GFLOP a token, at most {peak / floor:,.0f} tokens/s")
        print(f"{'arm':20} {'tokens/s':>10} {'of peak':>8} {'memory MiB':>11}")
        for arm in choose_arms(device):
            found = start_arm(arm, Path(folder), options.size)
            found |= {"arm": arm, "of_peak": found["tokens_per_s"] * floor / peak}
            print(
                f"{arm:20} {found['tokens_per_s']:10,.0f} {found['of_peak']:8.1%} {found['memory_mib']:11,.0f}",
                flush=True,
            )
            rows.append(found)
    head = time_head(size, device, dtype, peak)
    print(
        f"head alone, {size.head_rows} labels: {head['times_floor']:.2f} times its operations, "
        f"{head['memory_mib']:,.0f} MiB"
    )
    if options.json:
        content = {
            "date": datetime.now(UTC).date().isoformat(),
            "device": name,
            "peak_tflops": peak / 1e12,
            "floor_gflop_a_token": floor / 1e9,
            "torch": torch.__version__,
            "seconds": round(time.perf_counter() - started, 1),
            "settings": {"size": options.size, "aims": AIMS},
            "rows": rows,
            "head": head,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*SIZES], default="qwen")
    parser.add_argument("--json", type=Path, help="write the table here too")
    parser.add_argument("--arm", choices=[*ARMS], help=argparse.SUPPRESS)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def choose_arms(device: torch.device) -> list[str]:
    """Leave out what is not installed, and compiling on a CPU, which takes longer than the toy."""
    has_liger = device.type == "cuda" and importlib.util.find_spec("liger_kernel") is not None
    left_out = ([] if has_liger else ["trl packed, liger"]) + ([] if device.type == "cuda" else ["ours compiled"])
    return [arm for arm in ARMS if arm not in left_out]


def make_job(folder: Path, size: Size) -> float:
    """Write documents, model and tokenizer; return the floor, in operations a token."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    rows_of_documents = size.max_length // size.document
    n_documents = size.n_steps * size.batch_rows * rows_of_documents
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, size.vocab_size, n_documents * size.document).astype(np.uint32)
    offsets = np.arange(n_documents + 1) * size.document
    store = TokenStore(tokens, np.ones(len(tokens), np.uint8), offsets)
    ids = np.arange(n_documents)
    settings = {
        "batch_rows": size.batch_rows,
        "max_length": size.max_length,
        "lr_peak": 1e-5,
        "log_every": 10,
        "head_budget_mib": size.head_budget_mib,
    }
    save_job(folder, store, ids, ids[:1], settings)
    model = build_model(size.model, size.vocab_size, seed=0)
    model.save_pretrained(folder / "base")
    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>").save_pretrained(
        folder / "tokenizer"
    )
    return Work(model).count(np.array([size.document]), size.document) / size.document


def start_arm(arm: str, folder: Path, size: str) -> dict[str, Any]:
    """Run one arm in a fresh process, so that its memory is its own."""
    command = [sys.executable, __file__, "--size", size, "--arm", arm, "--job", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def time_arm(arm: str, folder: Path, size: Size) -> dict[str, float]:
    """Train in this process; tokens a second after the warm-up, and the most memory taken."""
    job: Job = load_job(folder)
    _, times = ARMS[arm](job)
    passed = times[-1] - times[min(WARM_UP, len(times) // 2)]
    n_steps = len(times) - 1 - min(WARM_UP, len(times) // 2)
    tokens_a_step = len(job.doc_ids) * size.document / len(times)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "tokens_per_s": n_steps * tokens_a_step / passed,
        "n_steps": float(len(times)),
        "memory_mib": measure_memory(device),
    }


def time_head(size: Size, device: torch.device, dtype: torch.dtype, peak: float) -> dict[str, float]:
    """Time the head's loss with both gradients, and the memory that it takes beside weights and states."""
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(size.model.hidden_size, size.vocab_size, bias=False).to(device)
    states = torch.randn(size.head_rows, size.model.hidden_size, generator=generator).to(device).requires_grad_()
    targets = torch.randint(0, size.vocab_size, (size.head_rows,), generator=generator).to(device)
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    best = float("inf")
    for _ in range(5):
        head.weight.grad = states.grad = None
        synchronise(device)
        started = time.perf_counter()
        with torch.autocast(device.type, dtype, enabled=dtype == torch.bfloat16):
            loss = sum_cross_entropy(head, states, targets, size.head_budget_mib)
        loss.backward()  # type: ignore[no-untyped-call]
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    flops = 6.0 * size.head_rows * size.vocab_size * size.model.hidden_size
    return {
        "seconds": best,
        "times_floor": best * peak / flops,
        "memory_mib": measure_memory(device) - before / 2**20,
    }


if __name__ == "__main__":
    main()
