"""One proxy run, from config to record: pool, state, mixture, documents, training, evaluation, record.

The order is part of the method: the pool's state is measured on the run's candidate pool before its
mixture is drawn, so that X can never be a function of T.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import shutil
import time
import traceback
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from causalmix.config import Config
from causalmix.errors import CausalMixError, LostClaimError, RunTimedOutError, StoppedEarlyError
from causalmix.files import DiskFullError, write_text
from causalmix.run import manifest
from causalmix.run.designs import build_run_design, describe_design, name_arm
from causalmix.run.diary import Diary
from causalmix.run.guard import Guard
from causalmix.run.metrics import Metrics
from causalmix.run.record import Record, check_outcomes
from causalmix.run.stage import MODEL, Stage
from causalmix.run.workshop import Workshop
from causalmix.track.mirror import Mirror, MirroredRun

if TYPE_CHECKING:
    from causalmix.pool.candidate import CandidatePool
    from causalmix.pool.store import Pool
    from causalmix.train.result import TrainResult
    from causalmix.train.training import Training

logger = logging.getLogger(__name__)

STREAMS = {"state": 0, "design": 1, "documents": 2, "training": 3}
"""Separate random streams of one seed; a replicate changes the last two alone."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep, ready to execute."""

    run_id: str
    sweep_id: str
    config: Config
    identity: dict[str, Any]
    pool_dir: Path
    base_dir: Path | None
    git_sha: str | None = None


def spawn_seed(config: Config, stream: str) -> np.random.SeedSequence:
    """Derive the seed of one stream; ``replicate`` reaches documents and training only."""
    replicate = config.replicate if stream in ("documents", "training") else 0
    return np.random.SeedSequence(entropy=config.seed, spawn_key=(STREAMS[stream], replicate))


def spawn_integer(config: Config, stream: str) -> int:
    """Derive a 31-bit integer seed for libraries that want one."""
    return int(spawn_seed(config, stream).generate_state(1)[0] >> 1)


def run_proxy(point: Point, run_dir: Path, workshop: Workshop, guard: Guard | None = None) -> Record:
    """Execute one run by itself; parameters, return value and errors are those of :func:`live`."""
    life = live(point, run_dir, workshop, guard)
    try:
        training = next(life)
        try:
            result = training.train_alone()
        except Exception as error:
            life.throw(error)
        else:
            life.send(result)
    except StopIteration as end:
        record: Record = end.value
        return record
    raise AssertionError("a run trains once")


def live(
    point: Point, run_dir: Path, workshop: Workshop, guard: Guard | None = None
) -> Generator[Training, TrainResult, Record]:
    """Execute one run and write its record; a failure is a record too, with its cause.

    It yields its training, to be done alone or together with those of other runs, and is sent the result or thrown what
    was raised.

    Parameters
    ----------
    point : Point
        What to run.
    run_dir : Path
        ``<sweep>/runs/<run_id>``; made if missing.
    workshop : Workshop
        The worker's caches.
    guard : Guard, optional
        When to stop early, and how the record is published.

    Returns
    -------
    Record
        As written to ``record.json``.

    Raises
    ------
    DiskFullError
        Where not even the record could be written: the run then stays missing and is done again.
    LostClaimError
        Where the guard says that the run is another worker's by now.
    """
    config = point.config
    guard = guard or Guard()
    for name in ("failure.txt", "tracker.txt"):  # of an earlier attempt
        (run_dir / "log" / name).unlink(missing_ok=True)
    write_text(run_dir / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False))
    mirror = Mirror(config.tracker, MirroredRun(point.run_id, point.sweep_id, config.cohort, run_dir / "log"))
    diary = Diary()
    try:
        row = yield from _do_run(point, run_dir, workshop, mirror, diary, guard)
        record = _make_record(point, diary, "complete", None, row)
        check_outcomes(record)
    except (DiskFullError, LostClaimError):
        mirror.abandon()
        raise
    except StoppedEarlyError as stop:
        record = _make_record(point, diary, "preempted", str(stop), {})
    except RunTimedOutError as limit:
        record = _make_record(point, diary, "timed_out", str(limit), {})
    except Exception as error:  # the sweep goes on; the cause is in the record, the traceback in the log
        cause = str(error) if isinstance(error, CausalMixError) else f"{type(error).__name__}: {error}"
        write_text(run_dir / "log" / "failure.txt", traceback.format_exc())
        record = _make_record(point, diary, "failed", cause, {})
    record.provenance.update(guard.describe())
    try:
        guard.publish(run_dir, record)
    except Exception:
        mirror.abandon()
        raise
    mirror.finish(record.row, record.status, record.cause)  # after the record: nothing waits for W&B
    if mirror.failure:
        with contextlib.suppress(OSError):  # a full disk must not undo a run that is complete
            write_text(run_dir / "log" / "tracker.txt", f"{mirror.failure}\n")
    if record.status == "complete" and config.train.keep_checkpoints != "all":
        shutil.rmtree(run_dir / "checkpoint", ignore_errors=True)  # there to be resumed from alone
    return record


def _do_run(
    point: Point, run_dir: Path, workshop: Workshop, mirror: Mirror, diary: Diary, guard: Guard
) -> Generator[Training, TrainResult, dict[str, Any]]:
    from causalmix.pool.candidate import draw_candidates
    from causalmix.pool.state import measure_controls, measure_state
    from causalmix.train.checks import check_documents, check_domains, check_ranks
    from causalmix.train.model import count_parameters
    from causalmix.train.ranks import find_ranks
    from causalmix.train.training import Training

    config = point.config
    pool = workshop.open_pool(point.pool_dir)
    candidates = draw_candidates(pool, config.pool.candidate, seed=spawn_integer(config, "state"))
    state = measure_state(pool, candidates)
    diary.note("state_measured", candidate_fingerprint=candidates.fingerprint)

    available = {domain: int(n) for domain, n in zip(pool.domains, candidates.counts)}
    design = build_run_design(config, available, state.by_domain)
    # A design of points gives the run the point of its seed: a replicate has the same one.
    draw = design.sample(np.random.default_rng(spawn_seed(config, "design")), config.seed)
    diary.note("mixture_drawn", design=design.name)
    n_samples = draw.count_samples(config.train.n_samples)
    online = manifest.plan_online(config, pool)
    row = _describe_point(point, pool, candidates)
    if online is None:
        seed = spawn_seed(config, "documents")
        documents = manifest.draw_manifest(config, pool, candidates, draw.weights, n_samples, seed)
        manifest.write_manifest(run_dir / "manifest.parquet", pool, documents)
        row |= manifest.describe_mixture(pool, draw.weights, documents)
    else:  # drawn while it trains
        documents = candidates.doc_ids
    row |= {f"design.{name}": float(value) for name, value in draw.parameters.items()}
    row |= describe_design(config, design, available, state.by_domain, workshop)
    row |= state.flat() | measure_controls(pool, candidates)
    mirror.update_config(row)

    domains = np.asarray(pool.domains, dtype=object)[pool.domain_ids[documents]]
    kept = check_documents(pool.store, documents, config.train)
    check_domains(kept, documents, domains, config.train)
    check_ranks(len(kept), find_ranks().size)  # before the other ranks hear of it
    evaluator = workshop.get_evaluator(config, pool)  # tasks that cannot be had are refused before hours of training
    guard.announce(documents)
    model = workshop.load_model(config, point.base_dir, pool)
    row["model.n_parameters"] = count_parameters(model)
    stage = Stage(config, pool, candidates, model)
    diary.note("training_started")
    with Metrics(run_dir / "metrics.jsonl") as metrics:

        def log(values: dict[str, Any]) -> None:
            metrics.add(values)
            mirror.log(values)

        asked_at = time.perf_counter()
        result = yield Training(
            model,
            pool.store,
            documents,
            config.train,
            seed=spawn_integer(config, "training"),
            checkpoint_dir=guard.find_checkpoints(config.train, run_dir),
            log=log,
            trace_path=run_dir / "trace.json.gz" if config.train.profile else None,
            should_stop=guard.should_stop,
            online=online,
            kept=kept,
        )
        diary.others_s = max(0.0, time.perf_counter() - asked_at - result.device_s)
    diary.note("training_ended")
    row |= stage.measure_shift(model)
    if online is not None:
        manifest.write_manifest(run_dir / "manifest.parquet", pool, result.documents)
        row |= manifest.describe_online(pool, result.documents, result.report)
        diary.note("domains_exhausted", domains=manifest.list_exhausted(result.report))
    evaluation = evaluator.evaluate(model, run_dir / "eval")
    diary.note("evaluation_ended")
    if config.train.keep_checkpoints != "none" or config.train.rescored_documents:
        model.save_pretrained(run_dir / MODEL)
    row |= {
        "train.n_samples": n_samples,
        "train.n_tokens": int(result.n_tokens),
        "train.n_target_tokens": int(result.n_target_tokens),
        "train.n_truncated": int(result.n_truncated),
        "train.n_untargeted": int(result.n_untargeted),
        "train.n_dropped": int(result.n_dropped),
        "train.n_steps": int(result.n_steps),
        "train.loss_first": float(result.loss_first),
        "train.loss_last": float(result.loss_last),
    }
    return row | {name: float(value) for name, value in evaluation.outcomes.items()}


def _describe_point(point: Point, pool: Pool, candidates: CandidatePool) -> dict[str, Any]:
    config = point.config
    arm = {"design.arm.name": name_arm(config)} if config.mixture.kind == "policy" else {}
    return arm | {
        "run_id": point.run_id,
        "sweep_id": point.sweep_id,
        "cohort": config.cohort,
        "seed": config.seed,
        "replicate": config.replicate,
        "design.kind": config.mixture.kind,
        # Mixtures of policies are told apart by who made them: python -m analysis.compare reads this.
        "design.name": config.policy.name if config.mixture.kind == "policy" else config.mixture.name,
        "pool.fingerprint": candidates.fingerprint,
        "pool.store_fingerprint": pool.fingerprint,
        "pool.normaliser_fingerprint": pool.facts["normaliser"]["fingerprint"],
        "pool.n_documents": int(np.sum(candidates.counts)),
        "model.name": config.model.name,
    }


def _make_record(point: Point, diary: Diary, status: str, cause: str | None, row: dict[str, Any]) -> Record:
    wall_s = round(time.perf_counter() - diary.start, 3)
    if status == "complete":
        row = row | {
            "status": status,
            "git_sha": point.git_sha,
            "started_at": diary.started_at,
            "wall_s": wall_s,
            "device_s": round(wall_s - diary.others_s, 3),
        }
    return Record(
        run_id=point.run_id,
        status=status,
        cause=cause,
        row=row,
        events=diary.events,
        identity=point.identity,
        provenance={
            "started_at": diary.started_at,
            "wall_s": wall_s,
            "host": platform.node(),
            "python": platform.python_version(),
            "git_sha": point.git_sha,
        },
    )
