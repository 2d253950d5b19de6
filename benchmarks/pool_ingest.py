"""Ingest and tokenise JSON lines: this project's two stages against ``load_dataset`` and ``datasets.map``.

Both read the same files with the same tokenizer in as many processes. The peer renders the chat template and
tokenises in batches, its documented fast way, and writes Arrow. Ours also checks every record and id, hashes
content, sorts out the reference slice and marks the tokens to learn, and that cannot be switched off. The peer's cache
starts empty. What ours does on demand, near-duplicates and the languages of 2,000 documents, is timed apart: there both
find other documents, so nothing is compared.

    python benchmarks/pool_ingest.py [--documents N] [--workers N] [--repetitions N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# A script's folder stands first on the path: its files would hide packages of the same name.
sys.path = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "benchmarks")]

MAX_LENGTH = 4096


def main(arguments: Sequence[str] | None = None) -> None:
    """Time both, in turns, and compare their token ids."""
    from benchmarks.pool_corpus import write_corpus

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=60_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3, help="the median counts; the two take turns")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "pool_ingest.json")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # processes are what is shared out, for both
    ours, peer, extra = [], [], []
    import datasets  # noqa: F401  # neither pays for importing what both use
    import transformers  # noqa: F401

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        n_bytes = write_corpus(folder / "data", options.documents)
        tokenizer = make_tokenizer(folder)
        for at in range(options.repetitions):
            # Of one process, its own seconds: they are the same beside other work. Of several, those on the wall.
            now = time.process_time if options.workers == 1 else time.perf_counter
            started = now()
            arrays = ingest_ours(folder, options.workers, at)
            ours.append(now() - started)
            started = now()
            dataset = ingest_peer(folder, tokenizer, options.workers, at)
            peer.append(now() - started)
            started = now()
            ingest_ours(folder, options.workers, at, with_extras=True)
            extra.append(now() - started)
        is_equal = compare(arrays, dataset)
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "documents": options.documents,
        "megabytes": round(n_bytes / 1e6, 1),
        "tokens": len(arrays[0]),
        "workers": options.workers,
        "seconds": "of the processor" if options.workers == 1 else "on the wall",
        "equal_token_ids": is_equal,
        "ours_s": [round(value, 2) for value in ours],
        "datasets_map_s": [round(value, 2) for value in peer],
        "ours_with_near_duplicates_and_languages_s": [round(value, 2) for value in extra],
        "times_faster": round(float(np.median(peer) / np.median(ours)), 2),
    }
    print(json.dumps(result, indent=1))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not is_equal:
        sys.exit("the two found different token ids")


def make_tokenizer(folder: Path) -> Path:
    """Train the tokenizer that both use, on some of the documents; timed for neither."""
    from causalmix.pool.tokenizer import train_bpe

    texts = []
    for path in sorted((folder / "data").iterdir()):
        with path.open(encoding="utf-8") as handle:
            texts += [turn["content"] for line, _ in zip(handle, range(200)) for turn in json.loads(line)["messages"]]
    train_bpe(texts, 4096).save_pretrained(folder / "tokenizer")
    return folder / "tokenizer"


def ingest_ours(folder: Path, n_workers: int, at: int, *, with_extras: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Run the stages documents, tokenizer (a copy) and tokens; return ids and offsets."""
    from causalmix.config import PoolConfig, TokenizerConfig
    from causalmix.pool.sources import find_sources
    from causalmix.pool.stage import run_stage
    from causalmix.pool.stages import build_documents, build_tokenizer
    from causalmix.pool.tokens import build_tokens

    cfg = PoolConfig(name="b", source="jsonl", path=str(folder / "data"), max_length=MAX_LENGTH, n_workers=n_workers)
    cfg.tokenizer = TokenizerConfig(kind="pretrained", path=str(folder / "tokenizer"))
    if with_extras:
        cfg.dedup.kind, cfg.language_sample = "near", 2000
    root = folder / f"ours-{at}-{with_extras}"
    run_stage(root, "documents", lambda to: build_documents(to, cfg, find_sources(cfg), progress=False))
    run_stage(root, "tokenizer", lambda to: build_tokenizer(to, cfg, root))
    run_stage(root, "tokens", lambda to: build_tokens(to, cfg, root, progress=False))
    return np.fromfile(root / "tokens" / "tokens.bin", dtype=np.uint16), np.load(root / "tokens" / "offsets.npy")


def ingest_peer(folder: Path, tokenizer_path: Path, n_workers: int, at: int) -> Any:
    """Load the files and map the tokenizer over them."""
    import datasets
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    cache = folder / f"peer-{at}"
    shutil.rmtree(cache, ignore_errors=True)
    files = sorted(str(path) for path in (folder / "data").iterdir())
    loaded = datasets.load_dataset(
        "json", data_files=files, split="train", cache_dir=str(cache), num_proc=n_workers if n_workers > 1 else None
    )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_path)

    def tokenise(batch: dict[str, list[Any]]) -> dict[str, Any]:
        texts = tokenizer.apply_chat_template(batch["messages"], tokenize=False)
        found = tokenizer(
            texts,
            add_special_tokens=False,
            truncation=True,
            max_length=MAX_LENGTH,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        return {"input_ids": found["input_ids"]}

    return loaded.map(
        tokenise,
        batched=True,
        num_proc=n_workers if n_workers > 1 else None,
        remove_columns=loaded.column_names,
        cache_file_name=str(cache / "tokens.arrow"),
    )


def compare(arrays: tuple[np.ndarray, np.ndarray], dataset: Any) -> bool:
    """Whether both found the same token ids, document by document."""
    ids, offsets = arrays
    if len(dataset) != len(offsets) - 1:
        return False
    found = dataset.with_format("numpy")["input_ids"]
    return all(np.array_equal(ids[offsets[at] : offsets[at + 1]], row) for at, row in enumerate(found))


if __name__ == "__main__":
    main()
