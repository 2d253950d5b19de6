"""How fast are the demo's held-out tasks scored? Ours against lm-eval's own model at its best batch size.

Same tasks, requests and model, in one warm process and in turns; seconds are of CPU time, the fastest repetition of
each. "first" holds tokenising and packing, which lm-eval's model does again for every model; "again" is the second
model of a warm worker and every one after it, which finds its requests packed. The whole evaluation holds what lm-eval
does around its model too: making requests, metrics, tables. All numbers are checked to be equal.
Last, runs of the demo's proxy from start to record: the share of them that evaluation takes, from their own events.

    python benchmarks/evaluation.py [--repetitions 3] [--outputs outputs] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train import DEMO, find_demo, run_process  # first: it sets the threads, and takes this folder off the path

if TYPE_CHECKING:
    from causalmix.config import EvaluateConfig
    from causalmix.evaluate.evaluator import Evaluator
    from causalmix.evaluate.likelihood import LikelihoodLM
    from causalmix.pool.store import Pool

BATCH_SIZES = (1, 8, 16, 32, 64, 128)
TOLERANCE = 1e-5
AIMS = {"times_faster": 5.0, "share_of_run": 0.15}


def main() -> None:
    options = parse_options()
    if options.runs:
        print(json.dumps(measure_share(options)))
        return
    cells = compare(options)
    for cell in cells:
        show(cell)
    flags = [part for override in options.override for part in ("--override", override)]
    share = json.loads(
        run_process(sys.executable, __file__, "--runs", "--outputs", str(options.outputs), *flags).splitlines()[-1]
    )
    print(f"a run of {share['run_s']:.2f} s: evaluation {share['evaluation_s']:.2f} s, {share['share']:.1%} of it")
    if options.json:
        content = {
            "command": f"python benchmarks/evaluation.py --repetitions {options.repetitions}",
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "settings": {"threads": os.environ["OMP_NUM_THREADS"], "aims": AIMS, "override": options.override},
            "cells": cells,
            "run": share,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def show(cell: dict[str, Any]) -> None:
    """Print a cell, and put into its rows how many times faster than lm-eval's best each is."""
    best = min(row["seconds"] for row in cell["rows"] if row["arm"] == "lm-eval")
    print(f"{cell['cell']}: {cell['n_requests']} requests, relative differences up to {cell['difference']:.1e}")
    if "work" in cell:
        work = cell["work"]
        print(
            f"{work['tokens']:,} tokens, {work['tokens_read']:,} of them read, states of {work['tokens_asked']:,} "
            f"asked; of the time matrix products {work['products']:.0%}, attention {work['attention']:.0%}"
        )
    print(f"{'':16} {'batch':>6} {'seconds':>8} {'requests/s':>11} {'times faster than the best':>27}")
    for row in cell["rows"]:
        row["times_faster"] = best / row["seconds"]
        rate = cell["n_requests"] / row["seconds"]
        print(
            f"{row['arm']:16} {row['batch_size']:>6} {row['seconds']:>8.3f} {rate:>11.0f} {row['times_faster']:>27.1f}"
        )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3, help="of each; the fastest counts")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="where the demo's pool is or is made")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--override", action="append", default=[], help="of the demo's config, for smaller ones")
    parser.add_argument("--runs", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def compose(options: argparse.Namespace) -> dict[str, Any]:
    """Compose the demo's run as plain values."""
    from causalmix.cli import compose_config

    settings = [*DEMO, f"outputs={options.outputs}", "cluster=local", "mixture=dirichlet", *options.override]
    return compose_config(settings)


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Score the demo's held-out answers, and lettered questions of the same documents."""
    import torch

    from causalmix.config import EvaluateConfig
    from causalmix.evaluate.evaluator import Evaluator
    from causalmix.pool.store import open_pool
    from causalmix.run.workshop import keep_freed_memory
    from causalmix.train.model import load_base

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    pool_dir, base_dir = find_demo(options.override, options.outputs)
    pool, model = open_pool(pool_dir), load_base(base_dir).eval()
    cfg = EvaluateConfig(**compose(options)["evaluate"])
    keep_freed_memory()  # as a worker does
    evaluator = Evaluator(cfg, pool.tokenizer, pool.heldout_path)
    evaluator.evaluate(model)
    requests = [one for task in evaluator.tasks for one in evaluator.loaded["tasks"][task].instances]
    cells = {"the demo's answers": requests, "four lettered answers a question": make_questions(requests)}
    rows = [{"cell": name, **time_arms(model, pool.tokenizer, cfg, cells[name], options)} for name in cells]
    arms = make_whole_arms(evaluator, model, pool, cfg)
    return [*rows, {"cell": "the demo's evaluation, whole", **time_in_turns(arms, len(requests), options.repetitions)}]


def make_questions(requests: list[Any]) -> list[Any]:
    """Ask a letter after three worked conversations and a fourth, as tasks of multiple choice do."""
    from lm_eval.api.instance import Instance

    texts = [context + answer for context, answer in (request.args for request in requests)]
    contexts = ["\n".join(texts[at : at + 4]) + "\nAnswer:" for at in range(0, len(texts) - 3, 4)]
    pairs = [(context, letter) for context in contexts for letter in "ABCD"]
    return [Instance("loglikelihood", {}, pair, 0, ("letters", at, 1)) for at, pair in enumerate(pairs)]


def time_arms(
    model: Any, tokenizer: Any, cfg: EvaluateConfig, requests: list[Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Score requests with every arm in turns, and check that their numbers are the same."""
    from causalmix.evaluate.likelihood import LikelihoodLM

    ours: dict[str, LikelihoodLM] = {}

    def first() -> Any:
        # lm-eval's own rule for where an answer starts, so that both score the same tokens
        ours["lm"] = LikelihoodLM(tokenizer, max_length=cfg.max_length, batch_size=cfg.batch_size)
        ours["lm"].model = model
        return ours["lm"].loglikelihood(requests)

    arms: dict[tuple[str, int], Callable[[], Any]] = {
        ("ours, first", cfg.batch_size): first,
        ("ours, again", cfg.batch_size): lambda: ours["lm"].loglikelihood(requests),
    }
    for size in BATCH_SIZES:
        stock = make_stock(model, tokenizer, cfg.max_length, size)
        arms["lm-eval", size] = partial(stock.loglikelihood, requests, disable_tqdm=True)
    return {**time_in_turns(arms, len(requests), options.repetitions), "work": measure_work(ours["lm"], requests)}


def measure_work(lm: LikelihoodLM, requests: list[Any]) -> dict[str, float]:
    """Count tokens, and find the shares of matrix products and attention in the time of one more model."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        lm.loglikelihood(requests)
    spent = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    ((layouts, _),) = lm._layouts.values()
    encoded = [lm.encode_request(*request.args) for request in requests]
    return {
        "tokens": sum(len(context) + len(answer) - 1 for context, answer in encoded),
        "tokens_read": sum(len(layout.nodes.input_ids) for layout in layouts),
        "tokens_asked": sum(len(layout.nodes.where) for layout in layouts),
        **{
            part: sum(own for name, own in spent.items() if name.startswith(calls)) / sum(spent.values())
            for part, calls in {
                "products": ("aten::mm", "aten::addmm"),
                "attention": ("aten::_scaled_dot_product",),
            }.items()
        },
    }


def make_whole_arms(
    evaluator: Evaluator, model: Any, pool: Pool, cfg: EvaluateConfig
) -> dict[tuple[str, int], Callable[[], Any]]:
    """Evaluate by :class:`Evaluator`, and by lm-eval's own function with its own model, tasks loaded before."""
    from lm_eval.evaluator import evaluate

    from causalmix.evaluate.evaluator import load_local_tasks, quiet_lm_eval
    from causalmix.evaluate.likelihood import LikelihoodLM

    evaluator.lm = LikelihoodLM(pool.tokenizer, max_length=cfg.max_length, batch_size=cfg.batch_size)
    loaded = load_local_tasks(evaluator.tasks, pool.heldout_path, cfg.limit)

    def ours() -> list[tuple[float, bool]]:
        scores = evaluator.evaluate(model).scores
        return [(scores[task].bits_per_byte, True) for task in evaluator.tasks]

    def theirs(stock: Any) -> list[tuple[float, bool]]:
        with quiet_lm_eval():
            found = evaluate(stock, loaded, bootstrap_iters=0, log_samples=False, apply_chat_template=True)["results"]
        return [(found[task]["bits_per_byte,none"], True) for task in evaluator.tasks]

    ours()
    stocks = {size: make_stock(model, pool.tokenizer, cfg.max_length, size) for size in BATCH_SIZES[2:]}
    arms: dict[tuple[str, int], Callable[[], Any]] = {("ours, again", cfg.batch_size): ours}
    return arms | {("lm-eval", size): partial(theirs, stock) for size, stock in stocks.items()}


def time_in_turns(arms: dict[tuple[str, int], Callable[[], Any]], n_requests: int, repetitions: int) -> dict[str, Any]:
    """Time arms in turns, and check that they say what the first one says."""
    best: dict[tuple[str, int], float] = {}
    found: dict[tuple[str, int], Any] = {}
    for _ in range(repetitions):
        for arm, score in arms.items():
            started = time.process_time()
            found[arm] = score()
            best[arm] = min(best.get(arm, float("inf")), time.process_time() - started)
    reference = next(iter(found.values()))
    difference = max(measure_difference(reference, answers) for answers in found.values())
    if difference > TOLERANCE:
        raise SystemExit(f"the numbers are not the same: they differ by {difference:.1e}")
    rows = [{"arm": arm, "batch_size": size, "seconds": seconds} for (arm, size), seconds in best.items()]
    return {"n_requests": n_requests, "difference": difference, "rows": rows}


def make_stock(model: Any, tokenizer: Any, max_length: int, batch_size: int) -> Any:
    """lm-eval's own model around ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=max_length, device="cpu")


def measure_difference(ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> float:
    """Largest relative difference; whether an answer is the greedy one has to be equal."""
    if [greedy for _, greedy in ours] != [greedy for _, greedy in theirs]:
        raise SystemExit("another answer is the greedy one")
    return max(abs(one - other) / abs(other) for (one, _), (other, _) in zip(ours, theirs, strict=True))


def measure_share(options: argparse.Namespace) -> dict[str, float]:
    """Do one of the demo's runs in this process three times; read the last two's events."""
    import torch

    from causalmix.run.proxy import run_proxy
    from causalmix.run.workshop import Workshop
    from causalmix.sweep.points import Inputs, identify
    from causalmix.sweep.worker import make_point

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    pool_dir, base_dir = find_demo(options.override, options.outputs)
    inputs = Inputs(options.outputs)
    run = identify(compose(options), inputs)
    entry = {"run_id": run.run_id, "plain": run.plain, "pool_dir": str(pool_dir), "base_dir": str(base_dir)}
    entry |= {"pool_fingerprint": inputs.fingerprints[run.pool_dir], "git_sha": None}
    workshop, found = Workshop(), []
    with tempfile.TemporaryDirectory() as folder:
        for attempt in range(3):
            record = run_proxy(make_point(entry, "benchmark"), Path(folder) / str(attempt), workshop)
            if record.status != "complete":
                raise SystemExit(str(record.cause))
            at = {event["event"]: event["at_s"] for event in record.events}
            found.append((at["evaluation_ended"] - at["training_ended"], record.row["wall_s"]))
    evaluation_s, run_s = min(found[1:], key=lambda pair: pair[1])
    return {"run_s": run_s, "evaluation_s": evaluation_s, "share": evaluation_s / run_s, "first_run_s": found[0][1]}


if __name__ == "__main__":
    main()
