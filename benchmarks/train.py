"""How fast is a training on a CPU? Ours against TRL's SFTTrainer with packing and HF's Trainer with padding.

Same model, documents, tokens a batch, optimiser and schedule; each training in a process of its own, the three in
turns. "whole" is the process from its start to the trained model, imports and packing included; "steady" is
its steps after the first ten. Seconds are of CPU time, which with one thread is what the clock says on a quiet
machine; a rate is of useful target tokens: labels learned, not tokens read.
Last, a whole run of the demo's proxy from start to record in a warm worker, against the same documents trained
by TRL and the same held-out documents scored by lm-eval's command line, each in a fresh process.

    python benchmarks/train.py [--repetitions N] [--outputs outputs] [--cells demo] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a sweep: a process a core
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
from peers import ARMS, Job, load_job, save_job

from causalmix.train.tokens import TokenStore

HERE = str(Path(__file__).resolve().parent)
# A script's folder stands first on the path, and coverage.py in it would hide the package that numba imports.
sys.path = [entry for entry in sys.path if entry != HERE]

AIMS = {"trl": 1.5, "padded": 3.0, "whole run": 8.0}
CELLS = ("demo tiny", "turns tiny", "turns small")
WARM_UP = 10  # steps before the steady state
DEMO = ["model.base.n_steps=400", "model.base.batch_rows=4", "train.n_samples=3000", "tracker=disabled"]


def main() -> None:
    started = time.perf_counter()
    options = parse_options()
    if options.arm:
        found = time_runs(options) if options.arm == "run" else time_arm(options.arm, options.job)
        print(json.dumps(found))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'cell':28} {'arm':8} {'whole s':>8} {'steady ms':>10} {'targets/s':>10} {'ours is':>8} {'heldout':>8}")
        for cell in CELLS:
            if options.cells in cell:
                make_job(cell, Path(folder) / cell, options)
                rows += compare(cell, Path(folder) / cell, options.repetitions)
        if options.cells in "whole run":
            rows.append(compare_whole_run(Path(folder), options))
    if options.json:
        content = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "seconds": round(time.perf_counter() - started, 1),
            "settings": {"repetitions": options.repetitions, "threads": os.environ["OMP_NUM_THREADS"], "aims": AIMS},
            "rows": rows,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2, help="of each training; the fastest counts")
    parser.add_argument("--documents", type=int, default=1200, help="a training of the demo's documents")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="where the demo's pool is or is made")
    parser.add_argument("--cells", default="", help="only cells whose name contains this")
    parser.add_argument("--json", type=Path, help="write the table here too")
    parser.add_argument("--override", action="append", default=[], help="of the demo's config, for smaller ones")
    parser.add_argument("--arm", choices=[*ARMS, "run"], help=argparse.SUPPRESS)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_job(cell: str, folder: Path, options: argparse.Namespace) -> None:
    """Write documents, model and tokenizer of a cell.

    ``demo`` has the documents of the demo's pool, all about as short; ``turns`` strings one to twelve of them
    together, as conversations of several turns are: lengths differ, which is what padding pays for.
    """
    from causalmix.pool.store import open_pool
    from causalmix.train.model import load_base

    documents, size = cell.split()
    pool_dir, base_dir = find_demo([*options.override, f"model={size}"], options.outputs)
    pool = open_pool(pool_dir)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(pool.store))[: options.documents + 200]
    turns = np.minimum(rng.geometric(0.3, len(chosen)), 12) if documents == "turns" else np.ones(len(chosen), int)
    groups = np.split(chosen, np.cumsum(turns))
    groups = [group for group in groups if len(group)]
    parts = [[pool.store.document(int(document)) for document in group] for group in groups]
    tokens = [np.concatenate([tokens for tokens, _ in part]) for part in parts]
    labels = [np.concatenate([labels for _, labels in part]) for part in parts]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in tokens])]).astype(np.int64)
    store = TokenStore(np.concatenate(tokens), np.concatenate(labels), offsets)
    n_heldout = max(1, len(groups) * 200 // len(chosen))
    settings = {"batch_rows": 2, "max_length": 256 if documents == "demo" else 512, "lr_peak": 2e-3, "device": "cpu"}
    save_job(folder, store, np.arange(n_heldout, len(groups)), np.arange(n_heldout), settings)
    load_base(base_dir).save_pretrained(folder / "base")
    pool.tokenizer.save_pretrained(folder / "tokenizer")


def find_demo(overrides: list[str], outputs: Path) -> tuple[Path, Path]:
    """Return the demo's pool and base, made where they are missing."""
    from causalmix.cli import compose_config
    from causalmix.sweep.points import Inputs, find_base

    plain = compose_config([*DEMO, f"outputs={outputs}", "cluster=local", *overrides])
    inputs = Inputs(outputs)
    pool_dir = inputs.prepare_pool(plain)
    base_dir = find_base(plain, pool_dir, inputs, {})
    assert base_dir is not None
    return pool_dir, base_dir


def compare(cell: str, folder: Path, repetitions: int) -> list[dict[str, Any]]:
    """Train with every arm in turns; print and return a row an arm, of its fastest repetition."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(repetitions):
        for arm in ARMS:
            found = start_arm(arm, folder)
            known = best.setdefault(arm, found)
            best[arm] = {name: min(value, known[name]) for name, value in found.items()}
    job = load_job(folder)
    rows = []
    for arm, found in best.items():
        ratios = {name: found[name] / best["ours"][name] for name in ("whole_s", "steady_s")}
        rate = job.count_targets() / found["steady_s"]
        ratio = f"{ratios['whole_s']:.1f} {ratios['steady_s']:.1f}"
        print(
            f"{cell:28} {arm:8} {found['whole_s']:8.1f} {1e3 * found['step_s']:10.2f} {rate:10.0f} {ratio:>8} "
            f"{found['heldout_loss']:8.3f}",
            flush=True,
        )
        rows.append({"cell": cell, "arm": arm, **found, "targets_per_s": rate, "times_ours": ratios})
    return rows


def start_arm(arm: str, folder: Path) -> dict[str, float]:
    """Run one arm in a fresh process."""
    started = children_s()
    printed = run_process(sys.executable, __file__, "--arm", arm, "--job", str(folder))
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    found["whole_s"] = children_s() - started - found.pop("scoring_s")
    return found


def children_s() -> float:
    """CPU seconds of the processes that this one has started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_process(*command: str) -> str:
    """Run a command and return what it printed; stop the benchmark where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def time_arm(arm: str, folder: Path) -> dict[str, float]:
    """Train in this process; seconds of all steps at the steady rate, and the loss on held-out documents."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    job = load_job(folder)
    model, times = ARMS[arm](job)
    model.save_pretrained(folder / "trained")
    steps = np.diff(times[WARM_UP:])
    started = time.process_time()
    loss = score_heldout(model, job)
    return {
        "step_s": float(np.median(steps)),
        "steady_s": float(np.mean(steps) * len(times)),
        "n_steps": float(len(times)),
        "heldout_loss": loss,
        "scoring_s": time.process_time() - started,
    }


def score_heldout(model: Any, job: Job) -> float:
    """Mean loss of a label in held-out documents, one at a time through transformers."""
    import torch

    total, n_targets = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for document in job.heldout[:100]:
            tokens, mask = (torch.from_numpy(part.astype(np.int64)) for part in job.store.document(int(document)))
            log_probs = model(input_ids=tokens[None].to(model.device)).logits[0, :-1].float().log_softmax(-1).cpu()
            where = mask[1:].bool()
            total -= log_probs.gather(1, tokens[1:, None]).squeeze(1)[where].sum().item()
            n_targets += int(where.sum())
    return total / n_targets


def compare_whole_run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Time the demo's proxy from start to record, and the same work by TRL and lm-eval's command line."""
    flags = [part for override in options.override for part in ("--override", override)]
    where = ["--outputs", str(options.outputs), "--job", str(folder / "run")]
    ours = json.loads(run_process(sys.executable, __file__, "--arm", "run", *where, *flags).splitlines()[-1])
    trl = start_arm("trl", folder / "run")
    started = children_s()
    tasks = ",".join(ours["tasks"])
    run_process(
        *(sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--batch_size", "64"),
        *("--model_args", f"pretrained={folder / 'run' / 'trained'},tokenizer={folder / 'run' / 'tokenizer'}"),
        *("--include_path", str(folder / "run" / "tasks"), "--tasks", tasks, "--apply_chat_template"),
    )
    scored_s = children_s() - started
    theirs = trl["whole_s"] + scored_s
    share = ours["evaluation_s"] / (ours["training_s"] + ours["evaluation_s"])
    print(f"\nwhole run, warm worker: {ours['seconds']:.2f} s, {share:.0%} of training and evaluation is evaluation")
    print(f"TRL in a fresh process {trl['whole_s']:.1f} s, lm_eval's command line {scored_s:.1f} s")
    print(f"times faster: {theirs / ours['seconds']:.1f}")
    peers = {"trl_s": trl["whole_s"], "lm_eval_s": scored_s}
    return {"cell": "whole run", **ours, **peers, "times_faster": theirs / ours["seconds"]}


def time_runs(options: argparse.Namespace) -> dict[str, Any]:
    """Do one of the demo's runs three times in this process; time the last two, and write them down as a job."""
    import pyarrow.parquet as pq
    import torch
    import yaml

    from causalmix.cli import compose_config
    from causalmix.evaluate.evaluator import TEMPLATE
    from causalmix.pool.store import open_pool
    from causalmix.run.proxy import run_proxy
    from causalmix.run.workshop import Workshop
    from causalmix.sweep.points import Inputs, identify
    from causalmix.sweep.worker import make_point
    from causalmix.train.model import load_base

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    outputs, folder = options.outputs, options.job
    pool_dir, base_dir = find_demo(options.override, outputs)
    plain = compose_config([*DEMO, f"outputs={outputs}", "cluster=local", "mixture=dirichlet", *options.override])
    inputs = Inputs(outputs)
    run = identify(plain, inputs)
    entry = {"run_id": run.run_id, "plain": run.plain, "pool_dir": str(pool_dir), "base_dir": str(base_dir)}
    entry |= {"pool_fingerprint": inputs.fingerprints[run.pool_dir], "git_sha": None}
    workshop, seconds = Workshop(), []
    for attempt in range(3):
        started = time.process_time()
        record = run_proxy(make_point(entry, "benchmark"), folder / f"run{attempt}", workshop)
        seconds.append(time.process_time() - started)
        if record.status != "complete":
            raise SystemExit(str(record.cause))
    at = {event["event"]: event["at_s"] for event in record.events}
    pool = open_pool(pool_dir)
    documents = pq.read_table(folder / "run2" / "manifest.parquet")["document"].to_numpy()
    keys = ("batch_rows", "max_length", "lr_peak", "warmup_fraction")
    save_job(
        folder, pool.store, documents, documents[:1], {key: plain["train"][key] for key in keys} | {"device": "cpu"}
    )
    load_base(base_dir).save_pretrained(folder / "base")
    pool.tokenizer.save_pretrained(folder / "tokenizer")
    tasks = [task for split in ("dev", "unseen") for names in plain["evaluate"][split].values() for task in names]
    (folder / "tasks").mkdir()
    for task in tasks:
        place = {"path": str(Path(pool.heldout_path).resolve()), "task": task, "limit": plain["evaluate"]["limit"]}
        content = {"include": str(TEMPLATE), "task": task, "dataset_kwargs": place}
        (folder / "tasks" / f"{task}.yaml").write_text(yaml.safe_dump(content))
    return {
        "seconds": min(seconds[1:]),
        "first_s": seconds[0],
        "training_s": at["training_ended"] - at["training_started"],
        "evaluation_s": at["evaluation_ended"] - at["training_ended"],
        "avg_dev": record.row["outcome.avg_dev"],
        "tasks": tasks,
    }


if __name__ == "__main__":
    main()
