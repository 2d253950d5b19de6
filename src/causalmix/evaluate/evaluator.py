"""The evaluator of a worker: tasks built once, any number of models scored.

lm-eval runs the tasks and makes the metrics; this module builds its tasks offline, hands it a fast model and
turns its results into outcomes.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from causalmix.config import EvaluateConfig
from causalmix.errors import EvaluateError, name_some, nearest_name
from causalmix.evaluate.code_tasks import HINT, check_sandboxed, refused_metric, sandboxed_metric
from causalmix.evaluate.heldout import read_heldout
from causalmix.evaluate.likelihood import AnswerLM, LikelihoodLM
from causalmix.evaluate.outcomes import TaskScore, average_outcomes
from causalmix.evaluate.packages import describe_lacking, find_lacking
from causalmix.evaluate.scores import score_answers, score_stock
from causalmix.evaluate.warm import keep_requests
from causalmix.files import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TEMPLATE = Path(__file__).parent / "tasks" / "answer.yaml"
TASK_NAME = re.compile(r"\w[\w.+-]*")
Loaded = dict[str, Any]  # what TaskManager.load gives: tasks, groups, group_map


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation says.

    Attributes
    ----------
    outcomes : dict
        Flat columns of the runs table, see :func:`~causalmix.evaluate.outcomes.average_outcomes`.
    scores : dict
        Task -> its score, with every document.
    n_truncated : int
        Requests that did not fit into ``evaluate.max_length``.
    """

    outcomes: dict[str, float]
    scores: dict[str, TaskScore]
    n_truncated: int


class Evaluator:
    """Scores models on one set of tasks; build it once a process and reuse it.

    Parameters
    ----------
    cfg : EvaluateConfig
        ``source=pool`` reads the held-out file; ``source=lm_eval`` takes lm-eval's own tasks and those of
        ``include_path``.
    tokenizer : PreTrainedTokenizerFast
        With a chat template where ``source=pool``.
    heldout_path : Path or None
        JSON lines, see :func:`~causalmix.evaluate.heldout.read_heldout`.

    Raises
    ------
    EvaluateError
        For no tasks, a task named twice, one that is not in the held-out file or not known to lm-eval,
        or one that runs code written by the model where ``allow_code_execution`` is not set.
    """

    def __init__(self, cfg: EvaluateConfig, tokenizer: PreTrainedTokenizerFast, heldout_path: Path | None) -> None:
        self.dev = {ability: list(tasks) for ability, tasks in cfg.dev.items()}
        self.unseen = {ability: list(tasks) for ability, tasks in cfg.unseen.items()}
        self.tasks = list_tasks(self.dev, self.unseen)
        self.is_local = cfg.source == "pool"
        self.limit = cfg.limit
        self.allows_code = cfg.allow_code_execution
        kind = AnswerLM if self.is_local else LikelihoodLM
        self.lm = kind(tokenizer, max_length=cfg.max_length, batch_size=cfg.batch_size)
        with quiet_lm_eval():
            if cfg.source == "pool":
                self.loaded = load_local_tasks(self.tasks, heldout_path, cfg.limit)
            elif cfg.source == "lm_eval":
                self.loaded = load_stock_tasks(self.tasks, cfg.include_path, cfg.allow_code_execution)
            else:
                raise EvaluateError(f"evaluate.source={cfg.source!r} is not one of pool, lm_eval.")
        for task in self.loaded["tasks"].values():
            keep_requests(task)

    def evaluate(self, model: PreTrainedModel, output_dir: Path | None = None) -> Evaluation:
        """Score one model.

        Parameters
        ----------
        model : PreTrainedModel
            On any device; its training mode is left as it was.
        output_dir : Path, optional
            Gets one ``<task>.json`` a task, each written atomically.

        Returns
        -------
        Evaluation

        Raises
        ------
        EvaluateError
            For a model with fewer positions than ``max_length``, or a score that is not a number.
        """
        positions = getattr(model.config, "max_position_embeddings", self.lm.max_length)
        if positions < self.lm.max_length:
            raise EvaluateError(
                f"evaluate.max_length={self.lm.max_length} is more than the model's {positions} positions."
            )
        was_training = model.training
        self.lm.model = model.eval()
        try:
            with quiet_lm_eval():
                results = evaluate(
                    self.lm,
                    self.loaded,
                    limit=None if self.is_local else self.limit,
                    bootstrap_iters=0,
                    log_samples=False,
                    apply_chat_template=self.is_local,
                    confirm_run_unsafe_code=self.allows_code,
                )
        finally:
            self.lm.model = None
            model.train(was_training)
        scores = {task: self._score(task, results["results"]) for task in self.tasks}
        outcomes = average_outcomes(scores, self.dev, self.unseen)
        if output_dir is not None:
            for task, score in scores.items():
                write_json(output_dir / f"{task}.json", {"task": task, **asdict(score)})
        return Evaluation(outcomes, scores, self.lm.n_truncated)

    def _score(self, name: str, results: dict[str, Any]) -> TaskScore:
        if self.is_local:
            return score_answers(self.loaded["tasks"][name], results[name])
        return score_stock(name, list_leaves(self.loaded, name), results[name])


def list_tasks(dev: dict[str, list[str]], unseen: dict[str, list[str]]) -> list[str]:
    """List the tasks of both splits.

    Raises
    ------
    EvaluateError
        For no dev task, an ability without tasks, or a task named twice.
    """
    empty = [ability for split in (dev, unseen) for ability, tasks in split.items() if not tasks]
    tasks = [task for split in (dev, unseen) for names in split.values() for task in names]
    twice = sorted({task for task in tasks if tasks.count(task) > 1})
    unsafe = [task for task in tasks if not TASK_NAME.fullmatch(task)]
    if unsafe:
        raise EvaluateError(
            f"Task names become file names: {name_some(unsafe)} may hold letters, digits and _ . + - only."
        )
    if not dev or empty or twice:
        raise EvaluateError(
            f"evaluate.dev needs at least one ability (it has {len(dev)}), every ability a task (without: "
            f"{name_some(empty) or 'none'}), and no task may stand there twice (those that do: "
            f"{name_some(twice) or 'none'})."
        )
    return tasks


def load_local_tasks(tasks: list[str], heldout_path: Path | None, limit: int | None) -> Loaded:
    """Build lm-eval tasks over a held-out file, from the packaged template.

    Raises
    ------
    EvaluateError
        For a file that is missing or damaged, or one without some of the tasks.
    """
    if heldout_path is None:
        raise EvaluateError("This pool has no held-out file: set pool.heldout_path and prepare the pool again.")
    path = Path(heldout_path).resolve()
    known = read_heldout(path)
    missing = [f"{task}{nearest_name(task, known)}" for task in tasks if task not in known]
    if missing:
        raise EvaluateError(
            f"{path} has no document for the tasks {name_some(missing)}; it has {name_some(known, 30)}. "
            "Change evaluate.dev and evaluate.unseen, or choose another evaluate=."
        )
    with tempfile.TemporaryDirectory(prefix="causalmix-tasks-") as folder:
        for task in tasks:
            where = {"path": str(path), "task": task, "limit": limit}
            content = {"include": str(TEMPLATE), "task": task, "dataset_kwargs": where}
            (Path(folder) / f"{task}.yaml").write_text(yaml.safe_dump(content))
        manager = TaskManager(include_path=folder, include_defaults=False)
        loaded: Loaded = manager.load(list(tasks))
    return loaded


def load_stock_tasks(tasks: list[str], include_path: str | None, allows_code: bool = False) -> Loaded:
    """Load lm-eval's own tasks, and those of a folder of the user's.

    Raises
    ------
    EvaluateError
        For names that lm-eval does not know, tasks whose packages are not installed, or tasks that run code written by
        the model where that is not allowed or would not be in the sandbox.
    """
    # lm-eval's own index takes many seconds to build: only where the user's folder does not have it all.
    manager = TaskManager(include_path=include_path, include_defaults=False)
    if not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=include_path, include_defaults=True)
    unknown = [f"{task}{nearest_name(task, manager.all_tasks)}" for task in tasks if task not in manager.all_tasks]
    if unknown:
        raise EvaluateError(
            f"lm-eval has no task {name_some(unknown)}. `lm-eval ls tasks` lists its tasks; "
            "evaluate.include_path=... names a folder of further ones."
        )
    lacking = find_lacking(tasks, include_path)
    if lacking:
        raise EvaluateError(f"{describe_lacking(lacking)}.")
    try:
        with sandboxed_metric() if allows_code else refused_metric():
            loaded: Loaded = manager.load(list(tasks))
    except ModuleNotFoundError as error:
        raise EvaluateError(
            f"One of the tasks {name_some(tasks)} needs the Python package {error.name}: pip install it, or take the "
            "task out of evaluate.dev and evaluate.unseen."
        ) from error
    unsafe = {name: task for name, task in loaded["tasks"].items() if getattr(task, "UNSAFE_CODE", False)}
    if allows_code:
        check_sandboxed(unsafe)
    elif unsafe:
        raise EvaluateError(f"The tasks {name_some(list(unsafe))} run code that a model has written: {HINT}")
    return loaded


def list_leaves(loaded: Loaded, name: str) -> list[Any]:
    """List the tasks of a group, or the one task of that name."""
    if name in loaded["groups"]:
        return list(loaded["groups"][name].get_all_tasks())
    return [loaded["tasks"][name]]


@contextmanager
def quiet_lm_eval() -> Iterator[None]:
    """Keep lm-eval's notes of every single task out of the log; its errors stay."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
