"""What decides a store's content: settings that can work, and the fingerprint's parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from causalmix.config import PoolConfig, ScoresConfig
from causalmix.errors import PoolError
from causalmix.files import is_folder_name
from causalmix.pool.checksum import Checksums
from causalmix.pool.demo.generate import GENERATOR_VERSION
from causalmix.pool.scores import FEATURES, IN_DOCUMENTS, SCORES_VERSION
from causalmix.pool.scores.extra import check_scorers, identify_scorers, list_features
from causalmix.pool.signature import check_settings as check_dedup
from causalmix.pool.sources import SUFFIXES, Sources, expand
from causalmix.pool.store import FORMAT
from causalmix.pool.tokenizer import load_pretrained, require_pinned
from causalmix.pool.workers import count_workers

SOURCES = ("demo", "jsonl", "parquet", "hf")
TEXTS = ("joined", "published")


def check_config(cfg: PoolConfig) -> None:
    """Refuse settings that cannot work before anything is read.

    Raises
    ------
    PoolError
    """
    if cfg.source not in SOURCES:
        raise PoolError(f"pool.source={cfg.source!r} is not one of {', '.join(SOURCES)}.")
    if not is_folder_name(cfg.name):
        raise PoolError(f"pool.name={cfg.name!r}: letters, digits, '_', '-', '+' and '.'; a folder is named after it.")
    mappings = {"domain_map": cfg.domain_map, "hf.data_files": cfg.hf.data_files}
    mappings |= {"scores.given_fields": cfg.scores.given_fields}
    for key, mapping in mappings.items():
        if mapping is None:
            continue
        if not isinstance(mapping, Mapping) or not all(isinstance(value, str | None) for value in mapping.values()):
            raise PoolError(f"pool.{key}={mapping!r} must map names to names, such as {{a: b}}.")
    check_dedup(cfg.dedup)
    check_scores(cfg.scores)
    count_workers(cfg.n_workers, 1, 0)
    if cfg.scores.given:
        from causalmix.pool.given import name_features

        name_features(cfg.scores)
        if cfg.source == "demo":
            raise PoolError(f"pool.scores.given={cfg.scores.given}: the demo's documents come without scores.")
    check_pins(cfg)
    if cfg.tokenizer.kind == "pretrained":
        # Loaded here once more than needed: an hour's reading is a long way to a missing chat template.
        load_pretrained(cfg.tokenizer.path, cfg.tokenizer.revision)


def check_pins(cfg: PoolConfig) -> None:
    """Refuse Hugging Face names without a commit, all of them at once and before anything is read.

    Raises
    ------
    PoolError
    """
    from causalmix.pool.hub import require_commit

    checks: list[Callable[[], object]] = []
    if cfg.source == "hf" and cfg.path:
        checks.append(lambda: require_commit(cfg))
    if cfg.tokenizer.kind == "pretrained":
        checks.append(lambda: require_pinned("pool.tokenizer", cfg.tokenizer.path, cfg.tokenizer.revision))
    if not cfg.scores.given and not cfg.scores.scale_of:
        lm, rater = cfg.scores.reference_lm, cfg.scores.rater
        if lm.path and {"hes", "normalized_loss"} & set(cfg.scores.standard):
            checks.append(lambda: require_pinned("pool.scores.reference_lm", lm.path, lm.revision))
        if rater.path and "writing_style" in cfg.scores.standard:
            checks.append(lambda: require_pinned("pool.scores.rater", rater.path, rater.revision))
    faults = []
    for check in checks:
        try:
            check()
        except PoolError as error:
            faults.append(str(error))
    if faults:
        raise PoolError("\n".join(faults))


def check_scores(scores: ScoresConfig) -> None:
    """Refuse settings of the scores that cannot work, before anything is scored.

    Raises
    ------
    PoolError
    """
    if scores.text not in TEXTS:
        raise PoolError(f"pool.scores.text={scores.text!r} is not one of {', '.join(TEXTS)}.")
    for key in ("loss_max_length", "hes_max_length", "batch_tokens"):
        if getattr(scores, key) < 1:
            raise PoolError(f"pool.scores.{key}={getattr(scores, key)} must be 1 or more.")
    if scores.given and list_features(scores.standard, scores.extra) != FEATURES:
        raise PoolError(
            f"pool.scores.given={scores.given} is all three scores, and no others: leave pool.scores.standard and "
            "extra as they are, or add scores of your own with pool.scores.extra={name: {kind: given, ...}} alone."
        )
    list_features(scores.standard, scores.extra)
    check_scorers(scores.extra)


def describe_inputs(cfg: PoolConfig, sources: Sources | None, checksums: Checksums | None = None) -> dict[str, Any]:
    """Collect what decides a store's content: the documents' source and every setting but the candidates'.

    Paths are left out (the content of files is hashed), and so is what changes time or memory alone.
    """
    settings = _as_plain(cfg)
    for key in ("name", "path", "heldout_path", "store_dir", "candidate", "n_documents", "n_workers", "hf"):
        settings.pop(key)
    settings.pop("language_sample")  # decides a statistic, no document
    _drop_unused(settings)
    if cfg.scores.given and cfg.scores.given != IN_DOCUMENTS:
        files = expand(cfg.scores.given, "pool.scores.given", SUFFIXES["jsonl"] + SUFFIXES["parquet"])
        settings["scores"]["given"] = (checksums or Checksums(None)).hash_files(files)
    _drop_defaults(settings["scores"])
    scale_of = settings["scores"].pop("scale_of")
    if scale_of:
        from causalmix.pool.scoring import read_scale

        settings["scores"] = {**settings["scores"], "scale_of": read_scale(cfg).fingerprint}
    for part in (settings["tokenizer"], settings["scores"]["reference_lm"], settings["scores"]["rater"]):
        part["path"] = identify_weights(part["path"], checksums)
    made = {"generator": GENERATOR_VERSION, "n_documents": cfg.n_documents}
    source = made if sources is None else {"files": sources.hash_content(checksums)}
    return {"format": FORMAT, "scores_version": SCORES_VERSION, **source, **settings}


def _drop_defaults(scores: dict[str, Any]) -> None:
    """Leave out what changes time alone, and settings at the value they had before they were settings."""
    for key in ("batch_tokens", "n_workers"):
        scores.pop(key)
    if scores["text"] == "joined":
        scores.pop("text")
        scores.pop("hes_max_length")
    if sorted(scores["standard"]) == sorted(FEATURES):
        scores.pop("standard")
    extra = identify_scorers(scores.pop("extra"))
    if extra:
        scores["extra"] = extra
    if scores["reference_lm"]["dtype"] == "float32":
        scores["reference_lm"].pop("dtype")


def _drop_unused(settings: dict[str, Any]) -> None:
    """Drop settings that decide nothing at their default, so that a store keeps its place when one is added."""
    if not settings["domain_map"]:
        settings.pop("domain_map")
    if settings["dedup"]["kind"] != "near":
        kind = settings.pop("dedup")["kind"]
        settings |= {"dedup": kind} if kind != "off" else {}
    if settings["subsample"]["n_documents"] is None:
        settings.pop("subsample")
    if settings["scores"]["given"] is None:
        settings["scores"].pop("given")
        settings["scores"].pop("given_fields")
    else:
        settings["scores"]["given_fields"] = settings["scores"]["given_fields"] or {}


def identify_weights(path: str | None, checksums: Checksums | None = None) -> Any:
    """Name a pretrained model: a Hub name as it is, a folder by the hashes of its files."""
    if path is None or not Path(path).is_dir():
        return path
    suffixes = (".json", ".jinja", ".safetensors", ".model")
    files = sorted(file for file in Path(path).iterdir() if file.suffix in suffixes)
    digests = (checksums or Checksums(None)).hash_files(files)
    return {file.name: digest[:16] for file, digest in zip(files, digests)}


def _as_plain(cfg: PoolConfig) -> dict[str, Any]:
    if is_dataclass(cfg):
        return asdict(cfg)
    assert isinstance(cfg, DictConfig)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
