"""How long does scoring take? One pass in batches, against one scorer at a time and document by document.

The peer does what the public scoring tools do: a loop for each score, a call of the model for each document (for
the rater: each chunk), all logits kept, and the definition applied to them as it is written. Both read the same
texts with the same models on one thread; equal work is checked by equal scores (1e-4). Texts are the demo's
documents, several joined to one, so that lengths differ as they do in real pools. A vocabulary of 32,768 is a real
model's output layer on a tiny body: there the logits are most of the work.

    python benchmarks/pool_scoring.py [--documents N] [--repetitions N] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from causalmix.config import ModelConfig, PoolConfig
from causalmix.files import write_json
from causalmix.pool.demo.generate import generate_documents
from causalmix.pool.documents import split_text
from causalmix.pool.scores.language_model import LanguageModelScorer
from causalmix.pool.scores.panel import Panel
from causalmix.pool.scores.scorer import ScoredText
from causalmix.pool.scores.writing_style import WritingStyleScorer
from causalmix.pool.tokenizer import train_bpe
from causalmix.train.model import build_model

VOCABULARIES = (1024, 32_768)
LENGTHS = {"joined": (2048, None), "published": (2048, 4096)}  # tokens read: Normalized_Loss, HES where it is its own
CHUNK = 512
BATCH_TOKENS = 4096  # padded tokens a pass: what suits a core; a GPU takes more
TOLERANCE = 1e-4
Floats = NDArray[np.float64]


# --- the peer: three loops -------------------------------------------------------------------------------


@torch.no_grad()
def loop_loss(model: Any, tokenizer: Any, texts: Sequence[ScoredText], max_length: int) -> list[float]:
    """Score Normalized_Loss: the model's own loss of each document."""
    scores = []
    for text in texts:
        ids = tokenizer(text.text, add_special_tokens=False)["input_ids"][:max_length]
        if len(ids) < 2:
            scores.append(0.0)
            continue
        given = torch.tensor([ids])
        scores.append(float(model(input_ids=given, labels=given).loss) / math.log(2))
    return scores


@torch.no_grad()
def loop_hes(model: Any, tokenizer: Any, texts: Sequence[ScoredText], max_length: int, separator: str) -> list[float]:
    """Score HES: all logits of each document, their softmax, the entropies of the answer's tokens."""
    scores = []
    for text in texts:
        prompt = f"{text.prompt}{separator}" if text.prompt else ""
        encoding = tokenizer(prompt + text.output, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = encoding["input_ids"][:max_length], encoding["offset_mapping"][:max_length]
        answer = [at for at in range(1, len(ids)) if offsets[at][0] >= len(prompt)]
        if not answer:
            scores.append(0.0)
            continue
        logits = model(input_ids=torch.tensor([ids])).logits[0]
        log_p = torch.log_softmax(logits, dim=-1)
        entropies = (-(log_p.exp() * log_p).sum(dim=-1) / math.log(2)).numpy()[[at - 1 for at in answer]]
        threshold = np.percentile(entropies, 99.5)
        scores.append(float(entropies[entropies >= threshold].sum()))
    return scores


@torch.no_grad()
def loop_style(model: Any, tokenizer: Any, texts: Sequence[ScoredText]) -> list[float]:
    """Score Writing_Style: a call of the rater for each chunk of each document."""
    scores = []
    for text in texts:
        ids = tokenizer(text.text, add_special_tokens=False)["input_ids"]
        chunks = [ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK)]
        rated = [float(model(input_ids=torch.tensor([chunk])).logits[0, 0]) * len(chunk) for chunk in chunks]
        scores.append(sum(rated) / len(ids) if ids else 0.0)
    return scores


# --- what is scored --------------------------------------------------------------------------------------


def make_texts(count: int, seed: int) -> list[ScoredText]:
    """Join documents of the demo to texts whose lengths are log-normal: most short, some long."""
    rng = np.random.default_rng(seed)
    documents = generate_documents(PoolConfig(name="demo", source="demo", n_documents=40 * count, seed=seed))
    pairs = (split_text(document.messages) for document in documents)
    texts = [ScoredText("", ""), ScoredText("", "7")]
    for size in np.rint(rng.lognormal(1.5, 1.0, size=count - len(texts))).clip(1, 60).astype(int):
        chosen = list(itertools.islice(pairs, int(size)))
        prompts, outputs = zip(*chosen)
        texts.append(ScoredText(prompts[0], "\n".join([outputs[0], *(f"{p} {o}" for p, o in chosen[1:])])))
    return texts


def make_models(vocab_size: int) -> tuple[Any, Any]:
    """Build a small language model and a small rater with random weights."""
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    model = build_model(ModelConfig(name="small", max_position=4096), vocab_size, seed=0)
    with torch.no_grad():  # sharper than a fresh model's predictions, so that errors would show
        model.get_input_embeddings().weight.mul_(20)
    config = Qwen2Config(
        vocab_size=vocab_size, hidden_size=48, intermediate_size=132, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=3, max_position_embeddings=CHUNK, num_labels=4, pad_token_id=0, use_cache=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model, Qwen2ForSequenceClassification(config).eval()


def take(score: Callable[[], Any], seconds: list[float]) -> Any:
    """Call ``score``, and note the processor time it took: with one thread other work beside it counts little."""
    started = time.process_time()
    scores = score()
    seconds.append(time.process_time() - started)
    return scores


def compare(
    vocab_size: int, text: str, texts: Sequence[ScoredText], tokenizer: Any, repetitions: int
) -> dict[str, Any]:
    """Score all texts both ways, by turns, and compare times and scores."""
    model, rater = make_models(vocab_size)
    loss_length, hes_length = LENGTHS[text]
    panel = Panel(
        ("hes", "normalized_loss", "writing_style"),
        LanguageModelScorer(
            model, tokenizer, max_length=loss_length, batch_tokens=BATCH_TOKENS, hes_max_length=hes_length
        ),
        WritingStyleScorer(rater, tokenizer, chunk_length=CHUNK, batch_tokens=BATCH_TOKENS),
    )
    separator = "\n" if hes_length is None else ""
    loops: dict[str, Callable[[], list[float]]] = {
        "hes": lambda: loop_hes(model, tokenizer, texts, hes_length or loss_length, separator),
        "normalized_loss": lambda: loop_loss(model, tokenizer, texts, loss_length),
        "writing_style": lambda: loop_style(rater, tokenizer, texts),
    }
    mine: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repetitions):
        scores: Floats = take(lambda: panel.score(texts), mine)
        peer = np.column_stack([take(loop, theirs[name]) for name, loop in loops.items()])
    best = {name: min(seconds) for name, seconds in theirs.items()}
    difference = float(np.abs(scores - peer).max())
    if difference > TOLERANCE:
        raise SystemExit(f"the scores differ by {difference:.2e}: the two did not do the same work")
    return {
        "vocabulary": vocab_size,
        "text": text,
        "seconds": min(mine),
        "peer_seconds": best,
        "peer_seconds_all": sum(best.values()),
        "times_faster": sum(best.values()) / min(mine),
        "documents_per_second": len(texts) / min(mine),
        "largest_difference": difference,
    }


def main() -> None:
    """Print one line a vocabulary and text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=2, help="the faster one counts, of each side")
    parser.add_argument("--json", type=Path, help="write the table here too")
    options = parser.parse_args()
    started = time.perf_counter()
    torch.set_num_threads(1)
    texts = make_texts(options.documents, seed=0)
    tokenizer = train_bpe([text.text for text in texts], 1024)
    n_tokens = sum(len(ids) for ids in tokenizer([text.text for text in texts])["input_ids"])
    print(f"{len(texts)} documents, {n_tokens} tokens, one thread")
    print(
        f"{'vocabulary':>10} {'text':10} {'ours, s':>8} {'peer, s':>8} {'(hes':>8} {'loss':>7} {'style)':>7} "
        f"{'times faster':>13} {'largest difference':>19}"
    )
    rows = []
    for vocab_size, text in itertools.product(VOCABULARIES, LENGTHS):
        row = compare(vocab_size, text, texts, tokenizer, options.repetitions)
        peer = row["peer_seconds"]
        print(
            f"{vocab_size:>10} {text:10} {row['seconds']:>8.2f} {row['peer_seconds_all']:>8.2f} {peer['hes']:>8.2f} "
            f"{peer['normalized_loss']:>7.2f} {peer['writing_style']:>7.2f} {row['times_faster']:>13.1f} "
            f"{row['largest_difference']:>19.1e}",
            flush=True,
        )
        rows.append(row)
    if options.json is not None:
        settings = {"documents": len(texts), "tokens": n_tokens, "repetitions": options.repetitions, "threads": 1}
        content = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "seconds": round(time.perf_counter() - started, 1),
            "settings": settings,
            "rows": rows,
        }
        write_json(options.json, content)


if __name__ == "__main__":
    main()
