"""What each stage of a store writes into its folder, and the summary it leaves."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from causalmix.config import PoolConfig
from causalmix.errors import PoolError, name_some
from causalmix.files import read_json
from causalmix.pool.demo.generate import generate_documents, generate_heldout
from causalmix.pool.documents import Document, HeldoutDocument, Message, Problems, split_text
from causalmix.pool.encode import encode_conversations
from causalmix.pool.ingest import Sources, read_documents, read_heldout
from causalmix.pool.scores import FEATURES
from causalmix.pool.scores.normaliser import fit_normaliser
from causalmix.pool.scores.scorer import Scorer, ScoredText
from causalmix.pool.stage import SUMMARY, Summary
from causalmix.pool.table import DocumentWriter, read_batches, read_column, write_heldout
from causalmix.pool.tokenizer import count_vocabulary, fingerprint_tokenizer, make_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

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
            f"a mixture needs two domains or more; found {', '.join(counts) or 'none'}. A document's domain is its "
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
            f"pool.reference_fraction={cfg.reference_fraction} leaves the reference slice empty; tokenizer, raters "
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
    kept = np.load(root / "documents" / "is_reference.npy", allow_pickle=False)
    chosen = np.zeros(len(kept), dtype=bool)
    chosen[spread(kept, cfg.tokenizer.n_documents)] = True
    texts = (f"{message.content}\n" for turns in iterate(root, chosen) for message in turns)
    tokenizer = make_tokenizer(cfg.tokenizer, texts)
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


# --- models behind the scores ----------------------------------------------------------------------------


def build_reference_lm(folder: Path, cfg: PoolConfig, root: Path, *, progress: bool) -> Summary:
    """Train and save the reference model, unless a pretrained one is named."""
    from causalmix.pool.scores.reference_lm import train_reference_lm

    if cfg.scores.reference_lm.path:
        return {"source": "pretrained"}
    tokenizer = load_tokenizer(root)
    model, summary = train_reference_lm(
        cfg.scores.reference_lm,
        tokenizer,
        [scored_text(turns).text for turns in iterate_reference(root)],
        vocab_size=count_vocabulary(tokenizer),
        max_position=cfg.scores.loss_max_length,
        progress=progress,
    )
    model.save_pretrained(folder)
    return {"source": "trained", **summary}


def build_rater(folder: Path, cfg: PoolConfig, root: Path, *, progress: bool) -> Summary:
    """Train and save the rater, unless a pretrained one is named."""
    from causalmix.pool.scores.rater import pair_by_corruption, pair_by_quality, train_rater

    rater = cfg.scores.rater
    if rater.path:
        return {"source": "pretrained"}
    texts = [scored_text(turns) for turns in iterate_reference(root)]
    if rater.pairs == "quality":
        kept = np.load(root / "documents" / "is_reference.npy", allow_pickle=False)
        qualities = np.array(read_column(documents_path(root), "quality"), dtype=np.float64)[kept]
        domain_ids = np.load(root / "documents" / "domain_ids.npy", allow_pickle=False)[kept]
        pairs = pair_by_quality(texts, qualities, domain_ids, rater.n_pairs, rater.seed)
    elif rater.pairs == "corrupted":
        pairs = pair_by_corruption(texts, rater.n_pairs, rater.seed)
    else:
        raise PoolError(f"pool.scores.rater.pairs={rater.pairs!r} is not one of corrupted, quality.")
    tokenizer = load_tokenizer(root)
    model, summary = train_rater(rater, tokenizer, pairs, vocab_size=count_vocabulary(tokenizer), progress=progress)
    model.save_pretrained(folder)
    return {"source": "trained", **summary}


# --- scores ----------------------------------------------------------------------------------------------


def build_scores(folder: Path, cfg: PoolConfig, root: Path, identity: dict[str, Any], *, progress: bool) -> Summary:
    """Score every document and freeze the normaliser on the first reference documents."""
    language_model, rater = load_scorers(cfg, root)
    columns = [*language_model.features, *rater.features]
    assert tuple(columns) == FEATURES
    parts = []
    bar = tqdm(total=count_all(root), desc="score", unit="doc", disable=None if progress else True)
    with bar:
        for conversations in read_batches(documents_path(root)):
            texts = [scored_text(turns) for turns in conversations]
            parts.append(np.hstack([scorer.score(texts) for scorer in (language_model, rater)]))
            bar.update(len(texts))
    raw = np.concatenate(parts)
    kept = np.load(root / "documents" / "is_reference.npy", allow_pickle=False)
    calibration = raw[spread(kept, cfg.scores.n_calibration)]
    normaliser = fit_normaliser(FEATURES, calibration, identity)
    if not np.isfinite(raw).all():
        raise PoolError(f"{int((~np.isfinite(raw)).any(axis=1).sum())} documents have scores that are not numbers.")
    np.save(folder / "raw.npy", raw)
    return {"normaliser": normaliser.as_dict(), "n_truncated": language_model.n_truncated}


def spread(is_reference: NDArray[np.bool_], limit: int) -> NDArray[np.int64]:
    """Choose at most ``limit`` reference documents, evenly over the pool, so over its domains; shape (n,)."""
    reference = np.flatnonzero(is_reference)
    wanted = min(limit, len(reference))
    return reference[np.linspace(0, len(reference) - 1, wanted).round().astype(np.int64)]


def identify_scores(inputs: dict[str, Any], tokenizer_fingerprint: str) -> dict[str, Any]:
    """Collect what decides a score: settings of the models, their tokenizer, the slice they learnt from, versions."""
    settings = inputs["scores"]
    trained_on = {key: inputs[key] for key in ("seed", "reference_fraction", "generator", "n_documents", "files") if key in inputs}
    return {
        "version": inputs["scores_version"],
        "tokenizer": tokenizer_fingerprint,
        "max_length": settings["loss_max_length"],
        "reference_lm": settings["reference_lm"],
        "rater": settings["rater"],
        "reference_slice": trained_on,
    }


def load_scorers(cfg: PoolConfig, root: Path) -> tuple[Any, Scorer]:
    """Load the two scorers of a store whose models are made."""
    import torch

    from causalmix.pool.scores.language_model import LanguageModelScorer
    from causalmix.pool.scores.rater import load_rater
    from causalmix.pool.scores.reference_lm import load_reference_lm
    from causalmix.pool.scores.writing_style import WritingStyleScorer
    from causalmix.pool.tokenizer import load_pretrained

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    own = load_tokenizer(root)
    lm_cfg, rater_cfg, batch = cfg.scores.reference_lm, cfg.scores.rater, cfg.scores.batch_tokens
    lm_path = lm_cfg.path or str(root / "reference_lm")
    lm_tokenizer = load_pretrained(lm_cfg.path, lm_cfg.revision) if lm_cfg.path else own
    model = load_reference_lm(lm_path, lm_cfg.revision)
    rater, rater_tokenizer = load_rater(rater_cfg.path, rater_cfg.revision) if rater_cfg.path else (None, own)
    if rater is None:
        rater, _ = load_rater(str(root / "rater"))
    return (
        LanguageModelScorer(
            model.to(device), lm_tokenizer, max_length=cfg.scores.loss_max_length, batch_tokens=batch
        ),
        WritingStyleScorer(
            rater.to(device), rater_tokenizer, chunk_length=rater_cfg.chunk_length, batch_tokens=batch
        ),
    )


# --- reading the stages before ---------------------------------------------------------------------------


def documents_path(root: Path) -> Path:
    """Where the documents of a store are."""
    return root / "documents" / "documents.parquet"


def count_all(root: Path) -> int:
    """Documents of a store whose first stage is done."""
    return int(read_json(root / "documents" / SUMMARY)["n_documents"])


def iterate_reference(root: Path) -> Iterator[tuple[Message, ...]]:
    """Yield the conversations of the reference slice, in order."""
    return iterate(root, np.load(root / "documents" / "is_reference.npy", allow_pickle=False))


def iterate(root: Path, kept: NDArray[np.bool_]) -> Iterator[tuple[Message, ...]]:
    """Yield the conversations of the documents marked in ``kept``, in order."""
    every = itertools.chain.from_iterable(read_batches(documents_path(root)))
    return itertools.compress(every, kept)


def scored_text(messages: Sequence[Message]) -> ScoredText:
    """See a conversation as the scorers do."""
    return ScoredText(*split_text(messages))


def load_tokenizer(root: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a store whose second stage is done."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(root / "tokenizer", trust_remote_code=False)  # type: ignore[no-any-return]
