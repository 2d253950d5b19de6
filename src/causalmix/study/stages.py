"""Stage-wise training: at each boundary the model as it is scores the pool, and one fit is asked anew.

The stages are runs like any other (records, claims, the cluster), each from the model of the one before. What
the analysis knows is asked between them, here, where a submission is made: never on a worker.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from causalmix.errors import ConfigError
from causalmix.files import read_json, write_json
from causalmix.run.record import read_record
from causalmix.run.stage import MODEL, SHIFT
from causalmix.study.points import Plain, change
from causalmix.study.targets import measure_target
from causalmix.sweep.points import Inputs, identify
from causalmix.sweep.settings import check_settings
from causalmix.sweep.status import say
from causalmix.sweep.submit import run_sweep

SWEPT = ["mixture", "model", "replicate", "train.n_samples"]


@dataclass(frozen=True)
class StageResult:
    """One stage.

    Attributes
    ----------
    run_id : str
    n_samples : int
    advice : str
        Of the analysis, at the state before the stage: given or withheld.
    weights : dict
        What was trained on.
    state : dict
        At the stage's beginning.
    shift : dict
        How far the stage moved it.
    outcome : float
        outcome.avg_dev after the stage.
    """

    run_id: str
    n_samples: int
    advice: str
    weights: dict[str, float]
    state: dict[str, float]
    shift: dict[str, float]
    outcome: float


@dataclass
class StagesResult:
    """All stages; ``stages.json`` holds them."""

    folder: Path
    stages: list[StageResult] = field(default_factory=list)


def run_stages(plain: Plain, answer: Callable[[dict[str, Any]], Any]) -> StagesResult:
    """Train in stages; typed again, it goes on where it stopped.

    Parameters
    ----------
    plain : dict
        Resolved config with a ``stages`` section and ``runs``, the table of the fit.
    answer : callable
        ``answer(settings)`` analyses and writes ``mixture.json`` into ``settings['output_dir']``; equal settings
        but for the target share one fit.

    Returns
    -------
    StagesResult
        Also written to ``<outputs>/stages/<name>/stages.json``.

    Raises
    ------
    ConfigError
        Without ``runs``, or with fewer documents than stages.
    """
    check_stages(plain)
    plain, wanted = copy.deepcopy(plain), plain["stages"]
    candidate = plain["pool"]["candidate"]
    if candidate["kind"] == "tilted" and candidate["seed"] is None:  # drawn anew for each run: it has no one state
        candidate["kind"] = "all"
    result = StagesResult(Path(plain["outputs"]) / "stages" / wanted["name"])
    inputs = Inputs(Path(plain["outputs"]))
    target = read_json(measure_target(plain, inputs))
    model_dir: Path | None = None
    for at, n_samples in enumerate(split_evenly(plain["train"]["n_samples"], wanted["n_stages"])):
        state_file = result.folder / f"state-{at}.json"
        write_json(state_file, target)
        mixture = _ask(plain, answer, state_file, n_samples, result.folder / f"answer-{at}")
        weights = mixture["candidate" if plain["mixture"]["use_candidate"] else "weights"]
        point = make_stage(plain, at, n_samples, weights, model_dir)
        run_id = identify(point, inputs).run_id
        run_dir = run_sweep([point], swept=SWEPT, inputs=inputs, must_wait=True).run_dir(run_id)
        record = read_record(run_dir)
        assert record is not None, "run_sweep returns only when every run is complete"
        shift = {name.removeprefix(SHIFT): v for name, v in record.row.items() if name.startswith(SHIFT)}
        outcome = float(record.row["outcome.avg_dev"])
        result.stages.append(
            StageResult(run_id, n_samples, mixture["advice"], weights, dict(target["state"]), shift, outcome)
        )
        say(f"stage {at}: {describe_stage(result.stages[-1])}")
        if wanted["rescore"]:
            target["state"] = move_state(target["state"], shift)
            target.pop("quantiles", None)  # of the state before; the shift is one of means
        model_dir = (run_dir / MODEL).resolve()
    facts = {"rescore": wanted["rescore"], "runs": plain["runs"], "stages": [asdict(stage) for stage in result.stages]}
    write_json(result.folder / "stages.json", facts)
    say(f"stages: {result.folder / 'stages.json'}; the model: {model_dir}")
    return result


def check_stages(plain: Plain) -> None:
    """Refuse what stages cannot do, before a pool is prepared.

    Raises
    ------
    ConfigError
    """
    check_settings(plain)
    n_samples, n_stages = plain["train"]["n_samples"], plain["stages"]["n_stages"]
    wrong = []
    if not plain["runs"]:
        wrong.append("job=stages needs runs=SWEEP-or-table: the runs that the policy is fitted on")
    if n_samples < n_stages:
        wrong.append(f"train.n_samples={n_samples} cannot be split into stages.n_stages={n_stages}")
    if plain["plan"]:
        wrong.append("plan=true with job=stages: a plan is of one sweep, and each stage hangs on the one before")
    if wrong:
        raise ConfigError("; ".join(wrong))


def make_stage(plain: Plain, at: int, n_samples: int, weights: dict[str, float], model_dir: Path | None) -> Plain:
    """Make the config of one stage: the mixture as numbers, the model of the stage before, other documents."""
    changed = copy.deepcopy(plain)
    changed["mixture"].update(name="fixed", kind="fixed", weights=weights, file=None)
    changed["train"].update(n_samples=n_samples, rescored_documents=plain["stages"]["n_documents"])
    if model_dir is not None:
        changed["model"].update(source="pretrained", path=str(model_dir), revision=None)
    # The seed keeps the candidate pool; the replicate moves on the draw of documents and their order.
    return change(changed, replicate=at, cohort="stage")


def move_state(state: dict[str, float], shift: dict[str, float]) -> dict[str, float]:
    """Move a state by what a stage did to it; scores that no language model makes stay."""
    return {name: value + shift.get(name, 0.0) for name, value in state.items()}


def split_evenly(total: int, parts: int) -> list[int]:
    """Split a number of documents into parts that differ by one at most."""
    return [total * (at + 1) // parts - total * at // parts for at in range(parts)]


def describe_stage(stage: StageResult) -> str:
    """Say what a stage trained on, what came of it, and how far the state moved."""
    shares = ", ".join(f"{name} {share:.3f}" for name, share in stage.weights.items())
    moved = ", ".join(f"{name} {value:+.2f}" for name, value in stage.shift.items() if "." not in name)
    return (
        f"{stage.n_samples} documents, advice {stage.advice}: {shares}; outcome.avg_dev {stage.outcome:.3f}; "
        f"the state moved by {moved} sd"
    )


def _ask(
    plain: Plain, answer: Callable[[dict[str, Any]], Any], state_file: Path, n_samples: int, folder: Path
) -> dict[str, Any]:
    answer(
        {
            "runs": plain["runs"],
            "estimator": plain["estimator"],
            "policy": plain["policy"],
            "output_dir": str(folder),
            "target": {
                **plain["target"],
                "state_file": str(state_file),
                "n_samples": n_samples,
                "repeats_max": plain["mixture"]["repeats_max"],
            },
        }
    )
    mixture: dict[str, Any] = read_json(folder / "mixture.json")
    return mixture
