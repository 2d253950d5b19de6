"""The first stages of a store: documents and tokenizer. Each fills a folder and returns a summary."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from causalmix.config import PoolConfig
from causalmix.errors import PoolError, name_some
from causalmix.files import read_json
from causalmix.pool.demo.generate import generate_heldout
from causalmix.pool.documents import Problems
from causalmix.pool.duplicates import choose_bands
from causalmix.pool.given import SCORES_FILE
from causalmix.pool.ingest import ShardTask, ingest_shard, read_heldout
from causalmix.pool.progress import Progress
from causalmix.pool.reading import documents_path, spread_reference
from causalmix.pool.scores import IN_DOCUMENTS
from causalmix.pool.selection import select_documents
from causalmix.pool.signature import check_settings
from causalmix.pool.sources import Sources, plan_shards
from causalmix.pool.stage import Summary
from causalmix.pool.statistics import LanguageSampler, summarise_lengths
from causalmix.pool.table import DocumentMerger, read_batches, write_heldout
from causalmix.pool.tokenizer import count_vocabulary, fingerprint_tokenizer, make_tokenizer
from causalmix.pool.workers import count_workers, run_tasks

# --- documents -------------------------------------------------------------------------------------------


def build_documents(
    folder: Path, cfg: PoolConfig, sources: Sources | None, work: Path | None = None, *, progress: bool
) -> Summary:
    """Read or generate documents; write Parquet, held-out JSONL, domain and reference arrays.

    Each shard of the sources is read once, by any of several processes, into a table of its own; then it is
    decided which documents stay, and their tables are joined in the order of the sources.

    Parameters
    ----------
    folder : Path
        Filled with the stage's files.
    cfg : PoolConfig
    sources : Sources or None
        None generates the demo.
    work : Path, optional
        Where the shards' tables lie until the stage is done, those of an interrupted run too; a folder within
        ``folder`` unless given.
    progress : bool

    Raises
    ------
    PoolError
        Naming every record and domain that cannot be used.
    """
    check_settings(cfg.dedup)
    work = work or folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    problems = Problems()
    tasks = ingest_all(cfg, sources, work, progress=progress)
    kept_heldout = [] if sources is None else list(read_heldout(cfg, sources, problems))
    selection = select_documents(cfg, tasks, problems)
    if sources is None:
        kept_heldout = list(generate_heldout(cfg))
    sampler = LanguageSampler(cfg.language_sample, selection)
    with DocumentMerger(folder / "documents.parquet") as merger:
        start = 0
        for task in tqdm(tasks, desc="join", unit="shard", disable=None if progress else True, leave=False):
            n_documents = int(read_json(task.summary)["n_documents"])
            for table in merger.add(task.table, selection.kept[start : start + n_documents]):
                sampler.look(table)
            start += n_documents
    domain_ids, references = selection.domain_ids[selection.kept], selection.is_reference[selection.kept]
    counts = count_domains(domain_ids, references, selection.domains)
    check_domains(cfg, counts)
    np.save(folder / "domain_ids.npy", domain_ids)
    np.save(folder / "is_reference.npy", references)
    if cfg.scores.given == IN_DOCUMENTS:
        scores = np.concatenate([np.load(task.array("scores"), allow_pickle=False) for task in tasks])
        np.save(folder / SCORES_FILE, scores[selection.kept])
    write_heldout(folder / "heldout.jsonl", kept_heldout)
    if work.parent == folder:
        shutil.rmtree(work)
    return {
        "sha256": merger.digest.hexdigest(),
        "heldout_sha256": hashlib.sha256((folder / "heldout.jsonl").read_bytes()).hexdigest(),
        "n_documents": len(domain_ids),
        "domains": selection.domains,
        "counts": counts,
        "heldout": dict(sorted(Counter(document.task for document in kept_heldout).items())),
        "left_out": selection.left_out,
        "characters": summarise_lengths(selection.n_characters[selection.kept], domain_ids, selection.domains),
        "languages": sampler.guess(),
    }


def ingest_all(cfg: PoolConfig, sources: Sources | None, work: Path, *, progress: bool) -> list[ShardTask]:
    """Read every shard that has not been read; return all of them, in order."""
    bands = choose_bands(cfg.dedup.threshold, cfg.dedup.num_perm) if cfg.dedup.kind == "near" else None
    shards = plan_shards(cfg, sources)
    tasks = [ShardTask(cfg, shard, work, number, bands) for number, shard in enumerate(shards)]
    waiting = [task for task in tasks if not task.is_done]
    n_workers = count_workers(cfg.n_workers, len(waiting), sum(task.shard.n_bytes for task in waiting))
    done = sum(int(read_json(task.summary)["n_records"]) for task in tasks if task.is_done)
    with Progress("read", done + sum(task.shard.n_records for task in waiting), show=progress, done=done) as bar:
        run_tasks(ingest_shard, waiting, n_workers, bar)
    return tasks


def check_domains(cfg: PoolConfig, counts: dict[str, dict[str, int]]) -> None:
    """Refuse a pool with fewer than two domains, or with one that has nothing to draw.

    Raises
    ------
    PoolError
    """
    absent = [domain for domain in cfg.domains if domain not in counts]
    if absent:
        raise PoolError(
            f"pool.domains names {name_some(absent)}, but no document has it; found: {', '.join(counts) or 'none'}."
        )
    if len(counts) < 2:
        raise PoolError(
            f"a mixture needs two domains or more; found {', '.join(counts) or 'none'}. A document's domain "
            f"is its "
            f"field pool.domain_field={cfg.domain_field!r}, else its file's name (train-<domain>.jsonl.gz)."
        )
    spent = [f"{domain} ({of['documents']} documents)" for domain, of in counts.items() if not of["candidate"]]
    if spent:
        raise PoolError(
            f"the reference slice leaves nothing to draw in {name_some(spent)}: lower "
            f"pool.reference_fraction={cfg.reference_fraction} or add documents."
        )
    if not any(of["reference"] for of in counts.values()):
        raise PoolError(
            f"pool.reference_fraction={cfg.reference_fraction} leaves the reference slice empty; tokenizer, "
            f"raters "
            f"and the shared base are trained on it."
        )


def count_domains(
    domain_ids: NDArray[np.uint16], references: NDArray[np.bool_], domains: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count each domain's documents: all, those that runs may draw, and the reference slice's."""
    every = np.bincount(domain_ids, minlength=len(domains))
    reference = np.bincount(domain_ids[references], minlength=len(domains))
    return {
        domain: {
            "documents": int(every[at]),
            "candidate": int(every[at] - reference[at]),
            "reference": int(reference[at]),
        }
        for at, domain in enumerate(domains)
    }


# --- tokenizer -------------------------------------------------------------------------------------------


def build_tokenizer(folder: Path, cfg: PoolConfig, root: Path) -> Summary:
    """Train or copy the tokenizer."""
    every = itertools.chain.from_iterable(read_batches(documents_path(root)))
    chosen = itertools.compress(every, spread_reference(root, cfg.tokenizer.n_documents))
    tokenizer = make_tokenizer(cfg.tokenizer, (f"{message.content}\n" for turns in chosen for message in turns))
    tokenizer.save_pretrained(folder)
    return {
        "fingerprint": fingerprint_tokenizer(tokenizer),
        "sha256": hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest(),
        "vocab_size": count_vocabulary(tokenizer),
    }
