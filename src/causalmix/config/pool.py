"""Pools: where documents come from, how they are stored, scored and sampled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class TokenizerConfig:
    """Tokenizer and chat template of the pool."""

    kind: str = "bpe"  # bpe (trained on the reference slice) | pretrained
    vocab_size: int = 1024
    path: str | None = None  # pretrained: Hugging Face name or folder
    revision: str | None = None
    n_documents: int = 4000  # documents the BPE is trained on


@dataclass
class ReferenceLMConfig:
    """Reference language model behind Normalized_Loss and HES (fixed weights, one forward pass)."""

    path: str | None = None  # a pretrained model; null trains a small one on the reference slice
    revision: str | None = None
    dtype: str = "float32"  # float32 | bfloat16 (half the memory; scores then agree to two digits, not to four)
    hidden_size: int = 64
    n_layers: int = 2
    n_steps: int = 400
    batch_rows: int = 8
    max_length: int = 256
    lr_peak: float = 4e-3
    seed: int = 0


@dataclass
class RaterConfig:
    """Writing-style rater: a sequence classifier with QuRater's four logits, logit 0 used."""

    path: str | None = None  # a pretrained rater; null trains one on pairwise judgements
    revision: str | None = None
    pairs: str = "corrupted"  # corrupted (original beats its corruption) | quality (the pool's own labels)
    n_pairs: int = 3000
    n_steps: int = 300
    batch_pairs: int = 16
    hidden_size: int = 48
    n_layers: int = 2
    chunk_length: int = 512  # tokens a chunk, without special tokens, averaged by token count
    lr_peak: float = 2e-3
    seed: int = 0


@dataclass
class ScoresConfig:
    """How every document is scored, once."""

    standard: list[str] = field(default_factory=lambda: ["hes", "normalized_loss", "writing_style"])
    extra: Any = None  # further scores, {feature: {kind: ..., its settings}}: docs/scorers.md
    text: str = "joined"  # joined (one text and pass for both) | published (HES has a text and pass of its own)
    loss_max_length: int = 2048  # tokens that are read; joined: by HES too
    hes_max_length: int = 4096  # published: tokens of prompt and output that HES reads
    batch_tokens: int = 16384  # padded tokens a forward pass
    n_workers: int | None = None  # processes that score; null: one a GPU, else one a core where there is work for it
    n_calibration: int = 2000  # reference documents on which the normaliser is frozen
    scale_of: str | None = None  # folder of a prepared pool: its reference LM, rater and normaliser are used
    # Scores that exist already: null scores anew | documents (fields of the records) | a .jsonl(.gz) or .parquet by id.
    given: str | None = None
    given_fields: Any = None  # {hes: raw_scores.HES, ...}; dots lead into objects
    reference_lm: ReferenceLMConfig = field(default_factory=ReferenceLMConfig)
    rater: RaterConfig = field(default_factory=RaterConfig)


@dataclass
class CandidateConfig:
    """The sub-pool a run may draw from; what its state is measured on, before any mixture is drawn."""

    kind: str = "tilted"  # tilted (tau drawn per run and domain) | fixed (tau below) | all
    fraction: float = 0.5  # share of each domain's candidate documents that enters
    tau_sd: float = 1.5  # tilted: standard deviation of tau_k, per feature and domain
    tau: dict[str, dict[str, float]] = field(default_factory=dict)  # fixed: {domain: {feature: tau}}
    seed: int | None = None  # null: the run's own seed; a number: one pool for all runs


@dataclass
class HFConfig:
    """A dataset of the `datasets` library, saved to disk or on the Hub (source: hf). Its code is never run."""

    revision: str | None = None  # of a Hub dataset: a commit, 40 hexadecimal digits
    subset: str | None = None  # configuration of a Hub dataset
    splits: list[str] = field(default_factory=list)  # splits to read; empty: all of them
    data_files: Any = None  # of a Hub dataset: {split: file or glob}


@dataclass
class DedupConfig:
    """Which documents count as the same; of those the first is kept, in the order of the sources."""

    kind: str = "off"  # off | exact (the same turns) | near (exact, and MinHash similarity of words)
    threshold: float = 0.8  # near: Jaccard similarity of the sets of word n-grams
    num_perm: int = 128  # near: hash values a document; the estimate's standard error is at most .5 / sqrt(num_perm)
    ngram: int = 5  # near: words a shingle
    seed: int = 1


@dataclass
class SubsampleConfig:
    """A part of the documents, drawn by a hash of seed and id: a smaller part lies within a larger one."""

    n_documents: int | None = None  # null: all; more than there are is refused
    by: str = "none"  # none (at random) | domain (each domain's share kept exactly)
    seed: int = 0


@dataclass
class PoolConfig:
    """Where the documents come from and how they are stored, scored and sampled."""

    name: str = MISSING
    source: str = MISSING  # demo | jsonl | parquet | hf
    path: str | None = None  # a file, a folder or a glob; .jsonl, .jsonl.gz, .parquet; hf: saved dataset or Hub name
    heldout_path: str | None = None  # the same, for evaluation; null: folder/heldout-* beside folder/train-*
    domains: list[str] = field(default_factory=list)  # allowed domains; empty: those found
    domain_field: str = "domain"  # field naming a document's domain; absent: the file's (or split's) name does
    domain_map: Any = None  # {name in the source: domain, or null to drop its documents}; ++ adds to one
    n_documents: int = 20000  # demo only: how many to generate
    seed: int = 0  # demo generator and reference split
    reference_fraction: float = 0.2  # documents kept for tokenizer, raters and base; no run may draw them
    max_length: int = 512  # tokens a document; longer ones are truncated and counted
    n_workers: int | None = None  # processes that read and tokenise; null: one a core. The result is the same
    language_sample: int = 0  # documents whose language is guessed for the statistics; 0: none
    store_dir: str | None = None  # null: ${outputs}/pools/<name>-<fingerprint>
    hf: HFConfig = field(default_factory=HFConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)
    subsample: SubsampleConfig = field(default_factory=SubsampleConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    scores: ScoresConfig = field(default_factory=ScoresConfig)
    candidate: CandidateConfig = field(default_factory=CandidateConfig)
