"""Making a store, stage by stage: documents, tokenizer, tokens, reference LM, rater, scores.

A finished store is checked and returned; an interrupted one goes on after its last whole stage.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from causalmix.config import CandidateConfig, PoolConfig
from causalmix.errors import PoolError
from causalmix.files import fingerprint, read_json, write_json
from causalmix.pool.candidate import draw_candidates
from causalmix.pool.checksum import Checksums
from causalmix.pool.demo.generate import GENERATOR_VERSION
from causalmix.pool.given import IN_DOCUMENTS, name_features
from causalmix.pool.scores import SCORES_VERSION
from causalmix.pool.signature import check_settings
from causalmix.pool.sources import SUFFIXES, Sources, expand, find_sources
from causalmix.pool.stage import Summary, lock_folder, run_stage
from causalmix.pool.state import measure_state, write_state
from causalmix.pool.store import FORMAT, INPUTS_FILE, POOL_FILE, hash_files, hash_parts, open_pool
from causalmix.pool.threads import hide_bars
from causalmix.pool.tokenizer import load_pretrained
from causalmix.pool.workers import count_workers

SOURCES = ("demo", "jsonl", "parquet", "hf")
STATE_FILE = "state.json"
HASHES_FILE = ".hashes.json"  # of sources and models: read again only where they may have changed


def prepare(cfg: PoolConfig, outputs: Path, *, progress: bool = True) -> Path:
    """Make the store of a pool, or find it made.

    Parameters
    ----------
    cfg : PoolConfig
        ``cfg.candidate`` plays no part: candidate pools are drawn from the store, run by run.
    outputs : Path
        The store is ``<outputs>/pools/<name>-<hash of inputs>``, unless ``cfg.store_dir`` says otherwise.
    progress : bool
        Show bars on a terminal.

    Returns
    -------
    Path
        The folder of the store, for :func:`~causalmix.pool.store.open_pool`.

    Raises
    ------
    PoolError
        For documents that cannot be used (all are named), settings that cannot work, or a ``store_dir`` that
        holds another pool.
    """
    check_config(cfg)
    checksums = Checksums(Path(outputs) / "pools" / HASHES_FILE)
    sources = None if cfg.source == "demo" else find_sources(cfg, checksums)
    inputs = describe_inputs(cfg, sources, checksums)
    root = Path(cfg.store_dir) if cfg.store_dir else Path(outputs) / "pools" / f"{cfg.name}-{fingerprint(inputs, 12)}"
    if (root / POOL_FILE).is_file() and _matches(root, inputs):
        open_pool(root)
        return root
    with lock_folder(root), hide_bars():
        if not (root / INPUTS_FILE).is_file():
            _refuse_foreign(root)
            write_json(root / INPUTS_FILE, inputs)
        _matches(root, inputs)
        if not (root / POOL_FILE).is_file():
            done = _run_stages(cfg, sources, inputs, root, progress)
            write_json(root / POOL_FILE, _summarise(cfg.name, done, hash_files(root)))
    pool = open_pool(root)
    if not (root / STATE_FILE).is_file():  # of the whole pool: what an analysis asks for by the pool's name
        everything = draw_candidates(pool, CandidateConfig(kind="all"), seed=0)
        write_state(root / STATE_FILE, pool, everything, measure_state(pool, everything))
    return root


def check_config(cfg: PoolConfig) -> None:
    """Refuse settings that cannot work before anything is read.

    Raises
    ------
    PoolError
    """
    if cfg.source not in SOURCES:
        raise PoolError(f"pool.source={cfg.source!r} is not one of {', '.join(SOURCES)}.")
    mappings = {"domain_map": cfg.domain_map, "hf.data_files": cfg.hf.data_files}
    mappings |= {"scores.given_fields": cfg.scores.given_fields}
    for key, mapping in mappings.items():
        if not isinstance(mapping, Mapping) or not all(isinstance(value, str | None) for value in mapping.values()):
            raise PoolError(f"pool.{key}={mapping!r} must map names to names, such as {{a: b}}.")
    check_settings(cfg.dedup)
    count_workers(cfg.n_workers, 1, 0)
    if cfg.scores.given:
        name_features(cfg.scores)
        if cfg.source == "demo":
            raise PoolError(f"pool.scores.given={cfg.scores.given}: the demo's documents come without scores.")
    if cfg.tokenizer.kind == "pretrained":
        # Loaded here once more than needed: an hour's reading is a long way to a missing chat template.
        load_pretrained(cfg.tokenizer.path, cfg.tokenizer.revision)


def describe_inputs(cfg: PoolConfig, sources: Sources | None, checksums: Checksums | None = None) -> dict[str, Any]:
    """Collect what decides a store's content: the documents' source and every setting but the candidates'.

    Paths are left out (the content of files is hashed), and so is what changes time or memory alone.
    """
    settings = _as_plain(cfg)
    for key in ("name", "path", "heldout_path", "store_dir", "candidate", "n_documents", "n_workers", "hf"):
        settings.pop(key)
    settings.pop("language_sample")  # decides a statistic, no document
    _drop_unused(settings)
    settings["scores"].pop("batch_tokens")
    if cfg.scores.given and cfg.scores.given != IN_DOCUMENTS:
        files = expand(cfg.scores.given, "pool.scores.given", SUFFIXES["jsonl"] + SUFFIXES["parquet"])
        settings["scores"]["given"] = (checksums or Checksums(None)).hash_files(files)
    scale_of = settings["scores"].pop("scale_of")
    if scale_of:
        from causalmix.pool.scoring import read_scale

        settings["scores"] = {**settings["scores"], "scale_of": read_scale(cfg).fingerprint}
    for part in (settings["tokenizer"], settings["scores"]["reference_lm"], settings["scores"]["rater"]):
        part["path"] = identify_weights(part["path"], checksums)
    made = {"generator": GENERATOR_VERSION, "n_documents": cfg.n_documents}
    source = made if sources is None else {"files": sources.hash_content(checksums)}
    return {"format": FORMAT, "scores_version": SCORES_VERSION, **source, **settings}


def identify_weights(path: str | None, checksums: Checksums | None = None) -> Any:
    """Name a pretrained model: a Hub name as it is, a folder by the hashes of its files."""
    if path is None or not Path(path).is_dir():
        return path
    suffixes = (".json", ".jinja", ".safetensors", ".model")
    files = sorted(file for file in Path(path).iterdir() if file.suffix in suffixes)
    digests = (checksums or Checksums(None)).hash_files(files)
    return {file.name: digest[:16] for file, digest in zip(files, digests)}


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


def _run_stages(
    cfg: PoolConfig, sources: Sources | None, inputs: dict[str, Any], root: Path, progress: bool
) -> dict[str, Summary]:
    from causalmix.pool import scoring, stages, tokens

    done: dict[str, Summary] = {}

    def run(name: str, build: Callable[[Path], Summary]) -> None:
        done[name] = run_stage(root, name, partial(_timed, build))
        shutil.rmtree(work(name), ignore_errors=True)

    def work(name: str) -> Path:  # what is whole in it outlives a kill
        return root / f".{name}.work"

    run("documents", lambda to: stages.build_documents(to, cfg, sources, work("documents"), progress=progress))
    run("tokenizer", lambda to: stages.build_tokenizer(to, cfg, root))
    run("tokens", lambda to: tokens.build_tokens(to, cfg, root, work("tokens"), progress=progress))
    run("reference_lm", lambda to: scoring.build_reference_lm(to, cfg, root, progress=progress))
    run("rater", lambda to: scoring.build_rater(to, cfg, root, progress=progress))
    identity = scoring.identify_scores(inputs, str(done["tokenizer"]["fingerprint"]))
    run("scores", lambda to: scoring.build_scores(to, cfg, root, identity, progress=progress))
    return done


def _summarise(name: str, done: dict[str, Summary], files: dict[str, Any]) -> dict[str, Any]:
    documents, tokenizer, tokens, scores = (done[stage] for stage in ("documents", "tokenizer", "tokens", "scores"))
    parts = {
        "documents": documents["sha256"],
        "heldout": documents["heldout_sha256"],
        "tokenizer": tokenizer["fingerprint"],
        "tokens": tokens["sha256"],
        "scores": scores["normaliser"]["fingerprint"],
    }
    return {
        "format": FORMAT,
        "name": name,
        "fingerprint": hash_parts(parts),
        "parts": parts,
        "domains": documents["domains"],
        "n_documents": documents["n_documents"],
        "counts": documents["counts"],
        "heldout": documents["heldout"],
        "vocab_size": tokenizer["vocab_size"],
        "tokenizer_sha256": tokenizer["sha256"],
        "token_dtype": tokens["dtype"],
        **{key: tokens[key] for key in ("n_tokens", "n_target_tokens", "n_truncated", "n_without_target", "n_literal")},
        "left_out": documents["left_out"],
        "lengths": {"characters": documents["characters"], "tokens": tokens["lengths"]},
        "languages": documents["languages"],
        "n_truncated_scores": scores["n_truncated"],
        "normaliser": scores["normaliser"],
        "reference_lm": done["reference_lm"],
        "rater": done["rater"],
        "stage_wall_s": {stage: summary["wall_s"] for stage, summary in done.items()},
        "files": files,
    }


def _timed(build: Callable[[Path], Summary], folder: Path) -> Summary:
    started = time.perf_counter()
    summary = build(folder)
    return {**summary, "wall_s": round(time.perf_counter() - started, 2)}


def _matches(root: Path, inputs: dict[str, Any]) -> bool:
    found = read_json(root / INPUTS_FILE)
    if found == inputs:
        return True
    different = sorted(key for key in {*found, *inputs} if found.get(key) != inputs.get(key))
    raise PoolError(
        f"pool.store_dir={root} holds another pool (different: {', '.join(different)}). "
        f"Choose another folder, or leave pool.store_dir unset to get one of its own."
    )


def _refuse_foreign(root: Path) -> None:
    strangers = sorted(child.name for child in root.iterdir() if not child.name.startswith("."))
    if strangers:
        raise PoolError(f"pool.store_dir={root} holds other files ({', '.join(strangers[:10])}): take an empty folder.")


def _as_plain(cfg: PoolConfig) -> dict[str, Any]:
    if is_dataclass(cfg):
        return asdict(cfg)
    assert isinstance(cfg, DictConfig)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
