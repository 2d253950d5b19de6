"""Making a store, stage by stage: documents, tokenizer, tokens, reference LM, rater, scores.

A finished store is checked and returned; an interrupted one goes on after its last whole stage.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalmix.config import CandidateConfig, PoolConfig
from causalmix.errors import PoolError
from causalmix.files import fingerprint, read_json, write_json
from causalmix.pool.candidate import draw_candidates
from causalmix.pool.checksum import Checksums
from causalmix.pool.inputs import check_config, describe_inputs
from causalmix.pool.sources import Sources, find_sources
from causalmix.pool.stage import SUMMARY, Summary, lock_folder, run_stage
from causalmix.pool.state import measure_state, write_state
from causalmix.pool.store import FORMAT, INPUTS_FILE, POOL_FILE, hash_files, hash_parts, open_pool
from causalmix.pool.threads import hide_bars

if TYPE_CHECKING:  # a launcher that finds the pool made needs none of what scores it
    from causalmix.pool.score_work import Shard

STATE_FILE = "state.json"
HASHES_FILE = ".hashes.json"  # of sources and models: read again only where they may have changed
BEFORE_SCORES = ("documents", "tokenizer", "tokens", "reference_lm", "rater")


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
    root, sources, inputs = locate(cfg, outputs)
    if (root / POOL_FILE).is_file() and _matches(root, inputs):
        open_pool(root)
        return root
    with lock_folder(root), hide_bars():
        _begin(root, inputs)
        if not (root / POOL_FILE).is_file():
            from causalmix.pool import scoring

            done = _run_stages(cfg, sources, inputs, root, progress)
            write_json(root / POOL_FILE, _summarise(cfg.name, done, hash_files(root)))
            # Last: as long as there is no pool.json, another shard may look for them.
            scoring.open_blocks(cfg, root, inputs).remove()
    pool = open_pool(root)
    if not (root / STATE_FILE).is_file():  # of the whole pool: what an analysis asks for by the pool's name
        everything = draw_candidates(pool, CandidateConfig(kind="all"), seed=0)
        write_state(root / STATE_FILE, pool, everything, measure_state(pool, everything))
    return root


def score_pool(cfg: PoolConfig, outputs: Path, shard: Shard | None, *, progress: bool = True) -> dict[str, Any]:
    """Score one shard of a pool, making what comes before first; the shard that ends last finishes the store.

    Any number of shards may run at once, on any number of machines that share the folder: the stages before
    the scores are made by one of them while the others wait.

    Parameters
    ----------
    cfg : PoolConfig
    outputs : Path
    shard : Shard or None
        None makes only what comes before the scores.
    progress : bool

    Returns
    -------
    dict
        ``path``, ``shard``, ``of``, ``n_scored`` (documents), ``wall_s``, ``n_blocks``, ``blocks_left`` (of other
        shards) and ``finished``.
    """
    from causalmix.pool import scoring
    from causalmix.pool.score_work import score_shard

    if cfg.scores.given:
        raise PoolError(
            f"pool.scores.given={cfg.scores.given}: there is nothing to score; use `causalmix pool prepare`."
        )
    root, sources, inputs = locate(cfg, outputs)
    part = {"shard": shard.index, "of": shard.of} if shard else {"shard": None, "of": None}
    facts: dict[str, Any] = {"path": str(root), **part, "n_scored": 0, "wall_s": 0.0}
    if (root / POOL_FILE).is_file() and _matches(root, inputs):
        return {**facts, "n_blocks": 0, "blocks_left": 0, "finished": True}
    if not all((root / stage / SUMMARY).is_file() for stage in BEFORE_SCORES):
        with lock_folder(root), hide_bars():
            _begin(root, inputs)
            _run_stages(cfg, sources, inputs, root, progress, with_scores=False)
    _matches(root, inputs)
    blocks = scoring.open_blocks(cfg, root, inputs)
    if shard is None:
        return {**facts, "n_blocks": blocks.count, "blocks_left": len(blocks.list_missing()), "finished": False}
    started = time.perf_counter()
    with hide_bars():
        facts["n_scored"] = score_shard(cfg, root, blocks, shard, progress=progress)
    facts["wall_s"] = round(time.perf_counter() - started, 2)
    left = [] if (root / POOL_FILE).is_file() else blocks.list_missing()
    if not left:
        prepare(cfg, outputs, progress=progress)
    return {**facts, "n_blocks": blocks.count, "blocks_left": len(left), "finished": not left}


def locate(cfg: PoolConfig, outputs: Path) -> tuple[Path, Sources | None, dict[str, Any]]:
    """Find where a pool's store is or will be, its sources, and what decides its content.

    Raises
    ------
    PoolError
    """
    check_config(cfg)
    checksums = Checksums(Path(outputs) / "pools" / HASHES_FILE)
    sources = None if cfg.source == "demo" else find_sources(cfg, checksums)
    inputs = describe_inputs(cfg, sources, checksums)
    root = Path(cfg.store_dir) if cfg.store_dir else Path(outputs) / "pools" / f"{cfg.name}-{fingerprint(inputs, 12)}"
    return root, sources, inputs


def _begin(root: Path, inputs: dict[str, Any]) -> None:
    if not (root / INPUTS_FILE).is_file():
        _refuse_foreign(root)
        write_json(root / INPUTS_FILE, inputs)
    _matches(root, inputs)


def _run_stages(
    cfg: PoolConfig,
    sources: Sources | None,
    inputs: dict[str, Any],
    root: Path,
    progress: bool,
    *,
    with_scores: bool = True,
) -> dict[str, Summary]:
    from causalmix.pool import given, scorers, scoring, stages, tokens

    done: dict[str, Summary] = {}

    def run(name: str, build: Callable[[Path], Summary]) -> None:
        done[name] = run_stage(root, name, partial(_timed, build))
        shutil.rmtree(work(name), ignore_errors=True)

    def work(name: str) -> Path:  # what is whole in it outlives a kill
        return root / f".{name}.work"

    run("documents", lambda to: stages.build_documents(to, cfg, sources, work("documents"), progress=progress))
    given.check_given(cfg.scores, root)
    run("tokenizer", lambda to: stages.build_tokenizer(to, cfg, root))
    run("tokens", lambda to: tokens.build_tokens(to, cfg, root, work("tokens"), progress=progress))
    run("reference_lm", lambda to: scorers.build_reference_lm(to, cfg, root, progress=progress))
    run("rater", lambda to: scorers.build_rater(to, cfg, root, progress=progress))
    identity = scoring.identify_scores(inputs, str(done["tokenizer"]["fingerprint"]))
    if with_scores:
        run("scores", lambda to: scoring.build_scores(to, cfg, root, inputs, identity, progress=progress))
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
        "truncated_scores": scores["truncated"],
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
