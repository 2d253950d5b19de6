"""Scores out of lm-eval: of the local tasks, and of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from lm_eval.api.instance import Instance

from causalmix.errors import EvaluateError
from causalmix.evaluate.outcomes import TaskScore, score_bits

LIKELIHOOD = ("loglikelihood", "multiple_choice")


def score_answers(task: Any, results: dict[str, Any]) -> TaskScore:
    """Score a local task from lm-eval's results; bits and bytes of each document from its responses.

    Parameters
    ----------
    task : AnswerTask
        After an evaluation.
    results : dict
        lm-eval's metrics of this task.
    """
    documents = [describe_response(instance, instance.doc["id"]) for instance in task.instances]
    bits_per_byte = float(results["bits_per_byte,none"])
    return TaskScore(
        score=score_bits(bits_per_byte),
        bits_per_byte=bits_per_byte,
        accuracy=float(results["accuracy,none"]),
        n_documents=len(documents),
        n_bytes=sum(document["n_bytes"] for document in documents),
        documents=documents,
    )


def score_stock(name: str, leaves: list[Any], results: dict[str, Any]) -> TaskScore:
    """Score one of lm-eval's own tasks or groups.

    Likelihood tasks score the correct answers' bits per byte over all their parts; other tasks
    lm-eval's first metric, in points.

    Parameters
    ----------
    name : str
        For messages.
    leaves : list of Task
        The task, or all tasks of the group.
    results : dict
        lm-eval's metrics under ``name``.

    Raises
    ------
    EvaluateError
        Where the task has no metric, or its correct answers cannot be told.
    """
    n_documents = sum(len({instance.doc_id for instance in leaf.instances}) for leaf in leaves)
    if not all(leaf.OUTPUT_TYPE in LIKELIHOOD for leaf in leaves):
        value = _first_metric(name, results)
        return TaskScore(100 * value, None, value, n_documents, 0, [])
    documents = [
        describe_response(gold, f"{leaf.task_name}/{gold.doc_id}") for leaf in leaves for gold in find_gold(leaf)
    ]
    n_bytes = sum(document["n_bytes"] for document in documents)
    bits_per_byte = math.fsum(document["bits"] for document in documents) / n_bytes
    accuracy = next((float(results[key]) for key in ("acc,none", "accuracy,none") if key in results), None)
    return TaskScore(score_bits(bits_per_byte), bits_per_byte, accuracy, n_documents, n_bytes, documents)


def describe_response(instance: Instance, name: str) -> dict[str, Any]:
    """Read one likelihood response: bits and UTF-8 bytes of the continuation, and whether it is greedy."""
    log_likelihood, is_greedy = instance.resps[0]
    n_bytes = len(instance.args[1].encode())
    return {
        "id": name,
        "bits": -log_likelihood / math.log(2),
        "n_bytes": n_bytes,
        "is_greedy": bool(is_greedy),
    }


def find_gold(task: Any) -> Iterable[Instance]:
    """Find the request of each document that holds its correct answer.

    Raises
    ------
    EvaluateError
        Where a document's target is none of its choices.
    """
    requests: dict[int, list[Instance]] = {}
    for instance in task.instances:
        requests.setdefault(instance.doc_id, []).append(instance)
    for instances in requests.values():
        if task.OUTPUT_TYPE == "loglikelihood":
            yield instances[0]
            continue
        document = instances[0].doc
        target = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
        target = target[0] if isinstance(target, list) else target
        choices = task.doc_to_choice(document)
        at = choices.index(target) if isinstance(target, str) and target in choices else target
        if not isinstance(at, int) or not 0 <= at < len(instances):
            raise EvaluateError(f"Task {task.task_name}: the target {target!r} is none of the choices {choices}.")
        yield instances[at]


def _first_metric(name: str, results: dict[str, Any]) -> float:
    for key, value in results.items():
        if "," in key and "_stderr" not in key and isinstance(value, (int, float)):
            return float(value)
    raise EvaluateError(f"lm-eval gives no metric for task {name}: {results}.")
