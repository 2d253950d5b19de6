"""The first stages of a store: documents, tokenizer, tokens. Each fills a folder and returns a summary."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from causalmix.config import PoolConfig
from causalmix.errors import PoolError, name_some
from causalmix.pool.demo.generate import generate_documents, generate_heldout
from causalmix.pool.documents import Problems
from causalmix.pool.encode import encode_conversations
from causalmix.pool.ingest import Sources, read_documents, read_heldout
from causalmix.pool.reading import count_all, documents_path, load_tokenizer, spread_reference
from causalmix.pool.stage import Summary
from causalmix.pool.table import DocumentWriter, read_batches, write_heldout
from causalmix.pool.tokenizer import count_vocabulary, fingerprint_tokenizer, make_tokenizer

# --- documents -------------------------------------------------------------------------------------------


def build_documents(folder: Path, cfg: PoolConfig, sources: Sources | None, *, progress: bool) -> Summary:
    """Read or generate documents; write Parquet, held-out JSONL, domain and reference arrays.

    Raises
    ------
    PoolError
        Naming every record and domain that cannot be used.
    """
    problems = Problems()
    if sources is None:
        documents, heldout = generate_documents(cfg), generate_heldout(cfg)
    else:
        documents = read_documents(cfg, sources, problems, progress=progress)
        heldout = read_heldout(cfg, sources, problems, progress=progress)
    names: list[str] = []
    references: list[bool] = []
    with DocumentWriter(folder / "documents.parquet") as writer:
        for document in documents:
            names.append(document.domain)
            references.append(is_reference(document.id, cfg.seed, cfg.reference_fraction))
            writer.add(document, is_reference=references[-1])
    kept = list(heldout)
    problems.raise_any(f"pool {cfg.name}: documents that cannot be used")
    domains = sorted(set(names))
    counts = _count(names, references, domains)
    check_domains(cfg, counts)
    index = {domain: at for at, domain in enumerate(domains)}
    np.save(folder / "domain_ids.npy", np.array([index[name] for name in names], dtype=np.uint16))
    np.save(folder / "is_reference.npy", np.array(references, dtype=bool))
    write_heldout(folder / "heldout.jsonl", kept)
    return {
        "sha256": writer.digest.hexdigest(),
        "heldout_sha256": hashlib.sha256((folder / "heldout.jsonl").read_bytes()).hexdigest(),
        "n_documents": len(names),
        "domains": domains,
        "counts": counts,
        "heldout": dict(sorted(Counter(document.task for document in kept).items())),
    }


def is_reference(identity: str, seed: int, fraction: float) -> bool:
    """Say whether a document belongs to the reference slice: a hash of seed and id, below ``fraction``."""
    digest = hashlib.sha256(f"{seed}:{identity}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2.0**64


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


def _count(names: Sequence[str], references: Sequence[bool], domains: Sequence[str]) -> dict[str, dict[str, int]]:
    every = Counter(names)
    reference = Counter(name for name, kept in zip(names, references) if kept)
    return {
        domain: {
            "documents": every[domain],
            "candidate": every[domain] - reference[domain],
            "reference": reference[domain],
        }
        for domain in domains
    }


# --- tokens ----------------------------------------------------------------------------------------------


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


def build_tokens(folder: Path, cfg: PoolConfig, root: Path, *, progress: bool) -> Summary:
    """Write token ids and labels of all documents, one after the other."""
    tokenizer = load_tokenizer(root)
    dtype = np.dtype(np.uint16 if count_vocabulary(tokenizer) <= 2**16 else np.uint32)
    lengths: list[int] = []
    n_targets = n_truncated = n_without = 0
    digest = hashlib.sha256(dtype.name.encode())
    bar = tqdm(total=count_all(root), desc="tokenise", unit="doc", disable=None if progress else True)
    with (folder / "tokens.bin").open("wb") as tokens, (folder / "labels.bin").open("wb") as labels, bar:
        for conversations in read_batches(documents_path(root)):
            encoded = encode_conversations(tokenizer, conversations, cfg.max_length)
            for document in encoded:
                ids, mask = document.tokens.astype(dtype).tobytes(), document.labels.tobytes()
                tokens.write(ids)
                labels.write(mask)
                digest.update(ids)
                digest.update(mask)
                lengths.append(len(document.tokens))
                n_targets += int(document.labels.sum())
                n_truncated += document.is_truncated
                n_without += not document.labels.any()
            bar.update(len(encoded))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(folder / "offsets.npy", offsets)
    digest.update(offsets.tobytes())
    return {
        "sha256": digest.hexdigest(),
        "dtype": dtype.name,
        "n_tokens": int(offsets[-1]),
        "n_target_tokens": n_targets,
        "n_truncated": n_truncated,
        "n_without_target": n_without,
    }
