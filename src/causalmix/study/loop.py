"""From a pool to a confirmed mixture, stage by stage, each timed and each resumable."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from causalmix.files import read_json, write_json
from causalmix.run.record import read_record
from causalmix.study.points import Plain, list_anchors, list_proxies, list_shares, make_confirmation, make_target
from causalmix.study.results import ConfirmationRow, Spread, measure_spread, summarise_confirmation
from causalmix.study.targets import measure_target
from causalmix.sweep.folder import SweepFolder
from causalmix.sweep.points import Inputs, find_base, identify, plan_runs
from causalmix.sweep.settings import check_settings
from causalmix.sweep.status import say
from causalmix.sweep.submit import run_sweep
from causalmix.table.runs import write_table

CONFIRMATION_SWEEPS = ["mixture", "pool.candidate", "train.n_samples"]


@dataclass(frozen=True)
class Analyst:
    """What a study needs of the analysis, handed in so that this package need not know it.

    Attributes
    ----------
    answer : callable
        ``answer(settings) -> Any``: fits, writes ``mixture.json`` into ``settings['output_dir']``.
    report : callable
        ``report(answer, confirmation) -> Path``: writes ``report.html`` with the confirmation table.
    """

    answer: Callable[[dict[str, Any]], Any]
    report: Callable[[Any, list[dict[str, Any]]], Path]


@dataclass
class StudyResult:
    """Everything a study measured; ``study.json`` holds it."""

    name: str
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    mixtures: dict[str, dict[str, Any]] = field(default_factory=dict)  # arm (then "arm, x8") -> mixture.json
    confirmation: list[ConfirmationRow] = field(default_factory=list)
    spread: Spread | None = None
    n_runs: dict[str, int] = field(default_factory=dict)
    main_arm: str = ""
    report: Path | None = None


def run_study(plain: Plain, analyst: Analyst) -> StudyResult:
    """Do the whole loop; typed again, it goes on where it stopped.

    Parameters
    ----------
    plain : dict
        Resolved config with a ``study`` section.
    analyst : Analyst
        The analysis, as two callables.

    Returns
    -------
    StudyResult
        Also written to ``<outputs>/studies/<name>/study.json``.
    """
    study = plain["study"]
    check_settings(plain)
    outputs = Path(plain["outputs"])
    result = StudyResult(study["name"], outputs / "studies" / study["name"])
    inputs = Inputs(outputs)

    # ---- pool, base models
    with _stage(result, "pool"):
        pool_dir = inputs.prepare_pool(plain)
        plan_runs(_list_first_shares(plain), inputs)  # what the pool cannot give is refused now, not hours later
    with _stage(result, "base models"):
        bases: dict[str, Path | None] = {}
        find_base(plain, pool_dir, inputs, bases)
        if study["confirm_model"] is not None:
            find_base({**plain, "model": study["confirm_model"]}, pool_dir, inputs, bases)

    # ---- proxies, and anchors for the noise
    with _stage(result, "proxies"):
        proxies = run_sweep(list_proxies(plain), swept=["seed"], inputs=inputs, must_wait=True)
    with _stage(result, "anchors"):
        anchors = run_sweep(list_anchors(plain), swept=["seed"], inputs=inputs, must_wait=True)
    signal = _read_rows(proxies, list_proxies(plain), inputs)
    noise = _read_rows(anchors, list_anchors(plain), inputs)
    result.n_runs |= {"proxies": len(signal), "anchors": len(noise)}
    # The fit sees the runs that were asked for: the sweep's folder may hold more, of a longer study.
    table = write_table(signal, result.folder / "runs.csv")
    result.spread = measure_spread(noise, signal)

    # ---- analysis: one answer a target, policy and size
    with _stage(result, "analysis"):
        states = {
            target: measure_target(make_target(plain, target), inputs, result.folder / "targets" / f"{target}.json")
            for target in study["targets"]
        }
        arms = _answer_all(plain, table, states, analyst, result)

    # ---- confirmation on swapped pools
    with _stage(result, "confirmation"):
        result.confirmation = _confirm(plain, arms, inputs, result)

    with _stage(result, "report"):
        rows = [asdict(row) for row in result.confirmation]
        result.report = analyst.report(arms[result.main_arm].answer, rows)
    write_json(result.folder / "study.json", _to_plain(result))
    return result


@dataclass(frozen=True)
class _Arm:
    """A way to a mixture, and the mixture that it trains at each size."""

    weights: dict[int, dict[str, float]]
    answer: Any
    targets: list[str]  # the main policy's mixtures are swapped: each is trained on every target


def _list_first_shares(plain: Plain) -> list[Plain]:
    study = plain["study"]
    return [
        point
        for target in study["targets"]
        for size in study["confirm_sizes"]
        for _, point in list_shares(plain, target, size, seed=0)
    ]


def _answer_all(
    plain: Plain, runs: Path, states: dict[str, Path], analyst: Analyst, result: StudyResult
) -> dict[str, _Arm]:
    study = plain["study"]
    asked: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        name: (policy, plain["estimator"]) for name, policy in study["policies"].items()
    }
    first = next(iter(study["policies"]))
    for name, estimator in study["ablations"].items():
        asked[f"{first} {name}"] = (study["policies"][first], estimator)
    arms: dict[str, _Arm] = {}
    for target, state in states.items():
        for name, (policy, estimator) in asked.items():
            arm = f"{name} for {target}"
            weights: dict[int, dict[str, float]] = {}
            answers = []
            for size in study["confirm_sizes"]:
                folder = result.folder / "answers" / target / f"{name.replace(' ', '-')}-x{size}"
                answers.append(
                    analyst.answer(
                        {
                            "runs": str(runs),
                            "estimator": estimator,
                            "policy": policy,
                            "output_dir": str(folder),
                            "target": {
                                **plain["target"],
                                "state_file": str(state),
                                "n_samples": size * plain["train"]["n_samples"],
                                "repeats_max": plain["mixture"]["repeats_max"],
                            },
                        }
                    )
                )
                mixture = read_json(folder / "mixture.json")
                weights[size] = mixture["candidate"]
                key = arm if size == study["confirm_sizes"][0] else f"{arm}, x{size}"
                result.mixtures[key] = {**mixture, "file": str(folder / "mixture.json"), "size": size}
            arms[arm] = _Arm(weights, answers[0], list(states) if name == first else [target])
            result.main_arm = result.main_arm or arm
    return arms


def _confirm(plain: Plain, arms: dict[str, _Arm], inputs: Inputs, result: StudyResult) -> list[ConfirmationRow]:
    study = plain["study"]
    asked: list[tuple[str, str, int, Plain]] = []
    for target in study["targets"]:
        for size in study["confirm_sizes"]:
            for seed in range(study["n_seeds"]):
                asked += [(share, target, size, point) for share, point in list_shares(plain, target, size, seed)]
                for arm, chosen in arms.items():
                    if target not in chosen.targets:
                        continue
                    point = make_confirmation(plain, target, chosen.weights[size], size, seed, arm)
                    asked.append((arm, target, size, point))
    folder = run_sweep([point for *_, point in asked], swept=CONFIRMATION_SWEEPS, inputs=inputs, must_wait=True)
    rows = []
    for arm, target, size, point in asked:
        row = _read_row(folder, point, inputs)
        rows.append(
            {
                "arm": arm,
                "target": target,
                "size": size,
                "seed": row["seed"],
                "outcome": row["outcome.avg_dev"],
                "unseen": row["unseen.avg"],
            }
        )
    frame = pd.DataFrame(rows)
    result.n_runs["confirmation"] = len({identify(point, inputs).run_id for *_, point in asked})
    result.folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(result.folder / "confirmation.csv", index=False)
    return summarise_confirmation(frame)


def _read_row(folder: SweepFolder, point: Plain, inputs: Inputs) -> dict[str, Any]:
    record = read_record(folder.run_dir(identify(point, inputs).run_id))
    assert record is not None, "run_sweep returns only when every run is complete"
    return record.row


def _read_rows(folder: SweepFolder, points: list[Plain], inputs: Inputs) -> pd.DataFrame:
    return pd.DataFrame([_read_row(folder, point, inputs) for point in points])


@contextlib.contextmanager
def _stage(result: StudyResult, name: str) -> Iterator[None]:
    """Time a stage; what an earlier, interrupted attempt spent on it is added."""
    say(f"== {name}")
    path = result.folder / "seconds.json"
    spent = read_json(path) if path.exists() else {}
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - start
        spent[name] = round(spent.get(name, 0.0) + seconds, 1)
        write_json(path, spent)
        result.seconds = spent
        say(f"   {name}: {seconds:.1f} s")


def _to_plain(result: StudyResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "seconds": result.seconds,
        "n_runs": result.n_runs,
        "spread": result.spread.to_dict() if result.spread else None,
        "main_arm": result.main_arm,
        "mixtures": result.mixtures,
        "confirmation": [asdict(row) for row in result.confirmation],
        "report": str(result.report),
    }
